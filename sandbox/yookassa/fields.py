"""Small checks of JSON fields: each takes a value and its dotted path, and answers the value or raises
ApiError.

Called by `requests` and `receipts`. Knows nothing about payments.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from sandbox.yookassa.errors import invalid
from sandbox.yookassa.shapes import Json

AMOUNT = re.compile(r"\d{1,12}\.\d{2}", re.ASCII)
MAX_URL = 2048
METADATA_PAIRS = 16
METADATA_KEY = 32
METADATA_VALUE = 512


def an_object(value: Any, path: str) -> Json:
    if not isinstance(value, dict):
        raise invalid(f"{path} must be an object", path)
    return value


def only(value: Json, allowed: frozenset[str], path: str = "") -> None:
    """Refuse fields that the contract does not name."""
    for name in value:
        if name not in allowed:
            where = f"{path}.{name}" if path else name
            raise invalid(f"Unknown parameter: {where}", where)


def required(value: Json, name: str, path: str = "") -> Any:
    where = f"{path}.{name}" if path else name
    if name not in value or value[name] is None:
        raise invalid(f"{where} is required", where)
    return value[name]


def text(value: Any, path: str, *, longest: int, shortest: int = 0) -> str:
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise invalid(f"{path} must be a string of {shortest}..{longest} characters", path)
    return value


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{path} must be true or false", path)
    return value


def one_of(value: Any, allowed: frozenset[str], path: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise invalid(f"{path} has an unknown value", path)
    return value


def whole(value: Any, path: str, *, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise invalid(f"{path} must be a whole number {lowest}..{highest}", path)
    return value


def kopecks(value: Any, path: str) -> int:
    """Read `{"value": "1500.00", "currency": "RUB"}`; only digits, a dot and two decimals."""
    amount = an_object(value, path)
    only(amount, frozenset({"value", "currency"}), path)
    written = required(amount, "value", path)
    if not isinstance(written, str) or not AMOUNT.fullmatch(written):
        raise invalid(f"{path}.value must look like 1500.00", f"{path}.value")
    if required(amount, "currency", path) != "RUB":
        raise invalid(f"{path}.currency is not supported by the shop", f"{path}.currency")
    roubles, _, rest = written.partition(".")
    return int(roubles) * 100 + int(rest)


def address(value: Any, path: str) -> str:
    """Read an absolute http(s) address of at most 2048 characters."""
    url = text(value, path, longest=MAX_URL, shortest=1)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise invalid(f"{path} is not a valid address", path) from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise invalid(f"{path} must be an absolute http(s) address", path)
    return url


def metadata(value: Any) -> dict[str, str]:
    """Read at most 16 pairs of strings: key up to 32, value up to 512 characters."""
    pairs = an_object(value, "metadata")
    if len(pairs) > METADATA_PAIRS:
        raise invalid("metadata holds at most 16 pairs", "metadata")
    for key, item in pairs.items():
        if not 1 <= len(key) <= METADATA_KEY:
            raise invalid("metadata keys have 1..32 characters", "metadata")
        text(item, f"metadata.{key}", longest=METADATA_VALUE)
    return pairs
