"""Capture, release and expiry race for the same holds: each is resolved once.

The defence is the conditional update: only who still sees an open hold moves its money.
"""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from billing.models import Hold, LotKind
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race, wait_until_blocked

HOLDS = 200
CALLERS = 8


def test_each_hold_is_resolved_once_by_whoever_comes_first(clock: LedgerClock) -> None:
    """Two callers live ahead in time: they find the holds expired while the others still may capture."""
    clock.run_on()
    customers = [books.funded(10 * HOLDS) for _ in range(4)]
    holds = [(customers[place % 4], books.held(customers[place % 4], 10)) for place in range(HOLDS)]
    ahead = (real_clock.now() + timedelta(hours=2)).isoformat()

    def work(found: Client, number: int) -> Counter[UUID]:
        mine = random.Random(number).sample(holds, HOLDS)  # noqa: S311
        if number < 2:
            found.execute("SELECT set_config('tests.moment', %s, false)", [ahead])
            while found.execute("SELECT ledger_expire_holds(9) AS freed").fetchone() != {"freed": 0}:
                pass
            return Counter()
        done: Counter[UUID] = Counter()
        for customer, hold_id in mine:
            amount = 7 if number % 2 else 0
            (answer,) = call(found, "ledger_settle", [books.settle_step(customer, hold_id, amount)])
            done[hold_id] += answer["outcome"] == "done"
        return done

    answers = race(CALLERS, work)

    resolved: Counter[UUID] = Counter()
    for answer in answers:
        assert isinstance(answer, Counter), answer
        resolved += answer
    rows = {row.pk: row for row in Hold.objects.filter(customer_id__in=customers)}
    for _, hold_id in holds:
        assert rows[hold_id].status != "open"
        assert resolved[hold_id] == (rows[hold_id].status != "expired")
    statuses = Counter(row.status for row in rows.values())
    captured = sum(row.captured_micro_rub for row in rows.values())
    assert captured == 7 * statuses["captured"]
    assert sum(books.wallet(c).balance_micro_rub for c in customers) == 4 * 10 * HOLDS - captured
    assert sum(sum(books.reserved(customer)) for customer in customers) == 0
    books.assert_right(*customers)


def released_times(schema: str) -> Counter[UUID]:
    """Eight callers release the same 20 holds in a copy; how often each was given back."""
    customer = uuid7()
    with client(schema=schema, as_owner=True) as owner:
        call(owner, "ledger_credit", [books.credit_step(customer, 1000)])
        steps = [books.hold_step(customer, 10) for _ in range(20)]
        call(owner, "ledger_hold", steps)

    def work(found: Client, number: int) -> Counter[UUID]:
        done: Counter[UUID] = Counter()
        for step in random.Random(number).sample(steps, len(steps)):  # noqa: S311
            (answer,) = call(found, "ledger_settle", [books.settle_step(customer, step["id"], 0)])
            done[step["id"]] += answer["outcome"] == "done"
        return done

    found: Counter[UUID] = Counter()
    for answer in race(CALLERS, work, schema=schema, as_owner=True):
        assert isinstance(answer, Counter), answer
        found += answer
    return found


def test_control_without_the_condition_a_hold_is_given_back_again_and_again() -> None:
    with copies.ledger_copy(copies.OPEN_ONLY, then=(copies.AMOUNT_CHECK,)) as schema:
        assert set(released_times(schema).values()) == {CALLERS}


def test_condition_is_what_the_control_lacks() -> None:
    with copies.ledger_copy(then=(copies.AMOUNT_CHECK,)) as schema:
        assert set(released_times(schema).values()) == {1}


