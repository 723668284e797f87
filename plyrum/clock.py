"""The clock, read at the doors only; domain code gets `now` as an argument. Tests move it."""

import time
from datetime import UTC, date, datetime
from datetime import time as time_of_day

from django.utils import timezone


def now() -> datetime:
    return datetime.now(UTC)


def start_of(day: date) -> datetime:
    """The first moment of a day of Moscow (the zone of the money pages)."""
    return timezone.make_aware(datetime.combine(day, time_of_day.min), timezone.get_default_timezone())


def day_of(moment: datetime) -> date:
    """The day of Moscow that `moment` falls into."""
    return timezone.localdate(moment, timezone.get_default_timezone())


def rfc3339(moment: datetime) -> str:
    """UTC with `Z` and microseconds, the form of every time in the API."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_second: tuple[int, str] = (0, "")


def rfc3339_now() -> bytes:
    """Now in the form of `rfc3339`, made for frames: the whole second is formatted once, not per frame."""
    global _second
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    if seconds != _second[0]:
        _second = (seconds, datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    return b"%b.%06dZ" % (_second[1].encode(), nanoseconds // 1000)
