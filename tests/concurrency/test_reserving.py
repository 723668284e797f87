"""Many callers reserve from one wallet: never more than there is.

The defence of a hold that the first lot covers: it is judged by the wallet as it is when its row is locked.
That of any other: the wallet is locked before its lots are read.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, crowd, race, wait_until_blocked

CALLERS = 64


def reserve_one(found: Client, customer: UUID) -> str:
    """As the engine does when a run comes alone."""
    row = found.execute(
        "SELECT outcome FROM ledger_hold_one(%s, %s, 100, 900)", [uuid7(), customer]
    ).fetchone()
    assert row is not None
    return str(row["outcome"])


def reserve_step(found: Client, customer: UUID) -> str:
    (answer,) = call(found, "ledger_hold", [books.hold_step(customer, 100)])
    return str(answer["outcome"])


def reserve(
    customer: UUID,
    how: Callable[[Client, UUID], str] = reserve_one,
    *,
    schema: str = "public",
    as_owner: bool = False,
) -> Counter[str]:
    """64 callers reserve 100 each at once; how each was answered."""
    answers = race(CALLERS, lambda found, _: how(found, customer), schema=schema, as_owner=as_owner)
    return Counter(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


@pytest.mark.parametrize("how", [reserve_one, reserve_step])
def test_64_callers_get_only_what_is_there(how: Callable[[Client, UUID], str]) -> None:
    customer = books.funded(1000)

    answers = reserve(customer, how)

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
        answers = reserve(customer, schema=schema, as_owner=True)
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


def reserved_of_a_wallet_opened_meanwhile(schema: str) -> tuple[int, int]:
    """A batch waits for one wallet while its other is opened and spent from: (reserved, held) of that one."""
    first, second = sorted(uuid7() for _ in range(2))
    with (
        client(schema=schema, as_owner=True) as locking,
        client(schema=schema, as_owner=True) as spending,
        client(schema=schema, as_owner=True) as batch,
        ThreadPoolExecutor(1) as pool,
    ):
        call(locking, "ledger_credit", [books.credit_step(first, 1000)])
        locking.execute("BEGIN")
        locking.execute("SELECT ledger_lock(%s::uuid[])", [[first]])
        steps = [books.hold_step(first, 10), books.hold_step(second, 20)]
        holding = pool.submit(call, batch, "ledger_hold", steps)
        wait_until_blocked(holding, locking.info.backend_pid)
        call(spending, "ledger_credit", [books.credit_step(second, 1000)])
        spending.execute("BEGIN")
        call(spending, "ledger_hold", [books.hold_step(second, 300)])
        locking.execute("COMMIT")
        wait_until_blocked(holding, spending.info.backend_pid)
        spending.execute("COMMIT")
        assert {row["outcome"] for row in holding.result()} == {"held"}
        rows = spending.execute(
            "SELECT w.lot_reserved[1] AS reserved, sum(h.amount_micro_rub)::bigint AS held"
            " FROM billing_wallet w JOIN billing_hold h USING (customer_id)"
            " WHERE w.customer_id = %s GROUP BY w.customer_id",
            [second],
        ).fetchall()
    return rows[0]["reserved"], rows[0]["held"]


def test_wallet_opened_while_a_batch_waited_is_taken_by_itself() -> None:
    with copies.ledger_copy() as schema:
        assert reserved_of_a_wallet_opened_meanwhile(schema) == (320, 320)


def test_control_a_wallet_that_was_not_locked_loses_what_was_reserved() -> None:
    with copies.ledger_copy(copies.LOCKED_ONLY) as schema:
        assert reserved_of_a_wallet_opened_meanwhile(schema) == (300, 320)
