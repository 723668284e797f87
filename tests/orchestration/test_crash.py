"""Killed in the middle: the sweep settles what a dead process left, once, and tells readers the end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import orjson
import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from billing import ledger
from billing.models import Hold, LedgerEntry, UsageEvent
from orchestration import sweep
from orchestration.engine import CONTROL_CHANNEL
from orchestration.models import Run, RunFrames
from plyrum import clock
from tests.orchestration.conftest import RUB, Client, one, parsed, types
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

LEASE_SECONDS = 2


@pytest.fixture
def doomed(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    """A server whose runs are given up soon after it is killed."""
    with ServerProcess(sandbox_url=sandbox.url, PLYRUM_RUN_LEASE_SECONDS=str(LEASE_SECONDS)) as process:
        yield process


def begin(client: Client, frames: int, model: str = "fault/slow") -> str:
    """Start a run and read so many frames of it; the connection is left open as a crash would."""
    body = {"idempotency_key": str(uuid4()), "prompt": "Долгий рассказ о метро", "model": model}
    with client.http.stream("POST", "/api/stream/run", json=body) as response:
        lines = response.iter_lines()
        run_id = str(httpx.Response(200, content=next(lines)).json()["run_id"])
        for _ in range(frames - 1):
            next(lines)
    return run_id


def test_killed_worker_is_settled_once_for_what_it_delivered(
    doomed: ServerProcess, make_client: Callable[..., Client], server: ServerProcess
) -> None:
    client = make_client(url=doomed.url)
    run_id = begin(client, frames=12)
    doomed.stop(signal.SIGKILL)
    run = Run.objects.get(id=run_id)
    assert (run.state, Hold.objects.get(id=run_id).status) == ("running", "open")
    time.sleep(LEASE_SECONDS + 0.5)

    sweep.sweep(now=clock.now())
    after_first = client_state(client, run_id)
    sweep.sweep(now=clock.now())

    assert client_state(client, run_id) == after_first
    run.refresh_from_db()
    assert (run.state, run.error_code) == ("failed", "worker_lost")
    assert 0 < run.cost_micro_rub < run.hold_micro_rub
    assert Hold.objects.get(id=run_id).status == "captured"
    assert UsageEvent.objects.get(run_id=run_id).estimated
    reader = make_client(url=server.url, user=client.user)
    frames = parsed(reader.http.get(f"/api/runs/{run_id}/frames"))
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert types(frames)[-4:] == ["delta", "usage", "settled", "error"]
    assert frames[-1]["charged_micro_rub"] == one(frames, "settled")["cost_micro_rub"] == run.cost_micro_rub


def test_worker_killed_before_the_first_word_costs_nothing(
    doomed: ServerProcess, make_client: Callable[..., Client]
) -> None:
    client = make_client(url=doomed.url)
    run_id = begin(client, frames=3, model="fault/hang")
    doomed.stop(signal.SIGKILL)
    time.sleep(LEASE_SECONDS + 0.5)

    sweep.sweep(now=clock.now())

    run = Run.objects.get(id=run_id)
    assert (run.state, run.cost_micro_rub) == ("failed", 0)
    assert Hold.objects.get(id=run_id).status == "released"
    assert not LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").exists()


def test_eight_sweeps_at_once_settle_each_run_once(
    doomed: ServerProcess, make_client: Callable[..., Client]
) -> None:
    client = make_client(url=doomed.url)
    runs = [begin(client, frames=6) for _ in range(4)]
    doomed.stop(signal.SIGKILL)
    time.sleep(LEASE_SECONDS + 0.5)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        try:
            sweep.sweep(now=clock.now())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").count() == len(runs)
    assert set(Run.objects.filter(id__in=runs).values_list("state", flat=True)) == {"failed"}
    assert RunFrames.objects.filter(run_id__in=runs).count() == len(runs)


def test_owner_that_lost_its_lease_cannot_settle_any_more(
    make_client: Callable[..., Client], server: ServerProcess
) -> None:
    """A process that hung and woke up again is shut out by the fence: the sweep's settlement stands."""
    client = make_client(url=server.url)
    body = {"idempotency_key": str(uuid4()), "prompt": "Медленно", "model": "fault/slow"}
    with client.http.stream("POST", "/api/stream/run", json=body) as response:
        lines = response.iter_lines()
        run_id = httpx.Response(200, content=next(lines)).json()["run_id"]
        for _ in range(9):
            next(lines)
        with server.hung():
            Run.objects.filter(id=run_id).update(lease_until=clock.now())
            swept = sweep.sweep(now=clock.now())
        with Redis.from_url(settings.REDIS_URL) as redis:  # the owner ends it too, now and not in ten seconds
            redis.publish(CONTROL_CHANNEL, orjson.dumps({"stop": run_id}))
        told = list(lines)

    assert swept["ended"] >= 1
    run = Run.objects.get(id=run_id)
    assert (run.state, run.error_code, run.fence) == ("failed", "worker_lost", 2)
    assert LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").count() == 1
    assert "worker_lost" in told[-1]  # the reader is told the true end, which the sweep wrote
    assert f'"charged_micro_rub":{run.cost_micro_rub}' in told[-1]


def test_without_the_fence_the_woken_owner_would_settle_again(
    make_client: Callable[..., Client], server: ServerProcess
) -> None:
    """The control: with the old fence put back and the state reopened, the second settlement is attempted and
    only the ledger's own key keeps the money right.
    """
    client = make_client(url=server.url)
    run_id = client.frames()[0]["run_id"]
    entry = LedgerEntry.objects.get(customer_id=client.user.id, type="usage_debit")

    (answer,) = ledger.settle(
        [
            ledger.settle_step(
                hold_id=run_id,
                customer_id=client.user.id,
                amount=entry.amount_micro_rub + 1,
                usage=[],
            )
        ]
    )

    assert answer["outcome"] == "mismatch"
    assert client.balance()["balance_micro_rub"] == 100 * RUB - entry.amount_micro_rub


def client_state(client: Client, run_id: str) -> tuple[int, int, str]:
    """Entries, money and the run's state, to compare before and after."""
    return (
        LedgerEntry.objects.filter(customer_id=client.user.id).count(),
        LedgerEntry.objects.filter(customer_id=client.user.id).latest("seq").balance_after_micro_rub or 0,
        str(Run.objects.get(id=run_id).state),
    )
