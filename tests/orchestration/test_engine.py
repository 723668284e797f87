"""The engine inside this process: begin, stop at any moment, silence, faults of ours, leaving."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson
import pytest
from django.conf import settings
from django.db import connection
from psycopg.conninfo import conninfo_to_dict
from pytest_django import Settings
from structlog.testing import capture_logs

from accounts.models import ApiKey, User
from billing.models import Hold, LedgerEntry, UsageEvent
from orchestration import catalogue, doors, engine, execution, sweep
from orchestration.engine import CONTROL_CHANNEL, LOST_SECONDS, PLANS, Engine
from orchestration.errors import FramesGone
from orchestration.frames import Groups, stream_key
from orchestration.models import Attempt, Run, RunFrames
from orchestration.providers import openai_chat
from orchestration.shapes import RunRequest
from plyrum import clock
from plyrum.errors import Unavailable
from plyrum.ids import uuid7
from tests import factories
from tests.orchestration.conftest import RUB, credited, one, text_of, types
from tests.orchestration.lost_answers import lossy_way
from tests.playground.runs import make_run
from tests.sandbox_process import SandboxProcess

T = TypeVar("T")
Frames = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _at_the_sandbox(sandbox: SandboxProcess, settings: Settings) -> Iterator[None]:
    settings.PLYRUM_SANDBOX_URL = sandbox.url
    settings.PLYRUM_RUN_LEASE_SECONDS = 20
    catalogue._snapshot = None  # the addresses of the tests' sandbox are read
    catalogue.refresh()
    yield
    catalogue._snapshot = None


@pytest.fixture
def asked() -> Callable[..., RunRequest]:
    """Requests of one customer with money."""
    user = credited(factories.customer(), 100 * RUB)

    def make(model: str = "sandbox/small", **facts: Any) -> RunRequest:
        given: dict[str, Any] = {
            "customer_id": user.id, "idempotency_key": str(uuid7()), "fingerprint": "f", "surface": "api",
            "messages": ({"role": "user", "content": "Сколько будет два и два?"},), "mode": "auto",
            "profile": "balanced", "models": (model,), "max_output_tokens": None, "temperature": None,
            "reasoning_effort": None, "max_cost_micro_rub": None, "stream": True,
            "accepted_terms": tuple(catalogue.current().binding_terms),
        }  # fmt: skip
        return RunRequest(**given | facts)

    return make


Asked = Callable[..., RunRequest]


def with_engine(work: Callable[[Engine], Awaitable[T]]) -> T:
    """Run `work` with an engine that is closed afterwards."""

    async def go() -> T:
        opened = Engine()
        try:
            async with asyncio.timeout(30):
                return await work(opened)
        finally:
            await opened.close()

    return asyncio.run(go())


async def told(opened: Engine, run_id: UUID, after: int = 0) -> Frames:
    return [orjson.loads(line) async for group in opened.follow(run_id, after) for line in group or ()]


async def let_time_pass(opened: Engine, run_id: UUID) -> None:
    """All the time of a run is over while its first call is under way, however slow the machine is."""
    run = opened.runs[run_id]
    while not run.attempts:
        await asyncio.sleep(0)
    run.ends -= settings.PLYRUM_RUN_SECONDS


async def after_frames(opened: Engine, run_id: UUID, count: int) -> None:
    while len(opened.runs[run_id].story.shown) < count:
        await asyncio.sleep(0.01)


def test_run_ends_and_is_kept(asked: Asked) -> None:
    async def work(opened: Engine) -> tuple[UUID, Frames, int]:
        run_id = (await opened.start(asked())).run_id
        frames = await told(opened, run_id)
        return run_id, frames, len(opened.runs)

    run_id, frames, left = with_engine(work)

    assert (types(frames)[-1], left) == ("run.finished", 0)
    kept = RunFrames.objects.get(run_id=run_id).frames
    assert [orjson.loads(line) for line in kept.splitlines()] == frames


def test_leaving_lets_running_answers_finish(asked: Asked) -> None:
    async def work(opened: Engine) -> UUID:
        return (await opened.start(asked("bench/20-5"))).run_id

    run_id = with_engine(work)

    assert Run.objects.get(id=run_id).state == "done"
    assert Hold.objects.get(id=run_id).status == "captured"
    assert RunFrames.objects.filter(run_id=run_id).exists()


def test_stop_in_the_moment_of_beginning_costs_nothing(asked: Asked) -> None:
    """The task was not given a turn yet: it must end all the same."""

    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/slow"))).run_id
        await opened.stop(run_id)
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    assert (one(frames, "run.finished")["finish_reason"], one(frames, "settled")["cost_micro_rub"]) == (
        "cancelled", 0,
    )  # fmt: skip
    assert (Run.objects.get(id=run_id).state, Hold.objects.get(id=run_id).status) == ("stopped", "released")


def test_stop_in_the_middle_is_charged_for_the_delivered_part(asked: Asked) -> None:
    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/slow"))).run_id
        await after_frames(opened, run_id, 6)
        await opened.stop(run_id)
        await opened.stop(run_id)  # twice is once
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    run = Run.objects.get(id=run_id)
    assert (run.state, run.estimated) == ("stopped", True)
    assert 0 < run.cost_micro_rub == one(frames, "settled")["cost_micro_rub"] < run.hold_micro_rub
    assert LedgerEntry.objects.filter(customer_id=run.customer_id, type="usage_debit").count() == 1


def test_stop_reaches_the_process_that_executes(asked: Asked) -> None:
    async def work(opened: Engine) -> Frames:
        other = Engine()
        run_id = (await opened.start(asked("fault/slow"))).run_id
        await after_frames(opened, run_id, 5)
        while run_id in opened.runs:  # what is said before it listens is lost
            for message in (b"garbage", b"{}", b'{"stop":"nobody"}'):
                await opened.redis.publish(CONTROL_CHANNEL, message)
            await other.stop(run_id)
            await asyncio.sleep(0.05)
        frames = await told(other, run_id)
        await other.close()
        return frames

    assert one(with_engine(work), "run.finished")["finish_reason"] == "cancelled"


def test_leases_do_not_wait_for_the_look_up_of_keys(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that is under way does not keep a revoked key's run going, nor the other way round."""
    monkeypatch.setattr(engine, "KEY_POLL_SECONDS", 0.05)
    request = asked("fault/slow")
    row, _ = factories.api_key(User.objects.get(pk=request.customer_id))
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=clock.now())

    async def work(opened: Engine) -> Frames:
        async with opened._leases._connecting:
            run_id = (await opened.start(replace(request, api_key_id=row.pk))).run_id
            return await told(opened, run_id)

    assert one(with_engine(work), "run.finished")["finish_reason"] == "cancelled"


