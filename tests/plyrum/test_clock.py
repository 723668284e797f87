"""Times are UTC with `Z` and microseconds, whichever zone they come in."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
import time_machine

from plyrum import clock


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=3))), "2025-12-31T23:00:00.000000Z"),
        (datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC), "2026-12-31T23:59:59.999999Z"),
    ],
)
def test_moment_is_written_in_utc(moment: datetime, text: str) -> None:
    assert clock.rfc3339(moment) == text


def test_now_has_a_zone() -> None:
    assert clock.now().tzinfo is UTC


def test_time_of_a_frame_is_written_as_every_other() -> None:
    before = clock.rfc3339(clock.now())
    written = clock.rfc3339_now().decode()
    after = clock.rfc3339(clock.now())

    assert before <= written <= after
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", written)


def test_time_of_a_frame_follows_the_second() -> None:
    with time_machine.travel(datetime(2026, 1, 2, 3, 4, 59, 999_998, UTC), tick=False) as traveller:
        first = clock.rfc3339_now()
        traveller.shift(timedelta(microseconds=4))
        second = clock.rfc3339_now()

    assert (first, second) == (b"2026-01-02T03:04:59.999998Z", b"2026-01-02T03:05:00.000002Z")
