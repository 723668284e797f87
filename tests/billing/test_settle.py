"""Capture, release and expiry: each hold is resolved once, and what was not used goes back."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from billing import ledger
from billing.models import Hold, LedgerEntry, LotKind, UsageEvent
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.damaging import Damage
from tests.billing.fixtures import LedgerClock

NOON = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def test_capture_takes_the_cost_and_gives_the_rest_back() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)

    answer = books.settle(customer, hold_id, 45)

    assert (answer["outcome"], answer["charged"], answer["released"]) == ("done", 45, 15)
    assert books.wallet(customer).balance_micro_rub == 55
    assert (books.remaining(customer), books.reserved(customer)) == ([55], [0])
    books.assert_right(customer)


def test_capture_writes_one_entry_with_both_sides_and_its_usage() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)

    answer = books.settle(customer, hold_id, 45)

    entry = LedgerEntry.objects.get(pk=hold_id)
    assert answer["entry_id"] == hold_id
    assert (entry.debit_account, entry.credit_account, entry.amount_micro_rub) == ("wallet", "revenue", 45)
    assert (entry.seq, entry.balance_after_micro_rub, entry.hold_id) == (2, 55, hold_id)
    assert (entry.key, entry.source_type, entry.source_id) == (f"capture:{hold_id}", "run", str(hold_id))
    (usage,) = UsageEvent.objects.filter(ledger_entry_id=entry.pk)
    assert (usage.customer_id, usage.charged_micro_rub, usage.created_at) == (customer, 45, entry.created_at)


def test_capture_takes_from_the_lots_in_the_order_of_the_hold() -> None:
    customer = books.funded(30, 30, 30)
    hold_id = books.held(customer, 80)

    answer = books.settle(customer, hold_id, 40)

    assert books.remaining(customer) == [0, 20, 30]
    assert [lot.is_spent for lot in books.lots(customer)] == [True, False, False]
    entry = LedgerEntry.objects.get(pk=answer["entry_id"])
    assert entry.lot_ids == [lot.pk for lot in books.lots(customer)]
    assert entry.lot_amounts == [30, 10, 0]
    books.assert_right(customer)


def test_release_gives_everything_back_without_an_entry() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)

    answer = books.settle(customer, hold_id, 0)

    assert (answer["outcome"], answer["entry_id"], answer["released"]) == ("done", None, 60)
    assert books.status(hold_id) == "released"
    assert books.reserved(customer) == [0]
    assert len(books.entries(customer)) == 1
    books.assert_right(customer)


@pytest.mark.parametrize("amount", [0, 60])
def test_work_that_is_given_away_is_written_down(amount: int) -> None:
    """Whatever was held for it: also nothing, by somebody who has no wallet."""
    customer = books.funded(100) if amount else uuid7()
    usage = books.usage_row(500, charged=0)

    answer = books.settle(customer, books.held(customer, amount), 0, usage=[usage])

    assert (answer["outcome"], answer["released"]) == ("done", amount)
    row = UsageEvent.objects.get(pk=usage["id"])
    assert (row.cost_micro_rub, row.charged_micro_rub, row.ledger_entry_id) == (500, 0, None)
    books.assert_right(customer)


def test_repeat_of_a_capture_charges_once_and_names_the_entry() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)
    first = books.settle(customer, hold_id, 45)

    again = books.settle(customer, hold_id, 45)

    assert (again["outcome"], again["entry_id"], again["charged"]) == ("replayed", first["entry_id"], 45)
    assert UsageEvent.objects.filter(customer_id=customer).count() == 1
    assert books.wallet(customer).balance_micro_rub == 55
    books.assert_right(customer)


def test_repeat_of_a_release_is_harmless() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)
    books.settle(customer, hold_id, 0)

    again = books.settle(customer, hold_id, 0)
    assert (again["outcome"], again["entry_id"], again["charged"]) == ("replayed", None, 0)
    books.assert_right(customer)


@pytest.mark.parametrize(("first", "second"), [(45, 44), (45, 0), (0, 45)])
def test_resolved_hold_with_another_amount_is_a_mismatch(first: int, second: int) -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)
    books.settle(customer, hold_id, first)

    answer = books.settle(customer, hold_id, second)

    assert (answer["outcome"], answer["charged"]) == ("mismatch", 0)
    assert books.wallet(customer).balance_micro_rub == 100 - first
    books.assert_right(customer)


def test_capture_above_the_hold_is_refused_and_the_hold_stays() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)

    assert books.settle(customer, hold_id, 61)["outcome"] == "over_hold"
    assert books.status(hold_id) == "open"
    assert books.settle(customer, hold_id, 60)["outcome"] == "done"
    books.assert_right(customer)


def test_work_that_outgrows_its_hold_takes_a_second_one() -> None:
    """Extension: each hold is settled by itself; there is nothing left for a third."""
    customer = books.funded(100)
    first, second = books.held(customer, 60), books.held(customer, 40)

    assert books.hold(customer, 1)["outcome"] == "reserved_in_flight"
    assert [books.settle(customer, hold, paid)["outcome"] for hold, paid in [(first, 60), (second, 15)]] == [
        "done",
        "done",
    ]
    assert books.wallet(customer).balance_micro_rub == 25
    assert books.reserved(customer) == [0]
    books.assert_right(customer)


@pytest.mark.parametrize("amount", [0, 10])
def test_unknown_hold_and_hold_of_somebody_else_are_the_same(amount: int) -> None:
    customer, stranger = books.funded(100), books.funded(100)
    hold_id = books.held(customer, 60)

    assert books.settle(customer, uuid7(), amount)["outcome"] == "unknown_hold"
    assert books.settle(stranger, hold_id, amount)["outcome"] == "unknown_hold"
    assert books.status(hold_id) == "open"
    books.assert_right(customer, stranger)


@pytest.mark.parametrize(
    ("offset", "outcome"), [(-MICRO, "done"), (timedelta(0), "expired"), (MICRO, "expired")]
)
def test_capture_is_possible_until_the_end_of_the_hold_but_not_at_it(
    clock: LedgerClock, offset: timedelta, outcome: str
) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)

    clock.stand_at(NOON + timedelta(seconds=900) + offset)

    assert books.settle(customer, hold_id, 60)["outcome"] == outcome
    books.assert_right(customer)


def test_hold_past_its_time_can_still_be_released(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)

    clock.stand_at(NOON + timedelta(hours=1))

    assert books.settle(customer, hold_id, 0)["outcome"] == "done"
    books.assert_right(customer)


@pytest.mark.parametrize(
    ("offset", "status"), [(-MICRO, "open"), (timedelta(0), "expired"), (MICRO, "expired")]
)
def test_sweep_gives_back_at_the_end_of_the_hold_and_never_before(
    clock: LedgerClock, offset: timedelta, status: str
) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)
    clock.stand_at(NOON + timedelta(seconds=900) + offset)

    books.expire_holds()

    assert books.status(hold_id) == status
    assert books.reserved(customer) == [0 if status == "expired" else 60]
    assert books.wallet(customer).balance_micro_rub == 100
    books.assert_right(customer)


def test_capture_after_the_sweep_is_refused(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)
    clock.stand_at(NOON + timedelta(hours=1))
    books.expire_holds()

    assert books.settle(customer, hold_id, 60)["outcome"] == "expired"
    again = books.settle(customer, hold_id, 0)
    assert (again["outcome"], again["entry_id"]) == ("replayed", None)
    books.assert_right(customer)


def test_sweep_takes_at_most_what_it_is_told(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    holds = [books.held(customer, 1, ttl_seconds=60) for _ in range(5)]
    clock.stand_at(NOON + timedelta(hours=1))
    books.expire_holds()  # whatever other tests left, too
    holds = [books.held(customer, 1, ttl_seconds=60) for _ in range(5)]
    clock.stand_at(NOON + timedelta(hours=2))

    assert [ledger.expire_holds(most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert {books.status(hold_id) for hold_id in holds} == {"expired"}
    books.assert_right(customer)


def test_account_that_is_never_charged_writes_its_usage_only() -> None:
    customer = uuid7()
    usage = books.usage_row(500, charged=0)

    answer = books.settle(customer, None, 0, usage=[usage])

    assert (answer["outcome"], answer["entry_id"], answer["charged"]) == ("done", None, 0)
    row = UsageEvent.objects.get(pk=usage["id"])
    assert (row.cost_micro_rub, row.charged_micro_rub, row.ledger_entry_id) == (500, 0, None)
    books.assert_right(customer)


def test_usage_of_several_calls_makes_one_entry() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)
    usage = [books.usage_row(20, run_id=hold_id), books.usage_row(25, run_id=hold_id)]

    answer = books.settle(customer, hold_id, 45, usage=usage)

    rows = UsageEvent.objects.filter(ledger_entry_id=answer["entry_id"])
    assert sorted(row.charged_micro_rub for row in rows) == [20, 25]
    books.assert_right(customer)


def test_one_refusal_harms_no_neighbour() -> None:
    first, second, third = (books.funded(100) for _ in range(3))
    holds = [books.held(customer, 50) for customer in (first, second, third)]
    steps = [
        books.settle_step(first, holds[0], 10),
        books.settle_step(second, holds[1], 51),
        books.settle_step(third, uuid7(), 5),
        books.settle_step(third, holds[2], 50),
    ]

    answers = ledger.settle(steps)

    assert sorted(row["outcome"] for row in answers) == ["done", "done", "over_hold", "unknown_hold"]
    assert [books.status(hold_id) for hold_id in holds] == ["captured", "open", "captured"]
    books.assert_right(first, second, third)


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "batch"])
def test_hold_that_was_opened_again_is_not_charged_twice(damage: Damage, count: int) -> None:
    """The last guard: the entry has the hold's id, whatever the hold's row says."""
    customer = books.funded(300)
    steps = [books.settle_step(customer, books.held(customer, 60), 45) for _ in range(count)]
    ledger.settle(steps)
    books.held(customer, 60 * count)  # else less than nothing would be reserved, which is refused before
    damage(
        "UPDATE billing_hold SET status = 'open', captured_micro_rub = 0, resolved_at = NULL"
        " WHERE customer_id = %(customer)s",
        {"customer": customer},
    )

    with pytest.raises(IntegrityError, match="billing_ledgerentry_pkey"), transaction.atomic():
        ledger.settle(steps)

    assert books.wallet(customer).balance_micro_rub == 300 - 45 * count


def test_numbers_and_hashes_run_on_over_one_batch() -> None:
    customer = books.funded(100)
    steps = [books.settle_step(customer, books.held(customer, 10), amount) for amount in (1, 0, 2, 3)]

    ledger.settle(steps)

    assert [(entry.seq, entry.balance_after_micro_rub) for entry in books.entries(customer)] == [
        (1, 100),
        (2, 99),
        (3, 97),
        (4, 94),
    ]
    assert [entry.amount_micro_rub for entry in books.entries(customer)] == [100, 1, 2, 3]
    books.assert_right(customer)


def test_capture_takes_paid_money_and_leaves_an_expiring_bonus_alone() -> None:
    customer = uuid7()
    books.credit(customer, 50, kind=LotKind.BONUS, expires_at=books.in_seconds(3600))
    books.credit(customer, 50)

    books.spend(customer, 50)

    assert books.remaining(customer) == [50, 0]
    assert not Hold.objects.filter(customer_id=customer, status="open").exists()
    books.assert_right(customer)


@pytest.mark.parametrize("count", [1, 2])
def test_less_than_nothing_is_refused_and_nothing_moves(count: int) -> None:
    customer = books.funded(100)
    steps = [books.settle_step(customer, books.held(customer, 10), -1) for _ in range(count)]

    with pytest.raises(IntegrityError, match="micro_rub"), transaction.atomic():
        ledger.settle(steps)

    assert [books.status(step["hold_id"]) for step in steps] == [Hold.Status.OPEN] * count
    assert books.reserved(customer) == [10 * count]
    books.assert_right(customer)
