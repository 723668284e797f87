"""Identifiers sort as they were made (RFC 9562, 6.2, method 3)."""

from datetime import UTC, datetime, timedelta

import time_machine

from plyrum.ids import first_of, uuid7

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_ids_of_one_millisecond_sort_as_they_were_made() -> None:
    made = []
    with time_machine.travel(MOMENT, tick=False) as clock:
        for _ in range(999):
            made.append(uuid7())
            clock.shift(timedelta(microseconds=1))

    assert len({each.int >> 80 for each in made}) == 1
    assert made == sorted(made)


def test_id_says_its_version_and_its_moment() -> None:
    with time_machine.travel(MOMENT, tick=False):
        made = uuid7()

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert first_of(MOMENT) <= made < first_of(MOMENT + timedelta(milliseconds=1))


def test_ids_of_one_moment_differ() -> None:
    with time_machine.travel(MOMENT, tick=False):
        made = {uuid7() for _ in range(1000)}

    assert len(made) == 1000
