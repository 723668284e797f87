"""Many callers spend against one limit at once: never more than it allows, and nobody waits in a circle."""

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
NO_ORDER = (r"PERFORM ledger_lock_counters\(steps\);", "")


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
    with copies.ledger_copy(*without, slow="INSERT ON billing_hold", seconds=0.1) as schema:
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
