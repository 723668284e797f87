"""Identifiers sort by the time they were made and never meet."""

import time
from uuid import RFC_4122

from plyrum.ids import uuid7


def test_version_and_variant_are_those_of_the_standard() -> None:
    for _ in range(1000):
        made = uuid7()
        assert (made.version, made.variant) == (7, RFC_4122)


def test_first_bits_are_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after


def test_later_ids_sort_later() -> None:
    made = []
    for _ in range(5):
        made.append(uuid7())
        time.sleep(0.002)

    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)


def test_ids_of_one_moment_differ() -> None:
    assert len({uuid7() for _ in range(20_000)}) == 20_000
