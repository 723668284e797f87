"""Amounts at the edges: exact parsing of what people and providers write. Inside there are only integers."""

import re
from decimal import Decimal

from billing.shapes import MICRO_PER_KOPECK, MICRO_PER_RUB

_RUB_TEXT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_UNIT_TEXT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def from_rub(roubles: int) -> int:
    """Whole roubles to micro-RUB."""
    return roubles * MICRO_PER_RUB


def from_provider(text: str) -> int:
    """A provider's decimal string ("1500.00") to micro-RUB. Raises ValueError for anything else."""
    if not _RUB_TEXT.fullmatch(text):
        raise ValueError("not an amount in roubles and kopecks")
    return int(Decimal(text) * MICRO_PER_RUB)


def from_person(text: str) -> int:
    """What people type ("1 500,50") to micro-RUB. Raises ValueError for anything else."""
    return from_provider("".join(text.split()).replace(",", "."))


def to_provider(micro_rub: int) -> str:
    """Micro-RUB to the provider's form. Raises ValueError when it is not whole kopecks."""
    kopecks, rest = divmod(micro_rub, MICRO_PER_KOPECK)
    if rest or micro_rub < 0:
        raise ValueError("providers take whole kopecks only")
    return f"{kopecks // 100}.{kopecks % 100:02d}"


def micro_units(text: str) -> int:
    """A decimal string of a currency unit ("2.50") to millionths. Raises ValueError for anything else."""
    if not isinstance(text, str) or not _UNIT_TEXT.fullmatch(text):
        raise ValueError(f"{text} is not a price in millionths of a currency unit")
    return int(Decimal(text) * 1_000_000)
