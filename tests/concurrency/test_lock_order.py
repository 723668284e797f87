"""Batches that name the same wallets in opposite orders never wait for each other in a circle.

The defence is the order of locks: wallets ascending, whatever order the steps came in.
"""

from collections import Counter
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected

from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race

CALLERS = 8
ROUNDS = 15


def test_opposite_batches_hold_and_settle_without_a_deadlock() -> None:
    customers = [books.funded(10_000_000) for _ in range(6)]

    def work(found: Client, number: int) -> Counter[str]:
        mine = customers if number % 2 else customers[::-1]
        answers: Counter[str] = Counter()
        for _ in range(ROUNDS):
            holds = [books.hold_step(customer, 10) for customer in mine]
            answers.update(row["outcome"] for row in call(found, "ledger_hold", holds))
            settles = [books.settle_step(step["customer_id"], step["id"], 5) for step in holds[::-1]]
            answers.update(row["outcome"] for row in call(found, "ledger_settle", settles))
            credits_ = [books.credit_step(customer, 1) for customer in mine]
            answers.update(row["outcome"] for row in call(found, "ledger_credit", credits_))
            debits = [books.debit_step(customer, 1) for customer in (mine[:2] if number % 2 else mine[-2:])]
            answers.update(row["outcome"] for row in call(found, "ledger_debit", debits))
        return answers

    answers = race(CALLERS, work)

    each = 6 * ROUNDS
    assert answers == [{"held": each, "done": 2 * each + 2 * ROUNDS}] * CALLERS
    for place, customer in enumerate(customers):
        taken = 5 if place < 2 else 4
        assert books.wallet(customer).balance_micro_rub == 10_000_000 - taken * CALLERS * ROUNDS
    books.assert_right(*customers)


def test_several_calls_in_one_transaction_are_safe_behind_the_common_lock() -> None:
    customers = [books.funded(10_000) for _ in range(4)]

    def work(found: Client, number: int) -> int:
        mine = customers if number % 2 else customers[::-1]
        for _ in range(ROUNDS):
            with found.transaction():
                found.execute("SELECT ledger_lock(%s::uuid[])", [mine])
                for customer in mine:
                    call(found, "ledger_credit", [books.credit_step(customer, 1)])
        return ROUNDS

    assert race(CALLERS, work) == [ROUNDS] * CALLERS
    books.assert_right(*customers)


@pytest.mark.parametrize(
    ("without", "deadlocks"), [((copies.LOCK_OF_ALL,), True), ((), False)], ids=["control", "ordered"]
)
def test_order_of_wallets_is_what_prevents_the_deadlock(
    without: tuple[tuple[str, str], ...], deadlocks: bool
) -> None:
    seconds = 30 if deadlocks else 0.1
    with copies.ledger_copy(*without, meet="INSERT ON billing_hold", seconds=seconds) as schema:
        customers = sorted(uuid7() for _ in range(2))
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(customer, 1000) for customer in customers])

        def work(found: Client, number: int) -> list[Any]:
            mine = customers if number else customers[::-1]
            steps = [books.hold_step(customer, 1, soft=True) for customer in mine]  # taken one by one
            return call(found, "ledger_hold", steps)

        answers = race(2, work, schema=schema, as_owner=True)

    assert any(isinstance(answer, DeadlockDetected) for answer in answers) == deadlocks
    assert sum(isinstance(answer, list) for answer in answers) == (1 if deadlocks else 2)


@pytest.mark.parametrize(
    ("without", "deadlocks"), [((copies.LOCK_OF_THE_SWEEP,), True), ((), False)], ids=["control", "locked"]
)
def test_sweep_takes_wallets_first_and_so_meets_no_settlement_halfway(
    without: tuple[tuple[str, str], ...], deadlocks: bool
) -> None:
    """Without the wallets' locks the sweep and a batch of releases take the same holds in opposite orders."""
    seconds = 30 if deadlocks else 0.2
    with copies.ledger_copy(*without, meet="UPDATE ON billing_hold", seconds=seconds) as schema:
        customers = sorted(uuid7() for _ in range(2))
        steps = [books.hold_step(customer, 1, ttl_seconds=0) for customer in customers]
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(customer, 1000) for customer in customers])
            for step in steps[::-1]:  # the sweep meets them in the order in which they lie
                call(owner, "ledger_hold", [step])

        def work(found: Client, number: int) -> object:
            if number:
                return found.execute("SELECT ledger_expire_holds(9)").fetchall()
            releases = [books.settle_step(step["customer_id"], step["id"], 0) for step in steps]
            return call(found, "ledger_settle", releases)

        answers = race(2, work, schema=schema, as_owner=True)

    assert any(isinstance(answer, DeadlockDetected) for answer in answers) == deadlocks
