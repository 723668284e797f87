"""Limits of spending in the engine: refused before anything is spent, judged anew for every request."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from pytest_django import Settings

from accounts.models import Notice, User
from auditlog.actors import Actor
from billing import ledger, limit_alerts, limits, policies
from billing.errors import DebtOutstanding, RequestLimitExceeded, SpendingBlocked, SpendLimitReached
from billing.limit_models import Window
from billing.models import Hold
from orchestration import admission, catalogue
from orchestration.engine import Engine
from orchestration.models import Run
from orchestration.shapes import RunRequest
from plyrum import clock
from plyrum.errors import TooManyRequests
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.billing import books
from tests.orchestration.conftest import RUB, one
from tests.orchestration.test_engine import told, with_engine
from tests.sandbox_process import SandboxProcess

WHY = "Проверка расходов"
Asked = Callable[..., RunRequest]


@pytest.fixture(autouse=True)
def _at_the_sandbox(sandbox: SandboxProcess, settings: Settings) -> Iterator[None]:
    settings.PLYRUM_SANDBOX_URL = sandbox.url
    catalogue._snapshot = None  # the addresses of the tests' sandbox are read
    catalogue.refresh()
    yield
    catalogue._snapshot = None


@pytest.fixture
def user() -> User:
    found = factories.customer()
    books.credit(found.id, 1000 * RUB)
    return found


@pytest.fixture
def asked(user: User) -> Asked:
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


def own(user: User, **amounts: int) -> None:
    wanted = {Window(name): amount for name, amount in amounts.items()}
    limits.set_own(customer_id=user.id, limits=wanted, now=clock.now(), actor=Actor.customer(user.id))


async def in_thread(act: Callable[..., object], **facts: Any) -> None:
    """Another process's act: committed on a connection of its own."""

    def go() -> None:
        try:
            act(**facts)
        finally:
            connection.close()

    await asyncio.to_thread(go)


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except (
        SpendLimitReached,
        SpendingBlocked,
        DebtOutstanding,
        RequestLimitExceeded,
        TooManyRequests,
    ) as error:
        return error


async def until_learnt(opened: Engine, asked: RunRequest, wanted: Callable[[Any], bool]) -> None:
    while not wanted(await opened.admission.policy(asked)):
        await asyncio.sleep(0.01)


