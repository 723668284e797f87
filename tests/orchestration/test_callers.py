"""Who is calling the engine: remembered for seconds; who runs for nothing; which offer counts."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from pytest_django import Settings
from structlog.testing import capture_logs
from time_machine import TimeMachineFixture

from accounts import blocking, key_secrets, superaccount
from accounts.credentials import Credential
from accounts.errors import KeyExpired, KeyInvalid, KeyRevoked, SessionEnded, TokenExpired
from accounts.models import ApiKey, RefreshFamily, User
from auditlog.actors import SYSTEM
from billing.models import Hold, LedgerEntry, UsageEvent
from legal.errors import TermsOutdated
from orchestration import callers, catalogue
from orchestration.callers import Callers
from orchestration.database_connection import Row
from orchestration.engine import conninfo
from orchestration.look_ups import Parameters, Reader
from orchestration.models import Run
from plyrum import clock
from plyrum.errors import Unauthenticated
from plyrum.ids import uuid7
from tests import factories
from tests.orchestration.conftest import Client, one, text_of
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

ENDED_WITHIN_SECONDS = callers.ALIVE_SECONDS + 30  # and the time of a slow machine


def ask(*authorizations: str) -> tuple[Callers, list[Credential]]:
    """What the engine would be told of these headers, one after the other, and who it then remembers."""

    async def answers() -> tuple[Callers, list[Credential]]:
        reads = Reader(conninfo())
        asked = Callers(reads)
        try:
            return asked, [await asked.credential(header) for header in authorizations]
        finally:
            await reads.close()

    return asyncio.run(answers())


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dGVzdA==", "Token abc", "bearer"])
def test_header_without_a_bearer_token_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        ask(header)

    assert refused.value.code == "unauthenticated"


@pytest.mark.parametrize("token", ["x", "a.b.c", "plk_" + "0" * 40, "é" * 10])
def test_token_that_is_not_ours_is_refused_each_time(token: str) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            ask(f"Bearer {token}")


def test_caller_is_remembered_by_digest_only() -> None:
    user = factories.customer()
    token = factories.access_token(user)

    asked, (first, second) = ask(f"Bearer {token}", f"bearer {token}")

    assert first is second
    assert all(isinstance(key, bytes) and len(key) == 32 for key in asked._known)
    assert token not in repr(asked._known)


def test_memory_has_an_upper_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MOST_KNOWN", 2)

    asked, _ = ask(*(f"Bearer {factories.access_token(factories.customer())}" for _ in range(4)))

    assert len(asked._known) == 2


def test_many_requests_with_one_token_ask_once_and_each_is_answered() -> None:
    token = factories.access_token(factories.customer())

    async def together() -> tuple[int, set[int]]:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        one_that_leaves = asyncio.create_task(asked.credential(f"Bearer {token}"))
        await asyncio.sleep(0)
        others = [asyncio.create_task(asked.credential(f"Bearer {token}")) for _ in range(20)]
        await asyncio.sleep(0)
        one_that_leaves.cancel()
        answers = await asyncio.gather(*others)
        await reads.close()
        return reads.count, {id(answer) for answer in answers}

    count, answers = asyncio.run(together())
    assert count == 1
    assert len(answers) == 1


def test_token_is_refused_the_moment_its_time_is_over(time_machine: TimeMachineFixture) -> None:
    token = factories.access_token(factories.customer())

    async def later() -> None:
        reads = Reader(conninfo())
        asked = Callers(reads)
        await asked.credential(f"Bearer {token}")
        time_machine.move_to(clock.now() + timedelta(seconds=settings.ACCESS_TOKEN_TTL + 1))
        try:
            with pytest.raises(TokenExpired):
                await asked.credential(f"Bearer {token}")
        finally:
            await reads.close()

    asyncio.run(later())


def test_refusal_is_remembered_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "ALIVE_SECONDS", 60)  # more than the loop takes on a slow machine
    user = factories.customer()
    token = factories.access_token(user)

    def switch(*, is_active: bool) -> None:
        User.objects.filter(pk=user.pk).update(is_active=is_active)
        connection.close()  # the thread's own

    async def blocked_then_free() -> None:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        try:
            await sync_to_async(switch)(is_active=False)
            refusals = []
            for _ in range(20):
                with pytest.raises(SessionEnded) as refused:
                    await asked.credential(f"Bearer {token}")
                refusals.append(refused.value)
            assert reads.count == 1
            assert len({id(refusal) for refusal in refusals}) == 20  # no raise adds its frames to another's
            await sync_to_async(switch)(is_active=True)
            ((digest, refusal),) = asked._refused.items()
            now = asyncio.get_running_loop().time()
            assert refusal.until <= now + 60
            asked._refused[digest] = replace(refusal, until=now)  # its time is over
            assert (await asked.credential(f"Bearer {token}")).user_id == user.pk
        finally:
            await reads.close()

    asyncio.run(blocked_then_free())


@pytest.mark.parametrize("is_over", ["revoked_at", "expires_at"])
def test_loop_with_an_ended_key_asks_once(is_over: str) -> None:
    row, headers = factories.api_key(factories.customer())
    ApiKey.objects.filter(pk=row.pk).update(**{is_over: clock.now()})

    async def loop() -> int:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        for _ in range(20):
            with pytest.raises((KeyRevoked, KeyExpired)):
                await asked.credential(headers["Authorization"])
        await reads.close()
        return reads.count

    with capture_logs() as said:
        assert asyncio.run(loop()) == 1
    reason = "key_revoked" if is_over == "revoked_at" else "key_expired"
    told = [line for line in said if line["event"] == "api_key_refused"]
    assert [(line["reason"], line["public_id"]) for line in told] == [(reason, row.public_id)]


def test_refusals_push_out_nobody_and_have_an_upper_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MOST_KNOWN", 2)
    good = f"Bearer {factories.access_token(factories.customer())}"

    async def attacked() -> tuple[int, int]:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        await asked.credential(good)
        for _ in range(5):
            with pytest.raises(KeyInvalid):
                await asked.credential(f"Bearer {key_secrets.make().text}")
        before = reads.count
        await asked.credential(good)
        await reads.close()
        return reads.count - before, len(asked._refused)

    assert asyncio.run(attacked()) == (0, 2)


def test_database_that_was_away_is_not_remembered() -> None:
    token = factories.access_token(factories.customer())

    class Away(Reader):
        count = 0

        async def one(self, query: LiteralString, parameters: Parameters) -> Row | None:
            self.count += 1
            raise psycopg.OperationalError("The database does not answer.")

    async def asked_twice() -> int:
        reads = Away(conninfo())
        asked = Callers(reads)
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                await asked.credential(f"Bearer {token}")
            await asyncio.sleep(0)
        return reads.count

    assert asyncio.run(asked_twice()) == 2


class CountedReader(Reader):
    """A reader that says how often it asked the database."""

    count = 0

    async def one(self, query: LiteralString, parameters: Parameters) -> Row | None:
        self.count += 1
        return await super().one(query, parameters)


def lost_after(client: Client, act: Callable[[], object]) -> None:
    """The lean path refuses the token soon after the act; it was good and remembered before."""
    path = f"/api/runs/{uuid4()}/frames"
    assert client.http.get(path).status_code == 404
    act()
    began = time.monotonic()
    while (answer := client.http.get(path)).status_code == 404:
        assert time.monotonic() - began < ENDED_WITHIN_SECONDS, "the token still opens the door"
        time.sleep(0.1)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def test_blocked_customer_loses_the_lean_path_within_seconds(client: Client) -> None:
    lost_after(
        client,
        lambda: blocking.block(user_id=client.user.id, reason="Проба", now=clock.now(), actor=SYSTEM),
    )


def test_changed_password_ends_the_lean_path_within_seconds(client: Client) -> None:
    def change() -> None:
        User.objects.filter(pk=client.user.pk).update(token_version=client.user.token_version + 1)
        RefreshFamily.objects.filter(user=client.user).update(revoked_at=clock.now())

    lost_after(client, change)


@pytest.fixture
def snapshot() -> catalogue.Snapshot:
    return catalogue.refresh()


def test_accepted_offer_in_force_opens_the_door(snapshot: catalogue.Snapshot) -> None:
    callers.require_terms(tuple(snapshot.binding_terms), snapshot)
    callers.require_terms((uuid7(), *snapshot.binding_terms), snapshot)


@pytest.mark.parametrize("accepted", [(), (UUID(int=1), UUID(int=2))])
def test_only_a_binding_version_counts(snapshot: catalogue.Snapshot, accepted: tuple[UUID, ...]) -> None:
    with pytest.raises(TermsOutdated) as refused:
        callers.require_terms(accepted, snapshot)

    assert (refused.value.status, refused.value.code) == (409, "terms_outdated")
    assert refused.value.extra["version_id"] == snapshot.terms_in_force["version_id"]


def test_material_change_of_the_offer_asks_for_a_new_acceptance(snapshot: catalogue.Snapshot) -> None:
    old, new = next(iter(snapshot.binding_terms)), uuid7()

    with pytest.raises(TermsOutdated):
        callers.require_terms((old,), replace(snapshot, binding_terms=frozenset({new})))

    callers.require_terms((old,), replace(snapshot, binding_terms=frozenset({old, new})))


def test_run_without_an_acceptance_is_refused(make_client: Callable[..., Client]) -> None:
    user = User.objects.create(email=factories.unique_email(), password="!", email_verified=True)
    client = make_client(user=user)

    answer = client.run()

    assert (answer.status_code, answer.json()["code"]) == (409, "terms_outdated")
    assert answer.json()["version_id"]
    assert not Run.objects.filter(customer_id=user.id).exists()


SUPERACCOUNT = {
    "PLYRUM_DEV_SUPERACCOUNT_ENABLED": "1",
    "PLYRUM_DEV_SUPERACCOUNT_PASSWORD": "plyrum-dev-superaccount",
}


@pytest.fixture
def free(sandbox: SandboxProcess, make_client: Callable[..., Client], settings: Settings) -> Iterator[Client]:
    """The superaccount at a server of its own, with an id of this test's own."""
    facts: dict[str, Any] = SUPERACCOUNT | {
        "PLYRUM_DEV_SUPERACCOUNT_USER_ID": str(uuid7()),
        "PLYRUM_DEV_SUPERACCOUNT_EMAIL": factories.unique_email("dev"),
    }
    for name, value in facts.items():
        setattr(settings, name, value == "1" or value)
    user = superaccount.ensure_dev_superaccount()
    with ServerProcess(sandbox_url=sandbox.url, workers=1, **facts) as process:
        yield make_client(url=process.url, user=user)


def test_superaccount_runs_for_nothing_and_is_counted(free: Client) -> None:
    frames = free.frames()

    run = Run.objects.get(id=frames[0]["run_id"])
    settled = one(frames, "settled")
    assert text_of(frames)
    assert (one(frames, "run.accepted")["hold_micro_rub"], settled["cost_micro_rub"]) == (0, 0)
    assert (run.state, run.hold_micro_rub, run.cost_micro_rub, run.ledger_entry_id) == ("done", 0, 0, None)
    usage = UsageEvent.objects.get(run_id=run.id)
    assert usage.charged_micro_rub == 0 < usage.cost_micro_rub
    assert usage.ledger_entry_id is None
    assert not LedgerEntry.objects.filter(customer_id=free.user.id).exists()
    assert not Hold.objects.filter(customer_id=free.user.id).exists()


def test_superaccounts_own_use_is_listed(free: Client) -> None:
    free.frames()

    (item,) = free.http.get("/api/usage").json()["items"]
    assert item["cost_micro_rub"] == 0
    assert item["usage"]["output_tokens"] > 0
    assert free.balance()["unlimited"] is True
