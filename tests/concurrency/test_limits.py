"""Many callers spend against one limit at once: never more than it allows, and nobody waits in a circle."""

import time
from collections import Counter
from uuid import UUID

import pytest

from billing import verification
from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race

CALLERS = 50
UNCONDITIONAL = (
    r"(\+ amount)\s+WHERE c\.spent_micro_rub \+ c\.reserved_micro_rub \+ amount <= bound\.most",
    r"\1",
)
NO_ORDER = (r"PERFORM ledger_lock_counters\(steps, moment\);", "")


def spend_at_once(
    customers: list[UUID], subject: str, schema: str = "public", *, as_owner: bool = False
) -> Counter[str]:
    """Each caller has a wallet of its own; they share one limit, for ten of them."""

    def work(found: Client, number: int) -> str:
        step = books.hold_step(customers[number], 100, limits=[books.limit(subject, 1000)])
        (answer,) = call(found, "ledger_hold", [step])
        return str(answer["outcome"])

    answers = race(len(customers), work, schema=schema, as_owner=as_owner)
    return Counter(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


def test_50_callers_spend_what_the_limit_allows_to_ten() -> None:
    customers = [books.funded(100) for _ in range(CALLERS)]

    answers = spend_at_once(customers, f"organisation:{uuid7()}")

    assert answers == {"held": 10, "limit_exceeded": 40}
    assert verification.examine(only=["V29"]).is_clean


def test_control_without_the_condition_all_of_them_spend() -> None:
    with copies.ledger_copy(UNCONDITIONAL) as schema:
        customers = [uuid7() for _ in range(CALLERS)]
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(customer, 100) for customer in customers])

        answers = spend_at_once(customers, "organisation:x", schema, as_owner=True)

    assert answers == {"held": CALLERS}


@pytest.mark.parametrize(
    ("without", "deadlocks"), [((NO_ORDER,), True), ((), False)], ids=["control", "ordered"]
)
def test_batches_that_share_two_counters_do_not_wait_in_a_circle(
    without: tuple[tuple[str, str], ...], deadlocks: bool
) -> None:
    seconds = 30 if deadlocks else 0.1
    with copies.ledger_copy(*without, meet="INSERT ON billing_hold", seconds=seconds) as schema:
        pairs = [[uuid7(), uuid7()] for _ in range(2)]
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(c, 100) for pair in pairs for c in pair])

        def work(found: Client, number: int) -> list[str]:
            names = ("a", "b") if number else ("b", "a")
            steps = [
                books.hold_step(customer, 1, limits=[books.limit(name, 100)])
                for customer, name in zip(pairs[number], names, strict=True)
            ]
            return [row["outcome"] for row in call(found, "ledger_hold", steps)]

        answers = race(2, work, schema=schema, as_owner=True)

    assert (answers.count(["held", "held"]) == 1) == deadlocks
    assert (answers == [["held", "held"]] * 2) != deadlocks


def test_window_that_begins_meanwhile_is_counted_in_the_order_of_locks() -> None:
    """All steps of a batch are counted at one moment, though the hour ends between them."""
    clock = """CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        $$SELECT timestamptz '2033-01-01 12:59:59.6+00' + (clock_timestamp() - (SELECT at FROM started))$$"""
    started = ("CREATE TABLE started (at timestamptz)",)
    with copies.ledger_copy(slow="INSERT ON billing_hold", seconds=0.8, then=started) as schema:
        groups = [[uuid7() for _ in range(3)] for _ in range(2)]
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(c, 100) for group in groups for c in group])
            owner.execute("INSERT INTO started VALUES (clock_timestamp())")
            owner.execute(clock)

        def work(found: Client, number: int) -> list[str]:
            time.sleep(1.9 * number)
            names = "abc" if number else "cba"
            steps = [
                books.hold_step(customer, 1, limits=[books.limit(name, 100, "hour")])
                for customer, name in zip(groups[number], names, strict=True)
            ]
            return [row["outcome"] for row in call(found, "ledger_hold", steps)]

        answers = race(2, work, schema=schema, as_owner=True)

    assert answers == [["held"] * 3] * 2


def test_twins_in_a_batch_of_settlements_take_counters_in_order() -> None:
    with copies.ledger_copy(slow="UPDATE ON billing_hold", seconds=0.2) as schema:
        pairs, holds = [sorted([uuid7(), uuid7()]) for _ in range(2)], []
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(c, 100) for pair in pairs for c in pair])
            for pair, names in zip(pairs, ("ba", "ab"), strict=True):
                steps = [
                    books.hold_step(customer, 1, limits=[books.limit(name, 100)])
                    for customer, name in zip(pair, names, strict=True)
                ]
                call(owner, "ledger_hold", steps)
                holds.append(steps)

        def work(found: Client, number: int) -> list[str]:
            steps = [books.settle_step(step["customer_id"], step["id"], 0) for step in holds[number]]
            return [row["outcome"] for row in call(found, "ledger_settle", [*steps, steps[0]])]

        answers = race(2, work, schema=schema, as_owner=True)

    assert answers == [["done", "done", "replayed"]] * 2
