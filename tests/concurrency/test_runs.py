"""Runs are opened by several processes at once: one run for a key, and nobody waits in a circle.

The defences are the unique key and the order in which a call takes its keys.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest
from psycopg import sql
from psycopg.errors import DeadlockDetected

from billing.models import Hold
from orchestration import models
from orchestration.models import Run, RunFrames
from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, client, race, wait_until_blocked
from tests.orchestration.run_steps import HOLD, Row, open_step, settle_step

SQL = Path(models.__file__).resolve().parent / "sql" / "0001_runs.sql"
ORDER_OF_KEYS = "ORDER BY s.customer_id, s.idempotency_key"
CALLERS = 6


def open_runs(found: Client, steps: list[Row], function: str = "run_open") -> list[str]:
    query = sql.SQL("SELECT * FROM {}(%s)").format(sql.Identifier(*function.split(".")))
    rows = found.execute(query, [orjson.dumps(steps).decode()]).fetchall()
    outcomes = {row["given_id"]: str(row["outcome"]) for row in rows}
    return [outcomes[step["id"]] for step in steps]


@contextmanager
def run_open_without(defence: str) -> Iterator[str]:
    """The name of a copy of run_open that lacks `defence`."""
    schema = f"copy_{uuid7().hex}"
    text = SQL.read_text(encoding="utf-8")
    begin = text.index("CREATE FUNCTION run_open(")
    body = text[begin : text.index("END $$;", begin) + len("END $$;")]
    assert defence in body, "the defence is not there any more: the control proves nothing"
    body = body.replace("FUNCTION run_open", f"FUNCTION {schema}.run_open").replace(defence, "")
    with client(as_owner=True) as owner:
        owner.execute(f"CREATE SCHEMA {schema}")
        owner.execute(body)
    try:
        yield f"{schema}.run_open"
    finally:
        with client(as_owner=True) as owner:
            owner.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def met_inserts(seconds: float) -> Iterator[None]:
    """Two callers write their rows side by side, waiting `seconds` at most for each other."""
    with client(as_owner=True) as owner:
        owner.execute(copies.meeting("public", "INSERT ON orchestration_run", seconds))
    try:
        yield
    finally:
        with client(as_owner=True) as owner:
            owner.execute("DROP TRIGGER meet ON orchestration_run")
            owner.execute("DROP FUNCTION public.meet()")
            owner.execute("DROP SEQUENCE public.arrivals")


def test_one_key_of_many_processes_is_one_run_with_one_hold() -> None:
    customer, key = books.funded(100 * HOLD), str(uuid4())

    def work(found: Client, _: int) -> list[str]:
        return open_runs(found, [open_step(customer, uuid7(), key)])

    told = Counter(outcome for answer in race(CALLERS, work) for outcome in answer)  # type: ignore[union-attr]

    assert told == {"opened": 1, "known": CALLERS - 1}
    assert Run.objects.filter(customer_id=customer).count() == 1
    assert Hold.objects.filter(customer_id=customer).count() == 1
    books.assert_right(customer)
    end(customer)


@pytest.mark.parametrize("is_ordered", [False, True], ids=["control", "ordered"])
def test_same_keys_in_opposite_orders_do_not_wait_in_a_circle(is_ordered: bool) -> None:
    customers = [books.funded(1000 * HOLD)]
    keys = [[str(uuid4()) for _ in range(6)] for _ in range(2)]

    def play(function: str, as_owner: bool) -> bool:
        def work(found: Client, number: int) -> int:
            for some in keys:
                mine = some if number % 2 else some[::-1]
                open_runs(found, [open_step(customers[0], uuid7(), key) for key in mine], function)
            return 0

        answers = race(2, work, as_owner=as_owner)
        assert all(answer == 0 or isinstance(answer, DeadlockDetected) for answer in answers), answers
        return any(isinstance(answer, DeadlockDetected) for answer in answers)

    with met_inserts(0.02 if is_ordered else 30):
        if is_ordered:
            assert not play("run_open", as_owner=False)
        else:
            with run_open_without(ORDER_OF_KEYS) as copy:
                assert play(copy, as_owner=True)
    books.assert_right(*customers)
    end(*customers)


@pytest.mark.parametrize("count", [2, 20])
@pytest.mark.parametrize(
    ("meanwhile", "outcome"),
    [("lease_until = lease_until + interval '1 min'", "done"), ("fence = fence + 1", "fenced")],
    ids=["renewed", "taken over"],
)
def test_runs_end_as_they_stand_when_nobody_else_writes_them(
    meanwhile: str, outcome: str, count: int
) -> None:
    customer = books.funded(100 * HOLD)
    steps = [open_step(customer, uuid7(), str(uuid4())) for _ in range(count)]
    run_ids = [step["id"] for step in steps]
    ends = orjson.dumps([settle_step(customer, run_id) for run_id in run_ids]).decode()
    stories = [f"story of {run_id}" for run_id in run_ids]
    with client() as renewing, client() as settling, ThreadPoolExecutor(1) as pool:
        open_runs(settling, steps)
        renewing.execute("BEGIN")
        renewing.execute(
            sql.SQL(f"UPDATE orchestration_run SET {meanwhile} WHERE id = %s"),  # noqa: S608
            [run_ids[0]],
        )
        ending = pool.submit(
            lambda: settling.execute("SELECT * FROM run_settle(%s, %s)", [ends, stories]).fetchall()
        )
        wait_until_blocked(ending, renewing.info.backend_pid)
        renewing.execute("COMMIT")
        rows = {row["run_id"]: row["outcome"] for row in ending.result()}

    assert [rows[run_id] for run_id in run_ids] == [outcome] + ["done"] * (count - 1)
    kept = dict(RunFrames.objects.filter(run_id__in=run_ids).values_list("run_id", "frames"))
    told = dict(zip(run_ids, stories, strict=True))
    assert kept == {run_id: told[run_id] for run_id in run_ids if rows[run_id] == "done"}
    books.assert_right(customer)
    end(customer)


def end(*customers: UUID) -> None:
    """No sweep of a later test shall find these runs."""
    Run.objects.filter(customer_id__in=customers).update(state="failed", finished_at="2026-01-01T00:00:00Z")
