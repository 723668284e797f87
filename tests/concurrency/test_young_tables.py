"""A connection that began while the tables were empty keeps the plans it made then: they must stay right.

The defence is settings: the functions for many have their own, those for one step the connection's. Without
them a plan of that time reads all rows for one.
"""

import re

import pytest

from orchestration.engine import PLANS
from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client

PAIRS = 60
READ_WHOLE = """
SELECT coalesce(sum(seq_tup_read), 0) AS rows FROM pg_stat_user_tables
 WHERE schemaname = %s
   AND relname IN ('billing_wallet', 'billing_lot', 'billing_hold', 'billing_ledgerentry')
"""


@pytest.mark.parametrize(
    ("without", "reads_all"), [((copies.OWN_PLANS,), True), ((), False)], ids=["control", "settings"]
)
def test_plans_of_an_empty_ledger_do_not_read_whole_tables_later(
    without: tuple[tuple[str, str], ...], reads_all: bool
) -> None:
    with copies.ledger_copy(*without) as schema, client(schema=schema, as_owner=True) as owner:
        owner.execute("VACUUM ANALYZE billing_wallet, billing_lot, billing_hold, billing_ledgerentry")
        for _ in range(PAIRS):
            customer = uuid7()
            call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
            step = books.hold_step(customer, 10)
            call(owner, "ledger_hold", [step])
            call(owner, "ledger_settle", [books.settle_step(customer, step["id"], 5)])
        owner.execute("SELECT pg_stat_force_next_flush()")
        with client(as_owner=True) as other:
            answer = other.execute(READ_WHOLE, [schema]).fetchone()

    assert answer is not None
    assert (answer["rows"] > PAIRS) == reads_all


@pytest.mark.parametrize(("plans", "reads_all"), [("", True), (PLANS, False)], ids=["control", "settings"])
def test_steps_alone_are_planned_by_the_settings_of_their_connection(plans: str, reads_all: bool) -> None:
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as owner:
        owner.execute("VACUUM ANALYZE billing_wallet, billing_lot, billing_hold, billing_ledgerentry")
        for name, value in re.findall(r"-c (\w+)=(\w+)", plans):
            owner.execute("SELECT set_config(%s, %s, false)", [name, value])
        for _ in range(PAIRS):
            customer, hold = uuid7(), uuid7()
            call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
            owner.execute("SELECT ledger_hold_one(%s, %s, 10, 900)", [hold, customer])
            owner.execute("SELECT ledger_settle_one(%s, %s, 5, 'test')", [hold, customer])
        owner.execute("SELECT pg_stat_force_next_flush()")
        with client(as_owner=True) as other:
            answer = other.execute(READ_WHOLE, [schema]).fetchone()

    assert answer is not None
    assert (answer["rows"] > PAIRS) == reads_all


def test_keys_are_looked_up_in_their_index() -> None:
    """It has no charges for answers: a look-up that does not leave them out would read all entries."""
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as owner:
        customer = uuid7()
        call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
        holds = [books.hold_step(customer, 10) for _ in range(PAIRS)]
        call(owner, "ledger_hold", holds)
        call(owner, "ledger_settle", [books.settle_step(customer, step["id"], 5) for step in holds])
        owner.execute("VACUUM ANALYZE billing_ledgerentry")
        charge = {"entry_id": uuid7(), "customer_id": customer, "reversed_id": holds[0]["id"]}
        payout = {
            "entry_id": uuid7(), "amount": 1, "type": "payout", "debit_account": "bank",
            "credit_account": "provider_clearing", "key": "payout", "source_type": "test", "source_id": "1",
        }  # fmt: skip
        calls = [
            ("ledger_credit", [books.credit_step(customer, 1)]),
            ("ledger_debit", [books.debit_step(customer, 1)]),
            ("ledger_debit", [books.debit_step(customer, 1) for _ in range(2)]),
            ("ledger_reverse", [charge]),
            ("ledger_book", [payout]),
        ]
        for function, steps in calls * 2:  # the second time each finds its key
            before = _entries_read(owner, schema)
            call(owner, function, steps)
            assert _entries_read(owner, schema) - before < PAIRS, function


def _entries_read(owner: Client, schema: str) -> int:
    owner.execute("SELECT pg_stat_force_next_flush()")
    with client(as_owner=True) as other:
        row = other.execute(
            "SELECT seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_user_tables"
            " WHERE schemaname = %s AND relname = 'billing_ledgerentry'",
            [schema],
        ).fetchone()
    assert row is not None
    return int(row["rows"])


def test_renewing_reads_the_holds_it_is_asked_for() -> None:
    """The index alone is no bound: all of it may be read for each."""
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as owner:
        owner.execute("VACUUM ANALYZE billing_hold")
        owner.execute("SELECT ledger_renew(%s::uuid[], 900)", [[uuid7()]])
        customer = uuid7()
        call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
        steps = [books.hold_step(customer, 10) for _ in range(PAIRS)]
        call(owner, "ledger_hold", steps)
        with owner.transaction():
            row = owner.execute(
                "SELECT ledger_renew(%s::uuid[], 9000) AS count", [[steps[0]["id"]]]
            ).fetchone()
            answer = owner.execute(
                "SELECT idx_tup_fetch AS rows FROM pg_stat_xact_user_tables"
                " WHERE relid = 'billing_hold'::regclass"
            ).fetchone()

    assert row is not None
    assert answer is not None
    assert row["count"] == 1
    assert answer["rows"] <= 2
