"""A batch of N is N batches of one: the array shape saves commits and changes nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing import ledger
from billing.models import Hold, LotKind
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

pytestmark = pytest.mark.heavy

NOON = datetime(2031, 1, 1, 12, tzinfo=UTC)
Row = dict[str, Any]
WALLETS = 3
FEW = hypothesis_settings(deadline=None, max_examples=40)
PLACES = st.integers(0, WALLETS - 1)
CREDITS = st.tuples(PLACES, st.integers(1, 100), st.sampled_from(LotKind), st.integers(0, 5))
HOLDS = st.tuples(PLACES, st.integers(0, 150), st.booleans(), st.integers(0, 12))
SETTLES = st.tuples(st.integers(0, 5), st.integers(0, 60))
HELD = st.lists(st.integers(0, 199), min_size=WALLETS, max_size=WALLETS)  # of each wallet before the batch
DEBITS = st.tuples(PLACES, st.integers(1, 120), st.booleans(), st.integers(0, 12))


def lists(step: st.SearchStrategy[Any], *name: int) -> st.SearchStrategy[list[Any]]:
    """Batches with twins of a name, which are taken one by one, and without, which are written at once."""
    return st.lists(step, max_size=25) | st.lists(
        step, max_size=25, unique_by=lambda found: tuple(found[place] for place in name)
    )


def all_at_once(call: Callable[[list[Row]], list[Row]], steps: list[Row]) -> list[Row]:
    return call(steps)


def one_by_one(call: Callable[[list[Row]], list[Row]], steps: list[Row]) -> list[Row]:
    return [row for step in steps for row in call([step])]


def shown(rows: list[Row], *facts: str) -> list[tuple[object, ...]]:
    return [tuple(row[fact] for fact in facts) for row in rows]


@FEW
@given(st.lists(CREDITS, max_size=25))
def test_credits(plan: list[tuple[int, int, LotKind, int]]) -> None:
    found = []
    for together in (True, False):
        customers = [uuid7() for _ in range(WALLETS)]
        keys = [f"batch:{uuid7()}" for _ in range(6)]
        steps = [
            # A key belongs to one wallet: what it answers must not depend on the order of wallets.
            books.credit_step(customers[place], amount, kind=kind, key=f"{keys[key]}:{place}")
            for place, amount, kind, key in plan
        ]
        calls = [steps] if together else [[step] for step in steps]
        rows = [row for call in calls for row in books.call("ledger_credit", call)]
        found.append(
            (
                sorted(shown(rows, "outcome", "balance_after")),
                [
                    [(e.seq, e.type, e.amount_micro_rub, e.balance_after_micro_rub) for e in books.entries(c)]
                    for c in customers
                ],
                [books.remaining(customer) for customer in customers],
            )
        )
        books.assert_right(*{customers[place] for place, *_ in plan})
    assert found[0] == found[1]


@FEW
@given(HELD, lists(HOLDS, 0, 3))
def test_holds(before: list[int], plan: list[tuple[int, int, bool, int]]) -> None:
    found = []
    for serve in (all_at_once, one_by_one):
        customers = [mixed() for _ in range(WALLETS)]
        held = [books.hold_step(*pair) for pair in zip(customers, before, strict=True)]
        ledger.hold(held)
        names = [[uuid7() for _ in range(13)] for _ in range(WALLETS)]
        steps = [
            books.hold_step(customers[place], amount, soft=soft, hold_id=names[place][name])
            for place, amount, soft, name in plan
        ]
        rows = serve(ledger.hold, steps)
        found.append(
            (
                shown(rows, "outcome", "held", "spendable"),
                [books.reserved(customer) for customer in customers],
                [[shares_of(c, hold_id) for hold_id in names[place]] for place, c in enumerate(customers)],
            )
        )
        books.assert_right(*customers)
        release(held + steps)
    assert found[0] == found[1]


@FEW
@given(HELD, lists(DEBITS, 0, 3))
def test_debits(before: list[int], plan: list[tuple[int, int, bool, int]]) -> None:
    found = []
    for serve in (all_at_once, one_by_one):
        customers = [mixed() for _ in range(WALLETS)]
        held = [books.hold_step(*pair) for pair in zip(customers, before, strict=True)]
        ledger.hold(held)
        keys = [[f"batch:{uuid7()}" for _ in range(13)] for _ in range(WALLETS)]
        steps = [
            books.debit_step(customers[place], amount, partial=partial, key=keys[place][name])
            for place, amount, partial, name in plan
        ]
        rows = serve(lambda batch: books.call("ledger_debit", batch), steps)
        found.append(
            (
                shown(rows, "outcome", "taken", "balance_after"),
                [told(customer) for customer in customers],
                [books.remaining(customer) for customer in customers],
            )
        )
        books.assert_right(*customers)
        release(held)
    assert found[0] == found[1]


@FEW
@given(lists(SETTLES, 0))
def test_settlements(plan: list[tuple[int, int]]) -> None:
    found = []
    for serve in (all_at_once, one_by_one):
        customers = [books.funded(50, 50) for _ in range(WALLETS)]
        holds = [(customer, books.held(customer, 40)) for customer in customers for _ in range(2)]
        steps = [books.settle_step(*holds[place], amount) for place, amount in plan]
        rows = serve(ledger.settle, steps)
        found.append(
            (
                shown(rows, "outcome", "charged", "released"),
                [told(customer) for customer in customers],
                [(books.remaining(customer), books.reserved(customer)) for customer in customers],
            )
        )
        books.assert_right(*customers)
        ledger.settle([books.settle_step(*hold, 0) for hold in holds])
    assert found[0] == found[1]


def mixed() -> UUID:
    """A customer with 200 in lots that are not spent in the order they were made."""
    customer, soon = uuid7(), books.in_seconds(3600)
    books.credit(customer, 40, kind=LotKind.BONUS)
    books.credit(customer, 30, kind=LotKind.BONUS, expires_at=soon)
    books.credit(customer, 60)
    books.credit(customer, 40, kind=LotKind.MONTHLY, expires_at=soon)
    books.credit(customer, 30)
    return customer


def told(customer: UUID) -> list[tuple[object, ...]]:
    """What a wallet's entries say."""
    return [(e.seq, e.balance_after_micro_rub, books.shares(customer, e)) for e in books.entries(customer)]


