"""Pure arithmetic of periods: where each begins and ends, and the part of a sum that belongs to its rest.

A boundary is computed from the anchor each time, never from the boundary before: a month of 28 days would
otherwise pull all later ones with it. Source: ledger guide, section 14.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Moscow")  # the zone in which our customers are billed
_TICK = timedelta(microseconds=1)


def boundary(anchor: datetime, months: int) -> datetime:
    """The moment `months` after `anchor`: the same wall time in Moscow, the day clamped to its month. UTC."""
    local = anchor.astimezone(ZONE)
    years, month = divmod(local.month - 1 + months, 12)
    year = local.year + years
    day = min(local.day, monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day).astimezone(UTC)


def months_until(anchor: datetime, length_months: int, at: datetime, *, first: int = 0) -> int:
    """Months from `anchor` to the start of the period that `at` falls into, from `first` on."""
    months = first
    while boundary(anchor, months + length_months) <= at:
        months += length_months
    return months


def rest_of(amount: int, *, begins: datetime, ends: datetime, at: datetime) -> int:
    """The part of `amount` for the time from `at` to `ends`, floored; what was used is `amount` minus it."""
    whole = (ends - begins) // _TICK
    left = max(0, (ends - max(at, begins)) // _TICK)
    return amount * left // whole