def test_quiet_run_says_that_it_is_alive(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PING_SECONDS", 0.4)

    async def work(opened: Engine) -> Frames:
        run_id = (await opened.start(asked("fault/hang"))).run_id
        await after_frames(opened, run_id, 4)
        await opened.stop(run_id)
        return await told(opened, run_id)

    frames = with_engine(work)

    assert types(frames)[:4] == ["run.accepted", "route", "stage.started", "ping"]
    assert frames[-1]["finish_reason"] == "cancelled"
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))


def test_lease_and_hold_are_renewed_while_the_run_lives(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LEASE_RENEWAL_SECONDS", 0.2)

    async def work(opened: Engine) -> tuple[Any, Any]:
        run_id = (await opened.start(asked("fault/slow"))).run_id
        query = (
            "SELECT r.lease_until, h.expires_at FROM orchestration_run r JOIN billing_hold h USING (id)"
            " WHERE r.id = %s"
        )
        first = second = await opened._reads.one(query, [run_id])
        while second == first and run_id in opened.runs:
            await asyncio.sleep(0.05)
            second = await opened._reads.one(query, [run_id])
        await opened.stop(run_id)
        await told(opened, run_id)
        return first, second

    first, second = with_engine(work)

    assert second["lease_until"] > first["lease_until"]
    assert second["expires_at"] > first["expires_at"]


def test_answer_that_could_not_be_charged_is_told_again_as_before(asked: Asked, settings: Settings) -> None:
    """Its hold is over. What is kept with a charge is kept by itself; what it cost us is in the usage."""
    settings.HOLD_SECONDS = 0

    async def twice(opened: Engine) -> tuple[list[bytes], list[bytes]]:
        request = asked(stream=False)
        first = await opened.whole_story((await opened.start(request)).run_id)
        return first, await opened.whole_story((await opened.start(request)).run_id)

    first, again = with_engine(twice)

    assert orjson.loads(first[-1])["code"] == "settle_expired"
    assert again == first
    usage = UsageEvent.objects.get(run_id=orjson.loads(first[0])["run_id"])
    assert (usage.charged_micro_rub, usage.ledger_entry_id) == (0, None)
    assert usage.cost_micro_rub > 0


def test_steps_alone_bring_planner_settings_and_look_ups_do_not() -> None:
    """Some look-ups read a small table whole; forbidden to, PostgreSQL before 18 would compile them."""

    async def settings_of(opened: Engine) -> list[str]:
        addresses = (opened._opens._conninfo, opened._settles._conninfo, opened._sign_ins._conninfo)
        return [str(conninfo_to_dict(address)["options"]) for address in addresses]

    opens, settles, sign_ins = with_engine(settings_of)

    assert PLANS in opens
    assert PLANS in settles
    assert "enable_seqscan" not in sign_ins


def test_answer_whose_settlement_was_answered_twice_is_told_again_as_before(asked: Asked) -> None:
    async def twice(opened: Engine) -> tuple[list[bytes], list[bytes]]:
        request = asked(stream=False)
        async with lossy_way(opened.conninfo) as way:
            opened._settles._conninfo = way.conninfo
            run_id = (await opened.start(request)).run_id
            way.word = str(run_id).encode()
            first = await opened.whole_story(run_id)
            assert way.is_cut.is_set()
            await opened._settles.close()
        return first, await opened.whole_story((await opened.start(request)).run_id)

    first, again = with_engine(twice)

    assert orjson.loads(first[-1])["type"] == "run.finished"
    assert again == first
    assert (
        LedgerEntry.objects.filter(type="usage_debit", hold_id=orjson.loads(first[0])["run_id"]).count() == 1
    )


def test_endless_stream_is_cut_and_charged_for_no_more_than_was_asked(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_chat, "SPARE_BYTES", 2**17)

    async def asking(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/endless", max_output_tokens=100))).run_id
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(asking)

    assert types(frames)[-5:] == ["delta", "usage", "stage.finished", "settled", "error"]
    assert frames[-1]["code"] == "answer_too_long"
    assert one(frames, "usage")["usage"]["output_tokens"] == 100 < len(text_of(frames))
    run = Run.objects.get(id=run_id)
    assert 0 < run.cost_micro_rub < run.hold_micro_rub
    assert frames[-1]["charged_micro_rub"] == run.cost_micro_rub


def test_endless_answer_in_one_is_free_and_another_model_answers(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_chat, "SPARE_BYTES", 2**17)

    async def asking(opened: Engine) -> Frames:
        request = asked("fault/endless", stream=False, models=("fault/endless", "sandbox/small"))
        return [orjson.loads(line) for line in await opened.whole_story((await opened.start(request)).run_id)]

    frames = with_engine(asking)

    assert one(frames, "fallback")["class"] == "answer_too_long"
    assert one(frames, "stage.finished")["model"] == "sandbox/small"
    assert Attempt.objects.get(run_id=frames[0]["run_id"], model="fault/endless").cost_micro_rub == 0


def test_answer_in_one_that_was_taken_over_is_told_by_the_sweep_alone(asked: Asked) -> None:
    def take_over(run_id: UUID) -> None:
        Run.objects.filter(id=run_id).update(lease_until=clock.now())
        sweep.sweep(now=clock.now())
        connection.close()

    async def follow(opened: Engine) -> tuple[UUID, list[bytes]]:
        run_id = (await opened.start(asked("fault/hang", stream=False))).run_id
        await asyncio.to_thread(take_over, run_id)
        reader = asyncio.create_task(opened.whole_story(run_id))
        await opened.stop(run_id)
        return run_id, await reader

    run_id, frames = with_engine(follow)

    assert [orjson.loads(frame)["type"] for frame in frames] == ["settled", "error"]
    assert b"".join(frames).decode() == RunFrames.objects.get(run_id=run_id).frames


def test_reader_elsewhere_is_told_the_end_of_a_story_that_was_kept_shorter(asked: Asked) -> None:
    """The sweep counted from fewer frames than the woken owner wrote afterwards."""
    run_id = uuid7()
    frames = [f'{{"run_id":"{run_id}","seq":{seq},"type":"delta"}}\n'.encode() for seq in range(1, 6)]
    end = f'{{"run_id":"{run_id}","seq":3,"type":"error"}}\n'
    RunFrames.objects.create(
        run_id=run_id, customer_id=uuid7(), frames=b"".join(frames[:2]).decode() + end, created_at=clock.now()
    )

    async def follow(opened: Engine) -> list[bytes]:
        await opened.redis.xadd(stream_key(run_id), {"f": b"".join(frames)}, id="5-0")
        groups = opened._follow_elsewhere(run_id, 1, lacks_end=False)
        return [frame async for group in groups for frame in group or ()]

    assert with_engine(follow) == [*frames[1:], end.encode()]


@pytest.fixture
def _no_redis(settings: Settings) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock?db=0"


@pytest.mark.usefixtures("_no_redis")
def test_reader_elsewhere_waits_for_the_archive_while_redis_is_away() -> None:
    run = make_run(factories.customer())
    story = b'{"seq":2,"type":"run.finished"}\n'

    def archive() -> None:
        RunFrames.objects.create(
            run_id=run.id, customer_id=run.customer_id, frames=f"1\n{story.decode()}", created_at=clock.now()
        )
        connection.close()

    async def follow(opened: Engine) -> list[list[bytes] | None]:
        groups = opened.follow(run.id, 1)
        found = [await anext(groups)]
        await asyncio.to_thread(archive)
        return found + [group async for group in groups]

    assert with_engine(follow) == [None, [story]]


@pytest.mark.usefixtures("_no_redis")
def test_story_that_only_redis_may_have_is_not_lost_while_redis_is_away() -> None:
    run = make_run(factories.customer(), finished_at=clock.now() - timedelta(seconds=LOST_SECONDS + 1))

    with pytest.raises(Unavailable):
        with_engine(lambda opened: opened.whole_story(run.id))


async def _groups(*groups: list[bytes] | None) -> Groups:
    for group in groups:
        yield group


def test_first_frames_of_a_finished_run_are_waited_for() -> None:
    """A story that has nothing new for the reader is no lost story."""
    assert asyncio.run(doors._first(_groups(None, None, [b"1"], [b"2"]))) == [b"1"]
    assert asyncio.run(doors._first(_groups(None, []))) == []
    with pytest.raises(FramesGone):
        asyncio.run(doors._first(_groups(None, None)))


def test_hundreds_of_readers_elsewhere_wait_side_by_side() -> None:
    """The pool of the client gives a hundred connections by itself."""

    async def follow(opened: Engine) -> None:
        await asyncio.gather(*(anext(opened.frames.follow(uuid7(), 0)) for _ in range(300)))

    with capture_logs() as said:
        with_engine(follow)

    assert "MaxConnectionsError" not in {line.get("error") for line in said}


def test_fault_of_ours_is_an_end_without_a_charge(asked: Asked) -> None:
    """The snapshot has lost the provider's address between plan and call."""
    catalogue._snapshot = replace(catalogue.current(), base_urls={})

    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked())).run_id
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    assert (frames[-1]["code"], frames[-1]["charged_micro_rub"]) == ("internal_error", 0)
    assert (Run.objects.get(id=run_id).state, Hold.objects.get(id=run_id).status) == ("failed", "released")
    assert not UsageEvent.objects.filter(run_id=run_id).exists()


