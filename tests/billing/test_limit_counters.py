"""Limits on spending are counted where the money is reserved: windows, settlement, refusals, rebuilding."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from auditlog.actors import Actor
from billing import ledger, limits, policies, verification
from billing.limit_models import Window
from billing.models import LimitCounter
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

EVENING = datetime(2031, 1, 31, 20, 59, 59, tzinfo=UTC)  # 23:59:59 in Moscow, the last of a month


def counted(subject: str) -> list[tuple[str, int, int]]:
    """(window, spent, reserved) of each counter, the oldest first."""
    rows = LimitCounter.objects.filter(subject=subject).order_by("window", "window_start")
    return [(row.window, row.spent_micro_rub, row.reserved_micro_rub) for row in rows]


@pytest.fixture
def subject() -> str:
    return f"user:{uuid7()}"


def test_hold_is_counted_and_its_capture_is_spent(subject: str) -> None:
    customer = books.funded(100)
    limits = [books.limit(subject, 60, window) for window in ("hour", "day", "month")]

    hold = books.held(customer, 40, limits=limits)
    assert counted(subject) == [("day", 0, 40), ("hour", 0, 40), ("month", 0, 40)]
    books.settle(customer, hold, 25)

    assert counted(subject) == [("day", 25, 0), ("hour", 25, 0), ("month", 25, 0)]
    assert verification.examine(only=["V29"]).is_clean


def test_what_passes_a_limit_is_refused_and_nothing_is_counted_or_held(subject: str) -> None:
    customer = books.funded(100)
    wide, narrow = books.limit(subject, 1000, "month"), books.limit(subject, 50)
    books.held(customer, 30, limits=[wide, narrow])

    answer = books.hold(customer, 21, limits=[wide, narrow])

    assert (answer["outcome"], answer["held"], answer["limit_place"]) == ("limit_exceeded", 0, 1)
    assert counted(subject) == [("day", 0, 30), ("month", 0, 30)]
    assert books.reserved(customer) == [30]
    assert books.hold(customer, 20, limits=[wide, narrow])["outcome"] == "held"  # to the last micro-rouble


def test_limit_smaller_than_the_first_hold_counts_nothing(subject: str) -> None:
    customer = books.funded(100)

    answer = books.hold(customer, 51, limits=[books.limit(subject, 50)])

    assert (answer["outcome"], answer["limit_place"]) == ("limit_exceeded", 0)
    assert counted(subject) == [("day", 0, 0)]
    assert books.hold(customer, 51)["outcome"] == "held"  # a limit is an answer, not a flag that stays


def test_counter_remembers_at_which_limit_it_refused_and_nothing_else(subject: str) -> None:
    customer = books.funded(100)
    wide, narrow = books.limit(subject, 1000, "month"), books.limit(subject, 50)
    rows = LimitCounter.objects.filter(subject=subject).values_list("window", "refused_limit_micro_rub")

    answers = ledger.hold([books.hold_step(customer, 51, limits=[wide, narrow]) for _ in range(2)])
    assert [answer["outcome"] for answer in answers] == ["limit_exceeded"] * 2
    assert dict(rows.all()) == {"day": 50, "month": None}
    (before,) = xmin_of(subject, "day")
    books.hold(customer, 51, limits=[wide, narrow])
    assert xmin_of(subject, "day") == [before]  # the same refusal again writes nothing
    books.hold(customer, 61, limits=[wide, books.limit(subject, 60)])

    assert dict(rows.all()) == {"day": 60, "month": None}
    assert counted(subject) == [("day", 0, 0), ("month", 0, 0)]
    assert verification.examine(only=["V29"]).is_clean


def xmin_of(subject: str, window: str) -> list[int]:
    """The transaction that wrote the counter."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT xmin::text::bigint FROM billing_limitcounter WHERE subject = %s AND "window" = %s',
            [subject, window],
        )
        return [xmin for (xmin,) in cursor.fetchall()]


def test_short_money_is_told_before_a_limit_and_is_not_counted(subject: str) -> None:
    customer = books.funded(10)

    answer = books.hold(customer, 11, limits=[books.limit(subject, 50)])

    assert answer["outcome"] == "insufficient_balance"
    assert counted(subject) == []


