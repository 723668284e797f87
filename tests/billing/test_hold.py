"""Holds: what may be reserved, from which lots, until when."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing import ledger
from billing.models import Hold, LotKind
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock

NOON = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def test_hold_reserves_and_moves_no_money() -> None:
    customer = books.funded(10 * RUB)

    answer = books.hold(customer, 4 * RUB)

    assert (answer["outcome"], answer["held"]) == ("held", 4 * RUB)
    assert books.wallet(customer).balance_micro_rub == 10 * RUB
    assert books.reserved(customer) == [4 * RUB]
    assert len(books.entries(customer)) == 1
    books.assert_right(customer)


def test_hold_of_the_last_micro_is_granted_and_one_more_is_refused() -> None:
    customer = books.funded(100)

    assert books.hold(customer, 101)["outcome"] == "insufficient_balance"
    assert books.hold(customer, 100)["outcome"] == "held"
    assert books.hold(customer, 1)["outcome"] == "reserved_in_flight"
    books.assert_right(customer)


def test_refusal_says_what_there_is_and_writes_nothing() -> None:
    customer = books.funded(100)
    books.held(customer, 70)

    in_flight = books.hold(customer, 100)
    too_much = books.hold(customer, 101)

    assert (in_flight["outcome"], in_flight["held"], in_flight["spendable"]) == ("reserved_in_flight", 0, 30)
    assert (too_much["outcome"], too_much["held"], too_much["spendable"]) == ("insufficient_balance", 0, 30)
    assert Hold.objects.filter(pk__in=[in_flight["hold_id"], too_much["hold_id"]]).count() == 0
    books.assert_right(customer)


def test_hold_without_a_wallet_is_refused() -> None:
    answer = books.hold(uuid7(), 1)

    assert (answer["outcome"], answer["spendable"]) == ("insufficient_balance", 0)


def test_hold_of_nothing_is_granted_without_money() -> None:
    customer = uuid7()

    hold_id = books.held(customer, 0)

    assert books.settle(customer, hold_id, 0)["outcome"] == "done"


def test_repeat_of_a_hold_reserves_once() -> None:
    customer, hold_id = books.funded(100), uuid7()

    answers = [books.hold(customer, 60, hold_id=hold_id) for _ in range(3)]

    assert [(row["outcome"], row["held"]) for row in answers] == [
        ("held", 60),
        ("replayed", 60),
        ("replayed", 60),
    ]
    assert books.reserved(customer) == [60]


def test_repeat_of_a_hold_is_known_also_when_no_money_is_left() -> None:
    customer, hold_id = books.funded(100), uuid7()
    books.held(customer, 100, hold_id=hold_id)

    assert books.hold(customer, 100, hold_id=hold_id)["outcome"] == "replayed"


@pytest.mark.parametrize("amount", [59, 61])
def test_known_hold_with_another_amount_is_a_mismatch(amount: int) -> None:
    customer, hold_id = books.funded(200), uuid7()
    books.held(customer, 60, hold_id=hold_id)

    answer = books.hold(customer, amount, hold_id=hold_id)

    assert (answer["outcome"], answer["held"]) == ("mismatch", 60)
    assert books.reserved(customer) == [60]


def test_known_hold_of_somebody_else_is_a_mismatch() -> None:
    customer, stranger, hold_id = books.funded(100), books.funded(100), uuid7()
    books.held(customer, 60, hold_id=hold_id)

    assert books.hold(stranger, 60, hold_id=hold_id)["outcome"] == "mismatch"
    assert books.reserved(stranger) == [0]


@pytest.mark.parametrize(("money", "held"), [(0, 0), (40, 40), (100, 60)])
def test_soft_hold_takes_what_is_there(money: int, held: int) -> None:
    customer = books.funded(money) if money else uuid7()
    hold_id = uuid7()

    answer = books.hold(customer, 60, hold_id=hold_id, soft=True)

    assert (answer["outcome"], answer["held"]) == ("held", held)
    assert books.hold(customer, 60, hold_id=hold_id, soft=True)["outcome"] == "replayed"
    books.assert_right(customer)


def test_lots_are_taken_by_class_then_expiry_then_age() -> None:
    customer = uuid7()
    soon, late = books.in_seconds(3600), books.in_seconds(7200)
    for kind, expires_at in [
        (LotKind.PURCHASED, None),
        (LotKind.BONUS, None),
        (LotKind.BONUS, late),
        (LotKind.BONUS, soon),
        (LotKind.BONUS, soon),
        (LotKind.ROLLOVER, soon),
        (LotKind.MONTHLY, late),
    ]:
        books.credit(customer, 10, kind=kind, expires_at=expires_at)

    hold_id = books.held(customer, 65)

    paid, free, bonus_late, bonus_soon, bonus_soon_too, rollover, monthly = books.lots(customer)
    hold = Hold.objects.get(pk=hold_id)
    assert hold.lot_ids == [
        lot.pk for lot in (monthly, rollover, paid, bonus_soon, bonus_soon_too, bonus_late, free)
    ]
    assert hold.lot_amounts == [10, 10, 10, 10, 10, 10, 5]
    books.assert_right(customer)


@pytest.mark.parametrize(
    ("offset", "outcome"),
    [(-MICRO, "held"), (timedelta(0), "insufficient_balance"), (MICRO, "insufficient_balance")],
)
def test_lot_may_be_used_until_its_expiry_but_not_at_it(
    clock: LedgerClock, offset: timedelta, outcome: str
) -> None:
    customer = uuid7()
    clock.stand_at(NOON - timedelta(hours=1))
    books.credit(customer, 100, kind=LotKind.BONUS, expires_at=NOON)

    clock.stand_at(NOON + offset)

    assert books.hold(customer, 100)["outcome"] == outcome


def test_expired_lot_is_passed_over_for_the_next_one(clock: LedgerClock) -> None:
    customer = uuid7()
    clock.stand_at(NOON - timedelta(hours=1))
    books.credit(customer, 100, kind=LotKind.BONUS, expires_at=NOON)
    books.credit(customer, 100)

    clock.stand_at(NOON)

    assert books.hold(customer, 150)["outcome"] == "insufficient_balance"
    books.held(customer, 80)
    assert books.reserved(customer) == [0, 80]


def test_hold_keeps_its_share_of_a_lot_that_expires_meanwhile(clock: LedgerClock) -> None:
    customer = uuid7()
    clock.stand_at(NOON - timedelta(hours=1))
    books.credit(customer, 100, kind=LotKind.BONUS, expires_at=NOON)
    hold_id = books.held(customer, 60, ttl_seconds=7200)

    clock.stand_at(NOON + timedelta(minutes=1))

    assert books.settle(customer, hold_id, 60)["outcome"] == "done"
    assert books.remaining(customer) == [40]
    books.assert_right(customer)


def test_one_refusal_harms_no_neighbour() -> None:
    rich, poor, other = books.funded(100), books.funded(1), books.funded(100)
    steps = [books.hold_step(rich, 50), books.hold_step(poor, 50), books.hold_step(other, 50)]

    answers = {row["hold_id"]: row["outcome"] for row in ledger.hold(steps)}

    assert [answers[step["id"]] for step in steps] == ["held", "insufficient_balance", "held"]
    books.assert_right(rich, poor, other)


def test_step_without_an_amount_harms_no_neighbour_in_the_same_wallet() -> None:
    customer = books.funded(100)
    broken = books.hold_step(customer, 50) | {"amount": None}

    outcomes = [row["outcome"] for row in ledger.hold([broken, books.hold_step(customer, 50)])]

    assert outcomes == ["insufficient_balance", "held"]
    books.assert_right(customer)


def test_steps_of_one_wallet_are_taken_in_their_order() -> None:
    customer, other = books.funded(100), books.funded(100)
    steps = [
        books.hold_step(customer, 60),
        books.hold_step(other, 60),
        books.hold_step(customer, 60),
        books.hold_step(other, 40),
        books.hold_step(customer, 40),
    ]

    answers = {row["hold_id"]: row["outcome"] for row in ledger.hold(steps)}

    assert [answers[step["id"]] for step in steps] == ["held", "held", "reserved_in_flight", "held", "held"]
    books.assert_right(customer, other)


@pytest.mark.parametrize("lots", [(100,), (50, 50)])
def test_typed_hold_is_new_or_nothing_moves(lots: tuple[int, ...]) -> None:
    """As the engine holds: that it is new the run has told. Who asks twice all the same is refused."""
    customer = books.funded(*lots)
    hold_id = uuid7()
    outcomes = []

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT outcome FROM ledger_hold_one(%s, %s, 60, 900)", [hold_id, customer])
            outcomes.append(cursor.fetchone()[0])

    books.credit(customer, 100)
    hold()
    with pytest.raises(IntegrityError, match="billing_hold_pkey"):
        hold()

    assert outcomes == ["held"]
    assert sum(books.reserved(customer)) == 60
    assert books.hold(customer, 60, hold_id=hold_id)["outcome"] == "replayed"
    books.assert_right(customer)
