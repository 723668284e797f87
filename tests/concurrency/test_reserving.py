"""Many callers reserve from one wallet: never more than there is.

The defence of a hold that the first lot covers: it is judged by the wallet as it is when its row is locked.
That of any other: the wallet is locked before its lots are read.
"""

from collections import Counter
from uuid import UUID

import pytest

from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, crowd, race

CALLERS = 64


def reserve(customer: UUID, schema: str = "public", *, as_owner: bool = False) -> Counter[str]:
    """64 callers reserve 100 each at once; how each was answered."""

    def work(found: Client, _: int) -> str:
        (answer,) = call(found, "ledger_hold", [books.hold_step(customer, 100)])
        return str(answer["outcome"])

    answers = race(CALLERS, work, schema=schema, as_owner=as_owner)
    return Counter(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


def test_64_callers_get_only_what_is_there() -> None:
    customer = books.funded(1000)

    answers = reserve(customer)

    assert answers == {"held": 10, "reserved_in_flight": 54}
    assert books.reserved(customer) == [1000]
    books.assert_right(customer)


def test_64_callers_over_many_lots_get_only_what_is_there() -> None:
    customer = books.funded(*[25] * 40)

    assert reserve(customer) == {"held": 10, "reserved_in_flight": 54}
    books.assert_right(customer)


ONE_LOT, MANY_LOTS = [1000], [25] * 40
DEFENCES = [(ONE_LOT, copies.FREE_WHEN_LOCKED), (MANY_LOTS, copies.ROW_LOCK)]


def reserved_in_copy(schema: str, lots: list[int]) -> tuple[UUID, Counter[str], int]:
    customer = uuid7()
    with client(schema=schema, as_owner=True) as owner:
        call(owner, "ledger_credit", [books.credit_step(customer, amount) for amount in lots])
        answers = reserve(customer, schema, as_owner=True)
        row = owner.execute("SELECT sum(reserved_micro_rub)::bigint AS sum FROM billing_creditlot").fetchone()
    assert row is not None
    return customer, answers, row["sum"]


@pytest.mark.parametrize(("lots", "defence"), DEFENCES)
def test_control_without_the_defence_more_is_reserved_than_there_is(
    lots: list[int], defence: tuple[str, str]
) -> None:
    with copies.ledger_copy(defence, slow="INSERT ON billing_hold") as schema:
        _, answers, reserved = reserved_in_copy(schema, lots)

    assert answers["held"] > 10
    assert reserved > 1000


@pytest.mark.parametrize("lots", [ONE_LOT, MANY_LOTS])
def test_defence_is_what_the_control_lacks(lots: list[int]) -> None:
    with copies.ledger_copy(slow="INSERT ON billing_hold") as schema:
        _, answers, reserved = reserved_in_copy(schema, lots)

    assert answers == {"held": 10, "reserved_in_flight": 54}
    assert reserved == 1000


@pytest.mark.parametrize("soft", [True, False])
def test_100_callers_spend_from_one_wallet_without_a_deadlock(soft: bool) -> None:
    customer = books.funded(*[300] * 20)  # 6000: enough for 100 times 50

    def work(found: Client, _: int) -> list[str]:
        step = books.hold_step(customer, 50, soft=soft)
        (held,) = call(found, "ledger_hold", [step])
        call(found, "ledger_credit", [books.credit_step(customer, 1)])
        (settled,) = call(found, "ledger_settle", [books.settle_step(customer, step["id"], 30)])
        return [str(held["outcome"]), str(settled["outcome"])]

    answers = crowd(100, 50, work)

    assert answers == [["held", "done"]] * 100
    assert books.wallet(customer).balance_micro_rub == 6000 - 100 * 30 + 100
    assert len(books.entries(customer)) == 20 + 200
    books.assert_right(customer)
