"""How often one may ask, and what is remembered of a customer's policy: in the engine and at other doors."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest
from django.db import connection
from django.test import Client
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from pytest_django import Settings
from redis.asyncio import Redis

from accounts import throttling
from accounts.models import User
from accounts.throttling import Limit
from auditlog.actors import Actor
from billing import limits, policies, windows
from billing.limit_models import Window
from orchestration import admission
from orchestration.admission import Admission
from orchestration.engine import conninfo
from orchestration.look_ups import Reader
from orchestration.shapes import RunRequest
from plyrum import clock
from plyrum.errors import TooManyRequests
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.threads import at_once

T = TypeVar("T")
NOWHERE = "redis://127.0.0.1:1/0"  # every connection is refused
RATES = (Limit("tests-minute", 40, 3600), Limit("tests-hour", 60, 24 * 3600))


def with_admissions(work: Callable[..., Awaitable[T]], settings: Settings, *urls: str) -> T:
    """Run `work` with one admission, as of one process, for each address of Redis."""

    async def go() -> T:
        reads = [Reader(conninfo()) for _ in urls]
        stores = [Redis.from_url(url or settings.REDIS_URL) for url in urls]
        try:
            pairs = zip(reads, stores, strict=True)
            async with asyncio.timeout(30):
                return await work(*(Admission(read, store) for read, store in pairs))
        finally:
            for read, store in zip(reads, stores, strict=True):
                await read.close()
                await store.aclose()

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def _enforced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PLYRUM_ENFORCE_REQUEST_RATES = True
    # One slow call must not change what is answered.
    monkeypatch.setattr(admission, "REDIS_SECONDS", 20)
    monkeypatch.setattr(admission, "FRESH_SECONDS", 60)


async def passed(*calls: Awaitable[None]) -> int:
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(answer is None or isinstance(answer, TooManyRequests) for answer in answers), answers
    return answers.count(None)


def test_two_processes_let_pass_exactly_what_the_rate_allows(settings: Settings) -> None:
    """Portions are taken out of the shared buckets before they are used: together never one too many."""
    customer = uuid7()

    async def work(one: Admission, two: Admission) -> int:
        return await passed(*(each.admit(customer, RATES) for _ in range(100) for each in (one, two)))

    assert with_admissions(work, settings, "", "") == 40


def test_rate_is_taken_in_one_step_not_read_and_then_written() -> None:
    """What the atomic script is for: who reads first and writes later lets two pass where one may."""
    redis, key, both = get_redis_connection(), f"control:{uuid7()}", Barrier(2)
    redis.set(key, 1, ex=60)

    def careless() -> bool:
        left = int(redis.get(key))
        both.wait()
        redis.set(key, left - 1, ex=60)
        return left > 0

    def atomic() -> bool:
        return throttling.take(Limit("tests-one", 1, 3600), key).is_allowed

    assert Counter(at_once(2, careless)) == {True: 2}
    assert Counter(at_once(2, atomic)) == {True: 1, False: 1}


def test_without_redis_a_smaller_local_rate_holds(settings: Settings) -> None:
    customer = uuid7()

    async def work(one: Admission) -> int:
        return await passed(*(one.admit(customer, RATES) for _ in range(100)))

    assert with_admissions(work, settings, NOWHERE) == 8  # a fifth


def test_refusal_says_the_limit_and_when_to_come_back(settings: Settings) -> None:
    customer = uuid7()
    throttles.drain(RATES[1], str(customer))

    async def work(one: Admission) -> list[TooManyRequests]:
        refusals = []
        for _ in range(2):
            with pytest.raises(TooManyRequests) as refused:
                await one.admit(customer, RATES)
            refusals.append(refused.value)
        throttles.refill(RATES[1], str(customer))
        with pytest.raises(TooManyRequests):  # remembered: who is refused does not cost a call each time
            await one.admit(customer, RATES)
        one.forget(policies.EVERYBODY)
        await one.admit(customer, RATES)
        return refusals

    first, second = with_admissions(work, settings, "")

    assert first.limit == second.limit == 60
    assert first.retry_after_seconds == second.retry_after_seconds
    assert (first.retry_after_seconds or 0) > 3600


def asked(user: User) -> RunRequest:
    return RunRequest(
        customer_id=user.id, idempotency_key="", fingerprint="", surface="api", messages=(), mode="auto",
        profile="balanced", models=(), max_output_tokens=None, temperature=None, reasoning_effort=None,
        max_cost_micro_rub=None, stream=True, accepted_terms=(),
    )  # fmt: skip


def test_policy_is_asked_once_and_again_when_it_changed(settings: Settings) -> None:
    user = factories.customer()

    async def work(one: Admission) -> tuple[int, list[tuple[str, ...]]]:
        many = await asyncio.gather(*(one.policy(asked(user)) for _ in range(50)))
        await asyncio.to_thread(set_day, user)
        remembered = await one.policy(asked(user))
        one.forget(str(uuid7()))  # of somebody else
        still = await one.policy(asked(user))
        one.forget(str(user.id))
        changed = await one.policy(asked(user))
        found = [
            tuple(limit.window.value for limit in policy.limits) for policy in (remembered, still, changed)
        ]
        return len({id(policy) for policy in many}), found

    assert with_admissions(work, settings, "") == (1, [(), (), ("day",)])


def test_lift_is_not_remembered_beyond_its_window(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, actor = factories.customer(), Actor.operator(factories.operator().id)
    ends = windows.end_of(Window.HOUR, clock.now())
    moments = [ends - timedelta(milliseconds=1)]
    monkeypatch.setattr(clock, "now", lambda: moments[-1])
    of_hour: dict[str, Any] = {
        "subject": f"user:{user.id}",
        "window": Window.HOUR,
        "reason": "Ждём оплату",
        "actor": actor,
    }
    limits.set_limit(limit_micro_rub=1, now=clock.now(), **of_hour)
    limits.lift(now=clock.now(), **of_hour)

    async def work(one: Admission) -> list[bool]:
        before = await one.policy(asked(user))
        moments.append(ends)
        await asyncio.sleep(0.01)
        return [policy.limits[0].is_lifted for policy in (before, await one.policy(asked(user)))]

    assert with_admissions(work, settings, "") == [True, False]


def test_memory_is_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_KNOWN", 2)
    users = [factories.customer() for _ in range(4)]

    async def work(one: Admission) -> tuple[int, int]:
        for user in users:
            await one.admit(user.id, (await one.policy(asked(user))).rates)
        return len(one._known), len(one._portions)

    assert with_admissions(work, settings, "") == (2, 2)


def set_day(user: User) -> None:
    """In a thread of its own, so with a connection of its own."""
    actor = Actor.customer(user.id)
    limits.set_own(customer_id=user.id, limits={Window.DAY: 1}, now=clock.now(), actor=actor)
    connection.close()


def test_failed_look_up_is_not_remembered(settings: Settings) -> None:
    user = factories.customer()

    async def work(one: Admission) -> str:
        good, one._reads._conninfo = one._reads._conninfo, "host=127.0.0.1 port=1 connect_timeout=1"
        with pytest.raises(Exception, match="refused"):
            await one.policy(asked(user))
        one._reads._conninfo = good
        return (await one.policy(asked(user))).tier

    assert with_admissions(work, settings, "") == "free"


def test_other_doors_spend_the_same_tokens(settings: Settings) -> None:
    client, user = Client(), factories.customer()
    bearer = factories.bearer(user)
    body = {"prompt": "Привет", "model": "sandbox/small"}
    first = client.post("/api/runs/estimate", body, content_type="application/json", headers=bearer)
    throttles.drain(policies.of(user.id, now=clock.now()).rates[0], str(user.id))

    answers = {
        "estimate": client.post("/api/runs/estimate", body, content_type="application/json", headers=bearer),
        "checkout": client.post(
            "/api/payments/checkout",
            {"amount_rub": 500, "accept_terms": True},
            content_type="application/json",
            headers=bearer,
        ),
        "ledger": client.get("/api/billing/ledger/export", headers=bearer),
        "usage": client.get("/api/usage/export", headers=bearer),
    }

    assert first.status_code == 200
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 429)
    assert {answer.json()["code"] for answer in answers.values()} == {"rate_limited"}
    shown = answers["estimate"].headers
    assert (shown["X-RateLimit-Limit"], shown["X-RateLimit-Remaining"]) == ("30", "0")
    assert 0 < int(shown["Retry-After"]) == int(shown["X-RateLimit-Reset"]) <= 60
    client.force_login(user)
    question = {"text": "Привет", "model": "auto"}
    hint = client.post("/app/chat/estimate", question)
    assert (hint.status_code, hint.json()["code"]) == (429, "rate_limited")
    settings.PLYRUM_ENFORCE_REQUEST_RATES = False
    assert client.get("/api/usage/export", headers=bearer).status_code == 200