def test_run_has_a_total_limit(asked: Asked) -> None:
    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/slow"))).run_id
        await let_time_pass(opened, run_id)
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    run = Run.objects.get(id=run_id)
    assert (run.state, frames[-1]["code"]) == ("failed", "timeout_total")
    assert text_of(frames)
    assert run.cost_micro_rub < run.hold_micro_rub


@pytest.mark.parametrize(
    ("stream", "first", "whole", "code", "attempts"),
    [
        (True, 20, 1, "timeout_total", [("stopped", "")]),
        (False, 0.2, 1.5, "timeout_total", [("stopped", "")]),  # its silence is no fault
        (True, 0.2, 20, "timeout_first", [("failed", "timeout_first")] * 2),
    ],
)
def test_provider_that_never_answers_is_left(
    asked: Asked,
    settings: Settings,
    stream: bool,
    first: float,
    whole: float,
    code: str,
    attempts: list[tuple[str, str]],
) -> None:
    settings.PLYRUM_FIRST_TOKEN_SECONDS, settings.PLYRUM_RUN_SECONDS = first, whole

    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/hang", stream=stream))).run_id
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    kept = Attempt.objects.filter(run_id=run_id).order_by("number")
    assert frames[-1]["code"] == code
    assert list(kept.values_list("status", "error_class")) == attempts
    assert frames[-1]["charged_micro_rub"] == one(frames, "settled")["cost_micro_rub"] == 0
    assert one(frames, "settled")["balance_micro_rub"] == 100 * RUB
    assert not UsageEvent.objects.filter(run_id=run_id).exists()