def test_parallel_runs_share_what_is_left_and_a_refusal_leaves_nothing(user: User, asked: Asked) -> None:
    """Regressions: "balance checked before and taken after the call", "limit flag that nothing clears"."""
    second = asked()

    async def work(opened: Engine) -> tuple[int, list[Any], Any]:
        first = await opened.start(asked("fault/slow"))  # before the limit: not counted
        hold = opened.runs[first.run_id].held_micro_rub
        await in_thread(own, user=user, day=hold + hold // 2)
        await until_learnt(opened, second, lambda policy: bool(policy.limits))
        counted = await opened.start(asked("fault/slow"))
        refused = await asyncio.gather(outcome(opened.start(second)), outcome(opened.start(asked())))
        for run_id in (first.run_id, counted.run_id):
            await opened.stop(run_id)
            await told(opened, run_id)
        again = await opened.start(second)
        await told(opened, again.run_id)
        return hold, list(refused), again

    hold, refused, again = with_engine(work)

    assert [type(error) for error in refused] == [SpendLimitReached] * 2
    facts = refused[0].extra
    assert (facts["subject_kind"], facts["window"]) == ("user", "day")
    assert facts["limit_micro_rub"] == hold + hold // 2
    assert facts["used_micro_rub"] == hold
    assert facts["resets_at"] > clock.rfc3339(clock.now())
    assert refused[0].retry_after_seconds >= 1
    assert not again.is_replay  # nothing was kept of the refusal: the key was free
    assert Run.objects.filter(customer_id=user.id).count() == 3
    (meter,) = policies.meters(policies.of(user.id, now=clock.now()), now=clock.now())
    charged = Run.objects.filter(customer_id=user.id).values_list("cost_micro_rub", flat=True)
    assert meter.reserved_micro_rub == 0
    assert meter.spent_micro_rub <= sum(charged)  # but for the run that began before the limit
    books.assert_right(user.id)


def test_refused_run_makes_the_last_letter_of_its_window_due(user: User, asked: Asked) -> None:
    own(user, month=1)

    async def work(opened: Engine) -> list[Any]:
        return [await outcome(opened.start(asked())) for _ in range(2)]

    refused = with_engine(work)
    for _ in range(2):
        limit_alerts.write(now=clock.now())

    assert [type(error) for error in refused] == [SpendLimitReached] * 2
    notice = Notice.objects.get(user_id=user.id, letter="limit_reached")
    assert (notice.facts["mark"], notice.facts["spent_micro_rub"]) == (100, 0)


def test_limit_lowered_during_a_call_settles_it_and_stops_the_next(user: User, asked: Asked) -> None:
    own(user, day=500 * RUB, request=400 * RUB)

    async def work(opened: Engine) -> tuple[UUID, Any, Any]:
        first = (await opened.start(asked("bench/20-5"))).run_id
        await in_thread(own, user=user, day=1)
        await until_learnt(opened, asked(), lambda policy: len(policy.limits) == 1)
        frames = await told(opened, first)
        refused = await outcome(opened.start(asked()))
        return first, one(frames, "settled"), refused

    first, settled, refused = with_engine(work)

    assert settled["cost_micro_rub"] > 0
    assert Hold.objects.get(pk=first).status == "captured"
    assert isinstance(refused, SpendLimitReached)
    assert refused.extra["used_micro_rub"] == settled["cost_micro_rub"]  # counted, or spent before the limit


def test_stop_of_spending_refuses_the_next_and_answers_the_known(user: User, asked: Asked) -> None:
    operator = Actor.operator(factories.operator().id)
    known = asked()

    async def work(opened: Engine) -> tuple[Any, ...]:
        first = await opened.start(known)
        await told(opened, first.run_id)
        await in_thread(limits.block, customer_id=user.id, reason=WHY, now=clock.now(), actor=operator)
        await until_learnt(opened, known, lambda policy: policy.is_blocked)
        refused, replay = await outcome(opened.start(asked())), await opened.start(known)
        free = await opened.start(asked(unlimited=True))
        await told(opened, free.run_id)
        return first, refused, replay

    first, refused, replay = with_engine(work)

    assert isinstance(refused, SpendingBlocked)
    assert (replay.run_id, replay.is_replay) == (first.run_id, True)


def test_debt_stops_spending_until_what_comes_in_has_repaid_it(user: User, asked: Asked) -> None:
    payment_id = uuid7()

    async def work(opened: Engine) -> tuple[Any, Any]:
        await in_thread(charge_back, user=user, payment_id=payment_id, amount=1500 * RUB)
        opened.admission.forget(str(user.id))
        refused = await outcome(opened.start(asked()))
        await in_thread(pay_in, user=user, amount=700 * RUB)
        opened.admission.forget(str(user.id))
        allowed = await opened.start(asked())
        await told(opened, allowed.run_id)
        return refused, allowed

    refused, allowed = with_engine(work)

    assert isinstance(refused, DebtOutstanding)
    assert refused.extra == {"debt_micro_rub": 500 * RUB}
    assert not allowed.is_replay
    assert policies.of(user.id, now=clock.now()).debt_micro_rub == 0
    books.assert_right(user.id)


def charge_back(user: User, payment_id: UUID, amount: int) -> None:
    with transaction.atomic():
        ledger.charge_back(
            customer_id=user.id, payment_id=payment_id, dispute_id=str(payment_id), amount_micro_rub=amount,
            effective_at=clock.now(),
        )  # fmt: skip


def pay_in(user: User, amount: int) -> None:
    with transaction.atomic():
        ledger.adjust(
            entry_id=uuid7(), customer_id=user.id, amount_micro_rub=amount, key=str(uuid7()), source_id="test"
        )


def test_one_request_is_compared_with_its_worst_case(
    user: User, asked: Asked, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "REDIS_SECONDS", 20)  # a slow call must not lead to the local buckets
    own(user, request=1)
    settings.PLYRUM_ENFORCE_REQUEST_RATES = True
    rates = policies.of(user.id, now=clock.now()).rates

    async def work(opened: Engine) -> tuple[Any, Any]:
        refused = await outcome(opened.start(asked()))
        await sync_to_async(throttles.drain, thread_sensitive=False)(rates[0], str(user.id))
        opened.admission._portions.clear()
        return refused, await outcome(opened.start(asked()))

    refused, too_often = with_engine(work)

    assert isinstance(refused, RequestLimitExceeded)
    assert refused.extra["needed_micro_rub"] > refused.extra["limit_micro_rub"] == 1
    assert isinstance(too_often, TooManyRequests)
    assert not Run.objects.filter(customer_id=user.id).exists()
