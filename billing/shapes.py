"""Plain values of billing: what goes into the ledger's functions and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import NewType
from uuid import UUID

MicroRub = NewType("MicroRub", int)

# A hundred million roubles: whoever types more for a limit or an alert has slipped.
MOST_MICRO_RUB = 10**14
MICRO_PER_RUB = 1_000_000
MICRO_PER_KOPECK = 10_000


@dataclass(frozen=True)
class LotView:
    kind: str
    remaining_micro_rub: int
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Balance:
    """`balance` is spendable now, `total` includes what running requests hold (`reserved`)."""

    balance_micro_rub: int
    total_micro_rub: int
    reserved_micro_rub: int
    unlimited: bool
    lots: tuple[LotView, ...]


@dataclass(frozen=True)
class Credited:
    """The answer to a credit: `is_new` is False when the key was seen before with the same content."""

    entry_id: UUID
    is_new: bool
    balance_after_micro_rub: int


@dataclass(frozen=True)
class ChargedBack:
    """What a disputed payment took back: from the wallet, and as a debt that the next inflow repays."""

    is_new: bool
    covered_micro_rub: int
    owed_micro_rub: int


@dataclass(frozen=True)
class Debited:
    """The answer to a debit: `taken_micro_rub` is less than asked only for a partial one."""

    entry_id: UUID
    is_new: bool
    taken_micro_rub: int
    balance_after_micro_rub: int


@dataclass(frozen=True)
class DailyRates:
    """A list of official rates: the day it was set for, micro-RUB for one unit by currency."""

    set_on: date
    micro_rub: Mapping[str, int]
