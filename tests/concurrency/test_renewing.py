"""Holds are renewed while a sweep or a settlement is at them: none is freed early, nobody waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from plyrum import clock
from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, wait_until_blocked

# Each session of the copy lives in a time of its own.
OWN_TIME = """
CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(nullif(current_setting('tests.moment', true), '')::timestamptz, clock_timestamp())
$$
"""
TTL = 900


def held(owner: Client) -> tuple[UUID, UUID]:
    """A customer and an open hold of theirs."""
    customer = uuid7()
    call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
    step = books.hold_step(customer, 10, ttl_seconds=TTL)
    call(owner, "ledger_hold", [step])
    return customer, step["id"]


def renewed(found: Client, hold_id: UUID) -> int:
    row = found.execute("SELECT ledger_renew(ARRAY [%s]::uuid[], %s) AS count", [hold_id, 2 * TTL]).fetchone()
    assert row is not None
    return int(row["count"])


def freed_during_renewal(schema: str, *, waits: bool) -> int:
    """How many holds a sweep frees that finds one due while its renewal is not committed yet."""
    behind = (clock.now() + timedelta(seconds=TTL + 300)).isoformat()
    with (
        client(schema=schema, as_owner=True) as living,
        client(schema=schema, as_owner=True) as sweep,
        ThreadPoolExecutor(1) as pool,
    ):
        _, hold_id = held(living)
        sweep.execute("SELECT set_config('tests.moment', %s, false)", [behind])
        living.execute("BEGIN")
        assert renewed(living, hold_id) == 1
        sweeping = pool.submit(
            lambda: sweep.execute("SELECT ledger_expire_holds(9) AS freed").fetchone() or {}
        )
        if waits:
            wait_until_blocked(sweeping, living.info.backend_pid)
        else:
            sweeping.result()
        living.execute("COMMIT")
        return int(sweeping.result()["freed"])


def test_sweep_lets_be_a_hold_that_is_being_renewed() -> None:
    with copies.ledger_copy(then=(OWN_TIME,)) as schema:
        assert freed_during_renewal(schema, waits=False) == 0


def test_control_that_waits_frees_a_renewed_hold() -> None:
    with copies.ledger_copy(copies.LET_BE_BY_SWEEP, then=(OWN_TIME,)) as schema:
        assert freed_during_renewal(schema, waits=True) == 1


def renewed_while_it_is_settled(schema: str) -> int:
    with client(schema=schema, as_owner=True) as settling, client(schema=schema, as_owner=True) as living:
        customer, hold_id = held(settling)
        settling.execute("BEGIN")
        call(settling, "ledger_settle", [books.settle_step(customer, hold_id, 7)])
        living.execute("SET lock_timeout = '100ms'")
        return renewed(living, hold_id)


def test_hold_that_is_being_settled_is_not_waited_for() -> None:
    with copies.ledger_copy() as schema:
        assert renewed_while_it_is_settled(schema) == 0


def test_control_that_waits_stands_behind_the_settlement() -> None:
    with copies.ledger_copy(copies.LET_BE) as schema, pytest.raises(psycopg.errors.LockNotAvailable):
        renewed_while_it_is_settled(schema)
