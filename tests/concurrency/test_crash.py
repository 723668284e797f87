"""Somebody dies between hold and settlement: nothing is charged, and the money comes back in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import orjson
import psycopg
import pytest
from django.conf import settings

from billing import ledger
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.concurrency.connections import address, call, client

# A client as a worker is one: it does its statements, says so, and then waits for a model's answer.
CLIENT = """
import json, sys, time
import psycopg
order = json.load(sys.stdin)
with psycopg.connect(**order["address"], autocommit=order["commits"]) as found:
    found.execute("SET ROLE " + order["role"])
    for function, steps in order["calls"]:
        found.execute("SELECT * FROM " + function + "(%s)", [json.dumps(steps)])
    print(found.info.backend_pid, flush=True)
    time.sleep(60)
"""


@contextmanager
def worker(calls: list[tuple[str, list[dict[str, object]]]], *, commits: bool) -> Iterator[tuple[int, int]]:
    """A process that has made `calls` and now waits; its process id and that of its server process."""
    order = {
        "address": address(),
        "role": settings.PLYRUM_DATABASE_ROLE,
        "commits": commits,
        "calls": calls,
    }
    process = subprocess.Popen([sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(orjson.dumps(order))
        process.stdin.close()
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def kill_process(pid: int, _: int) -> None:
    os.kill(pid, signal.SIGKILL)


def end_connection(_: int, backend_pid: int) -> None:
    with client(as_owner=True) as owner:
        owner.execute("SELECT pg_terminate_backend(%s)", [backend_pid])


DEATHS = [kill_process, end_connection]


def gone(backend_pid: int) -> None:
    """Wait until the server has noticed."""
    with client(as_owner=True) as owner:
        for _ in range(1500):
            if owner.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend_pid]).fetchone() is None:
                return
            time.sleep(0.02)
    raise AssertionError("The server process is still there.")


@pytest.mark.parametrize("die", DEATHS)
def test_hold_of_a_dead_worker_is_given_back_after_its_time(
    clock: LedgerClock, die: Callable[[int, int], None]
) -> None:
    customer, hold_id = books.funded(100), uuid7()
    hold = books.hold_step(customer, 60, hold_id=hold_id, ttl_seconds=900)

    with worker([("ledger_hold", [hold])], commits=True) as (pid, backend_pid):
        die(pid, backend_pid)
        gone(backend_pid)

    assert books.status(hold_id) == "open"
    books.assert_right(customer)
    clock.stand_at(real_clock.now() + timedelta(seconds=840))
    books.expire_holds()
    assert books.hold(customer, 41)["outcome"] == "reserved_in_flight", "money is never freed before its time"

    clock.stand_at(real_clock.now() + timedelta(seconds=960))
    books.expire_holds()

    assert books.status(hold_id) == "expired"
    books.held(customer, 100)
    books.assert_right(customer)


@pytest.mark.parametrize("die", DEATHS)
def test_hold_that_was_not_committed_never_was(die: Callable[[int, int], None]) -> None:
    customer, hold_id = books.funded(100), uuid7()
    hold = books.hold_step(customer, 60, hold_id=hold_id)

    with worker([("ledger_hold", [hold])], commits=False) as (pid, backend_pid):
        assert_locked(customer)
        die(pid, backend_pid)
        gone(backend_pid)

    assert books.hold(customer, 100, hold_id=hold_id)["outcome"] == "held"
    books.assert_right(customer)


@pytest.mark.parametrize("die", DEATHS)
def test_settlement_that_was_not_committed_can_be_made_again(die: Callable[[int, int], None]) -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 60)
    settle = books.settle_step(customer, hold_id, 45)

    with worker([("ledger_settle", [settle])], commits=False) as (pid, backend_pid):
        die(pid, backend_pid)
        gone(backend_pid)

    assert books.status(hold_id) == "open"
    assert books.wallet(customer).balance_micro_rub == 100
    assert ledger.settle([settle])[0]["outcome"] == "done"
    books.assert_right(customer)


@pytest.mark.parametrize("die", DEATHS)
def test_settlement_whose_answer_was_lost_is_replayed(die: Callable[[int, int], None]) -> None:
    customer, hold_id = books.funded(100), uuid7()
    settle = books.settle_step(customer, hold_id, 45)
    calls = [("ledger_hold", [books.hold_step(customer, 60, hold_id=hold_id)]), ("ledger_settle", [settle])]

    with worker(calls, commits=True) as (pid, backend_pid):
        die(pid, backend_pid)
        gone(backend_pid)

    answer = ledger.settle([settle])[0]
    assert (answer["outcome"], answer["entry_id"], answer["charged"]) == ("replayed", hold_id, 45)
    assert books.wallet(customer).balance_micro_rub == 55
    books.assert_right(customer)


def assert_locked(customer: UUID) -> None:
    """The dead worker's lock is real: before its end nobody else moves this wallet."""
    with client() as found:
        found.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            call(found, "ledger_hold", [books.hold_step(customer, 1)])