def test_soft_hold_counts_what_it_holds(subject: str) -> None:
    customer = books.funded(10)

    assert books.hold(customer, 50, soft=True, limits=[books.limit(subject, 20)])["held"] == 10
    assert counted(subject) == [("day", 0, 10)]


def test_repeat_is_not_counted_again(subject: str) -> None:
    customer, hold_id, limits = books.funded(100), uuid7(), [books.limit(subject, 50)]

    outcomes = [
        books.hold(customer, amount, hold_id=hold_id, limits=limits)["outcome"] for amount in (50, 50, 49)
    ]

    assert outcomes == ["held", "replayed", "mismatch"]
    assert counted(subject) == [("day", 0, 50)]


@pytest.mark.parametrize("amount", [0, 30], ids=["released", "captured"])
@pytest.mark.parametrize("count", [1, 3])
def test_settlements_leave_the_counters(subject: str, amount: int, count: int) -> None:
    customers = [books.funded(100) for _ in range(count)]
    holds = [(c, books.held(c, 30, limits=[books.limit(subject, 90)])) for c in customers]

    answers = ledger.settle([books.settle_step(customer, hold, amount) for customer, hold in holds])

    assert [answer["outcome"] for answer in answers] == ["done"] * count
    assert counted(subject) == [("day", count * amount, 0)]


def test_limits_hold_within_one_batch_too(subject: str) -> None:
    customers = [books.funded(100) for _ in range(4)]
    limits = [books.limit(subject, 50)]
    steps = [books.hold_step(customer, 20, limits=limits) for customer in customers]

    answers = ledger.hold([*steps, books.hold_step(customers[0], 5)])

    assert [a["outcome"] for a in answers] == ["held", "held", "limit_exceeded", "limit_exceeded", "held"]
    assert counted(subject) == [("day", 0, 40)]


def test_hold_that_ran_out_leaves_its_counters(clock: LedgerClock, subject: str) -> None:
    customer = books.funded(100)
    books.held(customer, 30, ttl_seconds=0, limits=[books.limit(subject, 90)])

    books.expire_holds()

    assert counted(subject) == [("day", 0, 0)]
    clock.run_on()


def test_windows_begin_in_moscow_and_a_hold_stays_in_its_own(clock: LedgerClock, subject: str) -> None:
    customer = books.funded(1000)
    limits = [books.limit(subject, 50, window) for window in ("hour", "day", "month")]

    clock.stand_at(EVENING)
    late = books.held(customer, 50, limits=limits)
    assert books.hold(customer, 1, limits=limits)["outcome"] == "limit_exceeded"
    clock.stand_at(EVENING + timedelta(seconds=1))
    early = books.held(customer, 50, limits=limits)
    books.settle(customer, late, 50)  # in the window in which it was reserved
    books.settle(customer, early, 10)
    answer: dict[str, Any] = books.hold(customer, 41, limits=limits)
    clock.run_on()

    assert (answer["outcome"], answer["limit_place"]) == ("limit_exceeded", 0)
    assert counted(subject) == [(w, spent, 0) for w in ("day", "hour", "month") for spent in (50, 10)]


def test_counter_is_found_by_its_parameters() -> None:
    customer = books.funded(100)
    limits.set_own(
        customer_id=customer, limits={Window.DAY: 60}, now=real_clock.now(), actor=Actor.customer(customer)
    )
    policy = policies.of(customer, now=real_clock.now())
    (limit,) = policy.limits
    books.settle(customer, books.held(customer, 20, limits=policy.steps()), 5)
    books.held(customer, 7, limits=policy.steps())

    with connection.cursor() as cursor:
        cursor.execute(policies.COUNTER_SQL, policies.counter_parameters(limit, real_clock.now()))
        assert cursor.fetchall() == [(5, 7)]


def test_lowered_limit_refuses_the_next_and_leaves_what_runs(subject: str) -> None:
    customer = books.funded(100)
    hold = books.held(customer, 60, limits=[books.limit(subject, 60)])

    assert books.hold(customer, 1, limits=[books.limit(subject, 30)])["outcome"] == "limit_exceeded"
    assert books.settle(customer, hold, 60)["outcome"] == "done"
    assert counted(subject) == [("day", 60, 0)]