def shares_of(customer: UUID, hold_id: UUID) -> list[tuple[int, int]] | None:
    found = Hold.objects.filter(pk=hold_id).first()
    return books.shares(customer, found) if found else None


def release(steps: list[Row]) -> None:
    ledger.settle([books.settle_step(step["customer_id"], step["id"], 0) for step in steps])


def test_hold_that_is_there_leaves_no_gap_in_the_order_of_lots() -> None:
    found = []
    for serve in (all_at_once, one_by_one):
        customer, soon = uuid7(), books.in_seconds(3600)
        books.credit(customer, 100, kind=LotKind.MONTHLY, expires_at=soon)
        known = books.held(customer, 100)
        books.credit(customer, 100, kind=LotKind.ROLLOVER, expires_at=soon)
        books.credit(customer, 100)
        serve(ledger.hold, [books.hold_step(customer, 100, hold_id=known), books.hold_step(customer, 100)])
        found.append(books.reserved(customer))

    assert found == [[100, 100, 0]] * 2


def test_sums_beyond_any_number_are_refused_alone() -> None:
    huge, small = books.funded(10), books.funded(10)
    steps = [books.hold_step(huge, 2**62), books.hold_step(huge, 2**62), books.hold_step(small, 1)]

    outcomes = [row["outcome"] for row in ledger.hold(steps)]

    assert outcomes == ["insufficient_balance", "insufficient_balance", "held"]


def test_lot_pays_for_nothing_of_a_batch_from_its_end_on(clock: LedgerClock) -> None:
    customer = uuid7()
    books.credit(customer, 100, kind=LotKind.MONTHLY, expires_at=NOON)
    clock.stand_at(NOON)

    holds = ledger.hold([books.hold_step(customer, 1), books.hold_step(customer, 2)])
    debits = books.call("ledger_debit", [books.debit_step(customer, 1), books.debit_step(customer, 2)])

    assert {row["outcome"] for row in (*holds, *debits)} == {"insufficient_balance"}
    books.expire_lots(customer)


@pytest.mark.parametrize(
    ("amounts", "shares"),
    [
        ((10, 60, 40), [[(0, 10)], [(0, 30), (1, 30)], [(1, 10), (3, 30)]]),
        ((10, 70, 30), [[(0, 10)], [(0, 30), (1, 40)], [(3, 30)]]),
    ],
)
def test_lots_held_in_part_or_whole_are_passed_over(
    amounts: tuple[int, ...], shares: list[list[tuple[int, int]]]
) -> None:
    for serve in (all_at_once, one_by_one):
        customer = books.funded(40, 60, 50, 30)
        first, *_, rest, _ = [books.held(customer, amount) for amount in (40, 20, 40, 50)]
        ledger.settle([books.settle_step(customer, hold_id, 0) for hold_id in (first, rest)])
        steps = [books.hold_step(customer, amount) for amount in amounts]

        serve(ledger.hold, steps)

        assert [shares_of(customer, step["id"]) for step in steps] == shares