def test_two_sweeps_at_once_free_each_hold_once(clock: LedgerClock) -> None:
    customers = [books.funded(1000) for _ in range(5)]
    holds = [books.held(customers[place % 5], 10) for place in range(100)]
    ahead = (real_clock.now() + timedelta(hours=2)).isoformat()
    clock.run_on()

    def work(found: Client, _: int) -> int:
        found.execute("SELECT set_config('tests.moment', %s, false)", [ahead])
        freed = 0
        while (row := found.execute("SELECT ledger_expire_holds(7) AS freed").fetchone()) and row["freed"]:
            freed += row["freed"]
        return freed

    answers = race(4, work)

    assert all(isinstance(answer, int) for answer in answers), answers
    assert {books.status(hold_id) for hold_id in holds} == {"expired"}
    assert [sum(books.reserved(customer)) for customer in customers] == [0] * 5
    books.assert_right(*customers)


def test_work_without_a_hold_waits_for_no_wallet() -> None:
    customer = books.funded(10)
    with client() as busy, busy.transaction(), client() as found:
        busy.execute("SELECT ledger_lock(%s)", [[customer]])
        found.execute("SET lock_timeout = '100ms'")
        answer = found.execute(
            "SELECT outcome, charged FROM ledger_settle_one(NULL, %s, 0, NULL)", [customer]
        ).fetchone()

    assert answer == {"outcome": "done", "charged": 0}


@pytest.mark.parametrize(
    ("without", "left"), [((copies.LOCK_OF_THE_SWEEP,), 10), ((), 0)], ids=["control", "locked"]
)
def test_sweep_gives_back_to_a_wallet_that_moves_meanwhile(
    without: tuple[tuple[str, str], ...], left: int
) -> None:
    with (
        copies.ledger_copy(*without) as schema,
        client(schema=schema, as_owner=True) as moving,
        client(schema=schema, as_owner=True) as sweeping,
        ThreadPoolExecutor(1) as pool,
    ):
        customer = uuid7()
        call(moving, "ledger_credit", [books.credit_step(customer, 1000)])
        call(moving, "ledger_hold", [books.hold_step(customer, 10, ttl_seconds=0)])
        with moving.transaction():
            call(moving, "ledger_debit", [books.debit_step(customer, 1)])
            swept = pool.submit(lambda: sweeping.execute("SELECT ledger_expire_holds(9) AS freed").fetchone())
            wait_until_blocked(swept, moving.info.backend_pid)

        assert swept.result() == {"freed": 1}
        wallet = moving.execute("SELECT lot_reserved FROM billing_wallet").fetchone()
        assert wallet == {"lot_reserved": [left]}


@pytest.mark.parametrize("count", [1, 2])
def test_charge_that_waits_for_its_wallet_is_later_than_what_it_waited_for(count: int) -> None:
    """And it is taken from the lots as they lie by then: a new one comes before the one that is held."""
    with (
        copies.ledger_copy() as schema,
        client(schema=schema, as_owner=True) as moving,
        client(schema=schema, as_owner=True) as settling,
        ThreadPoolExecutor(1) as pool,
    ):
        customer = uuid7()
        call(moving, "ledger_credit", [books.credit_step(customer, 1000)])
        holds = [books.hold_step(customer, 10) for _ in range(count)]
        call(moving, "ledger_hold", holds)
        steps = [books.settle_step(customer, hold["id"], 7, usage=[]) for hold in holds]
        with moving.transaction():
            moving.execute("SELECT ledger_lock(%s::uuid[])", [[customer]])
            settled = pool.submit(call, settling, "ledger_settle", steps)
            wait_until_blocked(settled, moving.info.backend_pid)
            call(moving, "ledger_credit", [books.credit_step(customer, 5, kind=LotKind.MONTHLY)])

        assert [row["outcome"] for row in settled.result()] == ["done"] * count
        entries = moving.execute("SELECT type, created_at FROM billing_ledgerentry ORDER BY seq").fetchall()
        lots = moving.execute("SELECT lot_remaining, lot_reserved FROM billing_wallet").fetchone()

    assert [entry["type"] for entry in entries[-count:]] == ["usage_debit"] * count
    times = [entry["created_at"] for entry in entries]
    assert times == sorted(times)
    assert lots == {"lot_remaining": [5, 1000 - 7 * count], "lot_reserved": [0, 0]}
