"""What the sweep does besides ending killed runs: forgotten stories, and what it leaves alone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.conf import settings
from redis import Redis
from structlog.testing import capture_logs

from auditlog.models import JobRun
from billing import ledger
from billing.models import Hold, LedgerEntry, PriceVersion, UsageEvent
from orchestration import sweep, tasks
from orchestration.frames import stream_key
from orchestration.models import Run, RunFrames
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.orchestration.conftest import RUB, Client, credited, parsed
from tests.orchestration.test_runs import wait_for_archive


def forget(run_id: str, minutes: int = 2) -> str:
    """As if the process had died after the settlement, so long ago, before it archived."""
    wait_for_archive(run_id)
    kept = RunFrames.objects.get(run_id=run_id)
    kept.delete()
    Run.objects.filter(id=run_id).update(finished_at=clock.now() - timedelta(minutes=minutes))
    return kept.frames


def abandoned(customer_id: UUID, *, route: dict[str, Any] | None = None, frames: int = 30) -> Run:
    """A run without a hold, as an unlimited account has, whose process is gone in mid-answer."""
    price = PriceVersion.objects.filter(sku="sandbox/small").latest("number")
    candidate = {
        "model": "sandbox/small", "provider": "sandbox", "price_version_id": price.pk, "fx_rate_id": None,
    }  # fmt: skip
    now = clock.now()
    run = Run.objects.create(
        id=uuid7(), customer_id=customer_id, idempotency_key=str(uuid7()), fingerprint="f", surface="api",
        mode="single", profile="balanced", model="sandbox/small", provider="sandbox", state="running",
        route=route if route is not None else {"candidates": [candidate], "input_bound_tokens": 100},
        estimate_micro_rub=1, hold_micro_rub=0, lease_until=now - timedelta(seconds=1), created_at=now,
    )  # fmt: skip
    facts = [{"type": "delta", "text": "слово слово "} for _ in range(frames)]
    lines = [
        orjson.dumps({"run_id": str(run.id), "seq": number, "ts": "", **fact}) + b"\n"
        for number, fact in enumerate(facts, start=1)
    ]
    with Redis.from_url(settings.REDIS_URL) as redis:
        if lines:
            redis.xadd(stream_key(run.id), {"f": b"".join(lines)}, id=f"{len(lines)}-0")
    return run


def sweep_all() -> int:
    """Sweep until nothing is left to do, and say how many stories were archived.

    Runs that other tests settled and never archived may fill the first sweeps: their turn comes earlier.
    """
    archived = 0
    for _ in range(100):
        counts = sweep.sweep(now=clock.now())
        archived += counts["archived"]
        if not counts["ended"] and not counts["archived"]:
            return archived
    raise AssertionError("the sweep comes to no end")


def test_forgotten_story_is_archived_as_it_was_told(client: Client) -> None:
    run_id = client.frames()[0]["run_id"]
    told = forget(run_id)

    assert sweep_all() >= 1

    assert RunFrames.objects.get(run_id=run_id).frames == told
    sweep.sweep(now=clock.now())
    assert RunFrames.objects.filter(run_id=run_id).count() == 1


@pytest.mark.parametrize(("model", "end"), [("sandbox/small", "run.finished"), ("fault/400", "error")])
def test_story_that_redis_lost_still_tells_its_true_end(client: Client, model: str, end: str) -> None:
    frames = client.frames(model)
    run_id = frames[0]["run_id"]
    forget(run_id)
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.delete(stream_key(run_id))

    sweep_all()

    told = parsed(client.http.get(f"/api/runs/{run_id}/frames"))
    types = ["settled", "error"] if end == "error" else ["usage", "settled", "run.finished"]
    assert [(frame["seq"], frame["type"]) for frame in told] == list(enumerate(types, start=1))
    known = {frame["type"]: frame for frame in frames}
    settled = told[types.index("settled")]
    assert settled["cost_micro_rub"] == known["settled"]["cost_micro_rub"]
    assert settled["ledger_entry_id"] == known["settled"]["ledger_entry_id"]
    if end == "error":
        assert told[-1]["code"] == Run.objects.get(id=run_id).error_code
    else:
        assert told[0]["usage"] == known["usage"]["usage"]


@pytest.mark.parametrize("minutes", [0, 60])
def test_story_is_looked_for_between_a_minute_and_an_hour(client: Client, minutes: int) -> None:
    """The process that ended the run is given a minute; after the hour Redis has forgotten."""
    run_id = client.frames()[0]["run_id"]
    forget(run_id, minutes)

    sweep_all()

    assert not RunFrames.objects.filter(run_id=run_id).exists()


def test_refused_run_is_left_alone(make_client: Callable[..., Client]) -> None:
    client = make_client(rub=0)
    assert client.run().status_code == 402
    long_ago = clock.now() - timedelta(minutes=5)
    Run.objects.filter(customer_id=client.user.id).update(lease_until=long_ago, finished_at=long_ago)
    before = Run.objects.filter(customer_id=client.user.id).values().get()

    sweep_all()

    assert Run.objects.filter(customer_id=client.user.id).values().get() == before
    assert not RunFrames.objects.filter(customer_id=client.user.id).exists()


def test_run_with_a_living_owner_is_left_alone() -> None:
    run = abandoned(factories.customer().id)
    Run.objects.filter(id=run.id).update(lease_until=clock.now() + timedelta(minutes=1))

    sweep.sweep(now=clock.now())

    run.refresh_from_db()
    assert (run.state, run.fence) == ("running", 1)
    Run.objects.filter(id=run.id).update(lease_until=clock.now() - timedelta(seconds=1))
    sweep.sweep(now=clock.now())


def test_abandoned_run_without_a_hold_is_counted_and_costs_nothing() -> None:
    user = factories.customer()
    run = abandoned(user.id)

    sweep.sweep(now=clock.now())

    run.refresh_from_db()
    assert (run.state, run.error_code, run.cost_micro_rub) == ("failed", "worker_lost", 0)
    usage = UsageEvent.objects.get(run_id=run.id)
    assert (usage.charged_micro_rub, usage.estimated, usage.ledger_entry_id) == (0, True, None)
    assert usage.cost_micro_rub > 0
    assert not LedgerEntry.objects.filter(customer_id=user.id).exists()
    assert not Hold.objects.filter(customer_id=user.id).exists()


def test_run_whose_hold_has_ended_costs_nothing_and_operators_are_told() -> None:
    user = credited(factories.customer(), RUB)
    run = abandoned(user.id)
    Run.objects.filter(id=run.id).update(hold_micro_rub=RUB)
    ledger.hold(
        [ledger.hold_step(hold_id=run.id, customer_id=user.id, amount=RUB, ttl_seconds=0, soft=False)]
    )

    with capture_logs() as said:
        sweep.sweep(now=clock.now())

    run.refresh_from_db()
    assert (run.state, run.error_code, run.cost_micro_rub) == ("failed", "settle_expired", 0)
    told = [line for line in said if line.get("run_id") == str(run.id)]
    assert [(line["event"], line["outcome"]) for line in told] == [("run_not_charged", "expired")]
    usage = UsageEvent.objects.get(run_id=run.id)
    assert (usage.charged_micro_rub, usage.ledger_entry_id, usage.estimated) == (0, None, True)
    assert usage.cost_micro_rub > 0  # ours
    last = RunFrames.objects.get(run_id=run.id).frames.splitlines()[-1]
    assert orjson.loads(last)["code"] == "settle_expired"
    books.expire_holds()
    assert Hold.objects.get(id=run.id).status == "expired"
    books.assert_right(user.id)


def test_abandoned_run_without_a_word_is_ended_without_usage() -> None:
    run = abandoned(factories.customer().id, frames=0)

    sweep.sweep(now=clock.now())

    run.refresh_from_db()
    assert (run.state, run.output_tokens) == ("failed", 0)
    assert not UsageEvent.objects.filter(run_id=run.id).exists()
    frames = [orjson.loads(line) for line in RunFrames.objects.get(run_id=run.id).frames.splitlines()]
    assert [(frame["seq"], frame["type"]) for frame in frames] == [(1, "settled"), (2, "error")]


def test_run_that_cannot_be_ended_does_not_hold_up_the_others() -> None:
    user = factories.customer()
    broken = abandoned(user.id, route={})
    whole = abandoned(user.id)

    counts = sweep.sweep(now=clock.now())

    try:
        assert counts["failed"] >= 1
        broken.refresh_from_db()
        whole.refresh_from_db()
        assert (broken.state, whole.state) == ("running", "failed")
        assert broken.lease_until > clock.now()  # it comes again, not at once
    finally:
        Run.objects.filter(id=broken.id).delete()


def test_job_is_recorded_once_for_its_slot() -> None:
    tasks.sweep_runs()
    tasks.sweep_runs()

    rows = JobRun.objects.filter(name="orchestration.sweep_runs")
    assert rows.count() == rows.values("slot").distinct().count() >= 1
