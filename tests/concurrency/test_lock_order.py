"""Calls that name the same wallets or holds in opposite orders never wait for each other in a circle.

The defence is the order of locks: holds that are to be resolved, then wallets, both ascending, whatever order
the steps came in.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected

from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race, wait_until_blocked

CALLERS = 8
ROUNDS = 15
Step = dict[str, Any]
# A session that says so waits behind each hold that it has written, before it goes on, for the gate.
PAUSE = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tests.pauses', true) = 'yes' THEN
        PERFORM pg_advisory_xact_lock_shared(hashtext(TG_TABLE_SCHEMA));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pause AFTER UPDATE ON billing_hold FOR EACH ROW EXECUTE FUNCTION pause();
"""


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


def sweep(found: Client, _: list[Step]) -> Any:
    return found.execute("SELECT ledger_expire_holds(9) AS freed").fetchall()


def repeat(found: Client, holds: list[Step]) -> Any:
    return [{"outcome": row["outcome"]} for row in call(found, "ledger_hold", holds[:1])]


def release_twins(found: Client, holds: list[Step]) -> Any:
    return release(found, holds[:1] * 2)


def release(found: Client, holds: list[Step]) -> Any:
    return call(
        found, "ledger_settle", [books.settle_step(hold["customer_id"], hold["id"], 0) for hold in holds]
    )


@pytest.mark.parametrize(
    ("work", "without", "at_once", "deadlocks"),
    [
        pytest.param(sweep, (copies.LET_BE_BY_SWEEP,), None, True, id="control-sweep"),
        pytest.param(sweep, (), {"freed": 1}, False, id="sweep"),  # the other one
        pytest.param(repeat, (copies.KNOWN_AT_SIGHT,), None, True, id="control-repeat"),
        pytest.param(repeat, (), {"outcome": "replayed"}, False, id="repeat"),
        pytest.param(release, (copies.HOLDS_FIRST,), None, True, id="control-batch"),
        pytest.param(release, (), None, False, id="batch"),
        pytest.param(release_twins, (copies.LOCK_OF_TWINS,), None, True, id="control-twins"),
        pytest.param(release_twins, (), None, False, id="twins"),
    ],
)
def test_holds_come_before_wallets(
    work: Callable[[Client, list[Step]], Any],
    without: tuple[tuple[str, str], ...],
    at_once: dict[str, Any] | None,
    deadlocks: bool,
) -> None:
    """One release has its hold and not yet its wallet when somebody else comes for both."""
    with (
        copies.ledger_copy(*without, then=(PAUSE,)) as schema,
        client(schema=schema, as_owner=True) as gate,
        client(schema=schema, as_owner=True) as first,
        client(schema=schema, as_owner=True) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        customer = uuid7()
        call(gate, "ledger_credit", [books.credit_step(customer, 1000)])
        holds = [books.hold_step(customer, 1, ttl_seconds=0) for _ in range(2)]
        call(gate, "ledger_hold", holds)
        gate.execute("SELECT pg_advisory_lock(hashtext(%s))", [schema])
        first.execute("SELECT set_config('tests.pauses', 'yes', false)")
        releasing = pool.submit(release, first, holds[:1])
        wait_until_blocked(releasing, gate.info.backend_pid)
        working = pool.submit(work, second, holds)
        if at_once is None:
            wait_until_blocked(working, first.info.backend_pid)
        else:
            assert working.result() == [at_once]
        gate.execute("SELECT pg_advisory_unlock(hashtext(%s))", [schema])
        failures = [found.exception() for found in (releasing, working)]

    assert [type(failure) for failure in failures].count(DeadlockDetected) == int(deadlocks)
    assert failures.count(None) == (1 if deadlocks else 2)


@pytest.mark.parametrize(
    ("without", "deadlocks"), [((copies.ORDER_OF_HOLDS,), True), ((), False)], ids=["control", "ordered"]
)
def test_batches_that_name_the_same_holds_take_them_in_one_order(
    without: tuple[tuple[str, str], ...], deadlocks: bool
) -> None:
    seconds = 30 if deadlocks else 0.2
    with copies.ledger_copy(*without, meet="UPDATE ON billing_hold", seconds=seconds) as schema:
        customer = uuid7()
        holds = [books.hold_step(customer, 1) for _ in range(2)]
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
            call(owner, "ledger_hold", holds)

        def work(found: Client, number: int) -> object:
            return release(found, holds if number else holds[::-1])

        answers = race(2, work, schema=schema, as_owner=True)

    assert any(isinstance(answer, DeadlockDetected) for answer in answers) == deadlocks
    assert sum(isinstance(answer, list) for answer in answers) == (1 if deadlocks else 2)
