"""Periods are counted from their anchor, on the calendar of Moscow, and parts of a sum make it exactly."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from plans import periods


def moscow(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=periods.ZONE)


def days(anchor: str, count: int, *, length: int = 1) -> list[str]:
    start = moscow(anchor)
    found = [periods.boundary(start, n * length).astimezone(periods.ZONE) for n in range(count + 1)]
    assert {moment.time() for moment in found} == {start.time()}
    return [f"{moment:%Y-%m-%d}" for moment in found]


def test_day_is_clamped_to_its_month_and_comes_back() -> None:
    found = days("2026-12-31T18:30:00", 14)

    assert [day[-5:] for day in found] == [
        "12-31", "01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31",
        "11-30", "12-31", "01-31", "02-29",
    ]  # fmt: skip
    assert found[-1].startswith("2028")


@pytest.mark.parametrize(
    ("anchor", "length", "expected"),
    [
        ("2028-02-29T00:00:00", 12, ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        (
            "2026-01-31T23:59:59.999999",
            3,
            ["2026-01-31", "2026-04-30", "2026-07-31", "2026-10-31", "2027-01-31"],
        ),
        ("2026-11-15T12:00:00", 1, ["2026-11-15", "2026-12-15", "2027-01-15", "2027-02-15", "2027-03-15"]),
    ],
)
def test_leap_days_and_longer_periods(anchor: str, length: int, expected: list[str]) -> None:
    assert days(anchor, 4, length=length) == expected


def test_day_is_that_of_moscow_and_not_of_utc() -> None:
    """31 January in Moscow is still the 30th in London; the month after ends with Moscow's day."""
    anchor = datetime(2027, 1, 30, 21, 30, tzinfo=UTC)

    assert periods.boundary(anchor, 1) == datetime(2027, 2, 27, 21, 30, tzinfo=UTC)
    assert periods.boundary(anchor, 2) == datetime(2027, 3, 30, 21, 30, tzinfo=UTC)


def test_period_of_a_moment_begins_at_its_first_instant() -> None:
    anchor = moscow("2026-12-31T18:30:00")
    third = periods.boundary(anchor, 2)

    assert periods.months_until(anchor, 1, third - timedelta(microseconds=1)) == 1
    assert periods.months_until(anchor, 1, third) == 2
    assert periods.months_until(anchor, 1, anchor, first=3) == 3


def test_rest_and_use_make_the_price_and_an_upgrade_loses_nothing() -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    begins = moscow("2026-01-31T10:00:00")
    ends = periods.boundary(begins, 1)
    for _ in range(2000):
        at = begins + (ends - begins) * chance.random()
        price = chance.randint(1, 10**12)
        rest = periods.rest_of(price, begins=begins, ends=ends, at=at)
        exact = (
            price * ((ends - at) / timedelta(microseconds=1)) / ((ends - begins) / timedelta(microseconds=1))
        )
        assert 0 <= rest <= price
        assert abs(exact - rest) < 2
        assert periods.rest_of(price + 1, begins=begins, ends=ends, at=at) >= rest
    assert periods.rest_of(300, begins=begins, ends=ends, at=begins - timedelta(days=1)) == 300
    assert periods.rest_of(300, begins=begins, ends=ends, at=ends) == 0