@pytest.mark.parametrize("stream", [True, False])
def test_nobody_is_asked_again_when_the_time_of_the_run_is_over(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(execution, "RETRY_PAUSE_SECONDS", 20)

    async def work(opened: Engine) -> tuple[UUID, Frames]:
        run_id = (await opened.start(asked("fault/500", stream=stream))).run_id
        await let_time_pass(opened, run_id)
        return run_id, await told(opened, run_id)

    run_id, frames = with_engine(work)

    assert frames[-1]["code"] == "timeout_total"
    assert list(Attempt.objects.filter(run_id=run_id).values_list("status", "error_class")) == [
        ("failed", "retry_same")
    ]


@pytest.mark.parametrize(("model", "calls"), [("fault/500", 4), ("fault/503", 1), ("fault/400", 1)])
def test_keys_are_tried_as_the_class_allows(asked: Asked, model: str, calls: int) -> None:
    """Two keys: 500 is tried twice with each; an overloaded provider and a wrong request once."""

    async def work(opened: Engine) -> UUID:
        run_id = (await opened.start(asked(model))).run_id
        await told(opened, run_id)
        return run_id

    attempts = Attempt.objects.filter(run_id=with_engine(work)).order_by("number")

    assert [attempt.number for attempt in attempts] == list(range(1, calls + 1))
    assert {attempt.status for attempt in attempts} == {"failed"}
    keys = [attempt.key_fingerprint for attempt in attempts]
    assert len(set(keys)) == (2 if calls == 4 else 1)


def test_customers_mistake_is_not_carried_to_another_model(asked: Asked) -> None:
    async def work(opened: Engine) -> Frames:
        request = asked(models=("fault/400", "sandbox/small"))
        return await told(opened, (await opened.start(request)).run_id)

    frames = with_engine(work)

    assert "fallback" not in types(frames)
    assert (frames[-1]["code"], frames[-1]["retryable"]) == ("request_invalid", False)


def test_reader_of_a_kept_run_begins_anywhere(asked: Asked) -> None:
    async def work(opened: Engine) -> tuple[Frames, Frames, Frames]:
        run_id = (await opened.start(asked("bench/20"))).run_id
        whole = await told(opened, run_id)
        while await opened._archived(run_id) is None:
            await asyncio.sleep(0.01)
        return whole, await told(opened, run_id, 4), await told(opened, run_id, 10_000)

    whole, some, none = with_engine(work)

    assert some == whole[4:]
    assert none == []


def test_run_that_nobody_knows_has_no_frames(asked: Asked) -> None:
    assert with_engine(lambda opened: told(opened, uuid7())) == []


def test_outside_the_server_there_is_no_engine() -> None:
    with pytest.raises(Unavailable):
        engine.engine()
