"""API keys at the engine: what they open, what they may use and spend, and how soon a revoked one ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from time_machine import TimeMachineFixture

from accounts import api_keys, blocking
from accounts.credentials import Credential
from accounts.errors import KeyExpired, KeyInvalid, KeyRevoked
from accounts.models import ApiKey, User
from auditlog.actors import SYSTEM, Actor
from billing.models import LimitCounter, UsageEvent
from orchestration import callers
from orchestration.callers import Callers
from orchestration.engine import Engine, conninfo
from orchestration.models import Run
from plyrum import clock
from tests import factories, web
from tests.orchestration.conftest import RUB, Client, credited, one, parsed
from tests.orchestration.test_callers import CountedReader
from tests.orchestration.test_engine import with_engine
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

Make = Callable[..., "KeyClient"]
WITHIN_SECONDS = callers.ALIVE_SECONDS + 30


class KeyClient(Client):
    """A customer's program: it has an API key and nothing else."""

    def __init__(self, url: str, user: User, **wish: Any) -> None:
        super().__init__(url, user)
        self.row, headers = factories.api_key(user, **wish)
        self.text = headers["Authorization"].removeprefix("Bearer ")
        self.http.headers.update(headers)

    def revoke(self) -> None:
        api_keys.revoke(key_id=self.row.pk, now=clock.now(), actor=Actor.customer(self.user.pk))


@pytest.fixture
def make(server: ServerProcess) -> Iterator[Make]:
    made: list[KeyClient] = []

    def client(url: str = "", user: User | None = None, **wish: Any) -> KeyClient:
        person = user or credited(factories.customer(), 100 * RUB)
        made.append(KeyClient(url or server.url, person, **wish))
        return made[-1]

    yield client
    for one_made in made:
        one_made.http.close()


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_run_usage_and_sums_name_the_key(make: Make) -> None:
    client = make()
    other = make(user=client.user)

    frames = client.frames()
    other.frames()

    key = str(client.row.pk)
    run_id = frames[0]["run_id"]
    assert Run.objects.get(id=run_id).api_key_id == UsageEvent.objects.get(run_id=run_id).api_key_id
    assert client.http.get(f"/api/runs/{run_id}").json()["api_key_id"] == key
    rows = client.http.get("/api/usage", params={"api_key_id": key}).json()["items"]
    assert [row["run_id"] for row in rows] == [run_id]
    summary = client.http.get("/api/usage/summary", params={"group_by": "key"}).json()["items"]
    cost = one(frames, "settled")["cost_micro_rub"]
    assert {row["key"]: row["cost_micro_rub"] for row in summary}[key] == cost > 0
    assert {row["key"] for row in summary} == {key, str(other.row.pk)}
    assert ApiKey.objects.get(pk=client.row.pk).last_used_at is not None


def test_key_follows_and_stops_its_run(make: Make) -> None:
    client = make()
    told: list[dict[str, Any]] = []
    body = {"prompt": "Долго", "model": "fault/slow", "idempotency_key": str(uuid4())}
    with client.http.stream("POST", "/api/stream/run", json=body) as answer:
        for line in answer.iter_lines():
            told.append(orjson.loads(line))
            if told[-1]["type"] == "delta":
                break
    run_id = told[0]["run_id"]

    stopped = client.http.post(f"/api/runs/{run_id}/cancel")

    assert stopped.json()["state"] == "stopped"
    again = parsed(client.http.get(f"/api/runs/{run_id}/frames"))
    assert again[0]["run_id"] == run_id
    assert client.http.get("/api/runs").json()["items"][0]["id"] == run_id
    assert client.balance()["currency"] == "RUB"


def test_models_of_a_key_bound_every_route(make: Make) -> None:
    client = make(models=("sandbox/small",))

    assert client.frames("sandbox/small")[-1]["type"] == "run.finished"
    assert refused(client.run("sandbox/large")) == (403, "model_not_allowed")
    assert refused(client.run(None, models=["sandbox/small", "sandbox/large"])) == (403, "model_not_allowed")
    estimate = {"prompt": "Привет", "model": "sandbox/large"}
    assert refused(client.http.post("/api/runs/estimate", json=estimate)) == (403, "model_not_allowed")
    free = client.http.post("/api/runs/estimate", json={"prompt": "Привет"}).json()["route"]
    assert [candidate["model"] for candidate in free["candidates"]] == ["sandbox/small"]
    assert set(free["excluded"].values()) == {"not_allowed_by_key"}
    chosen = client.frames(None)
    assert {frame["model"] for frame in chosen if frame["type"] == "route"} == {"sandbox/small"}
    unbound = make(user=client.user)
    assert unbound.run("sandbox/large").status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "is_let_in"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),
        ("2001:db8::5", True),
        ("203.0.114.1", False),
        ("198.51.100.1, 203.0.113.9", True),  # the proxy's word, not what the client wrote before it
        ("203.0.113.9, 198.51.100.1", False),
        ("", False),
    ],
)
def test_addresses_of_a_key_bound_the_engine(
    behind_a_proxy: ServerProcess, make: Make, forwarded: str, is_let_in: bool
) -> None:
    client = make(url=behind_a_proxy.url, ip_allow=("203.0.113.0/24", "2001:db8::/32"))
    headers = {"X-Forwarded-For": forwarded}

    path = f"/api/runs/{uuid4()}/frames"
    for answer in (
        client.http.get(path, headers=headers),
        client.http.post("/api/stream/run", headers=headers, json={}),
        client.http.get("/api/balance", headers=headers),
    ):
        if is_let_in:
            assert answer.status_code in (200, 404, 422)
        else:
            assert refused(answer) == (403, "ip_not_allowed")


def test_second_line_of_the_header_counts(behind_a_proxy: ServerProcess, make: Make) -> None:
    client = make(url=behind_a_proxy.url, ip_allow=("203.0.113.0/24",))
    lines = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.1")]

    for path in (f"/api/runs/{uuid4()}/frames", "/api/balance"):
        assert refused(client.http.get(path, headers=[*client.http.headers.items(), *lines])) == (
            403, "ip_not_allowed",
        )  # fmt: skip
        back = [*client.http.headers.items(), *reversed(lines)]
        assert client.http.get(path, headers=back).status_code in (200, 404)


def test_without_a_proxy_the_socket_is_believed_only(make: Make) -> None:
    here, elsewhere = make(ip_allow=("127.0.0.0/8",)), make(ip_allow=("203.0.113.0/24",))
    claim = {"X-Forwarded-For": "203.0.113.9"}

    for path in (f"/api/runs/{uuid4()}/frames", "/api/balance"):
        assert here.http.get(path, headers=claim).status_code in (200, 404)
        assert refused(elsewhere.http.get(path, headers=claim)) == (403, "ip_not_allowed")


def test_key_over_plain_http_is_refused_everywhere(sandbox: SandboxProcess, make: Make) -> None:
    """As in production. The server itself has been found by its health over plain http."""
    with ServerProcess(
        sandbox_url=sandbox.url, PLYRUM_TRUSTED_PROXY_COUNT="1", PLYRUM_SSL_REDIRECT="1"
    ) as process:
        client = make(url=process.url)
        run = {"prompt": "Привет", "model": "sandbox/small", "idempotency_key": str(uuid4()), "stream": False}
        calls: list[tuple[str, str, Any, int]] = [
            ("POST", "/api/stream/run", run, 200),
            ("GET", f"/api/runs/{uuid4()}/frames", None, 404),
            ("GET", "/api/balance", None, 200),
        ]
        for method, path, body, status in calls:
            assert refused(client.http.request(method, path, json=body)) == (400, "https_required")
            proxied = client.http.request(method, path, json=body, headers={"X-Forwarded-Proto": "https"})
            assert proxied.status_code == status
    assert Run.objects.filter(customer_id=client.user.pk).count() == 1


@pytest.fixture(scope="module")
def behind_a_proxy(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    with ServerProcess(sandbox_url=sandbox.url, PLYRUM_TRUSTED_PROXY_COUNT="1") as process:
        yield process


@pytest.mark.parametrize("place", ["query", "cookie", "body", "x-api-key", "basic"])
def test_key_is_read_from_the_header_only(make: Make, place: str) -> None:
    client = make()
    text = client.text
    del client.http.headers["Authorization"]
    body: dict[str, Any] = {"prompt": "Привет", "idempotency_key": str(uuid4())}
    facts: dict[str, dict[str, Any]] = {
        "query": {"params": {"api_key": text, "access_token": text}},
        "cookie": {"cookies": {"authorization": text, "api_key": text}},
        "body": {},
        "x-api-key": {"headers": {"x-api-key": text}},
        "basic": {"headers": {"authorization": f"Basic {text}"}},
    }
    if place == "body":
        body["api_key"] = text

    answer = web.post(f"{client.http.base_url}/api/stream/run", json=body, timeout=30, **facts[place])

    assert answer.status_code == 401
    assert text not in answer.text


def test_engine_asks_once_for_many_and_remembers_no_key(make: Make) -> None:
    client = make()
    header = f"Bearer {client.text}"

    async def together() -> tuple[int, set[int], str]:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        first = await asked.credential(header)
        await asyncio.gather(*asked._notes)
        count = reads.count
        answers = await asyncio.gather(*(asked.credential(header) for _ in range(20)))
        assert reads.count == count == 2  # the look-up, and once an hour the note of its use
        await reads.close()
        return count, {id(answer) for answer in (first, *answers)}, repr(asked._known)

    _, answers, remembered = asyncio.run(together())
    assert len(answers) == 1
    assert client.text not in remembered
    assert client.text[17:60] not in remembered


def test_forgotten_key_is_asked_about_at_once(make: Make) -> None:
    client = make()

    def revoke() -> None:
        client.revoke()
        connection.close()

    async def revoked() -> tuple[Credential, Credential]:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        try:
            first = await asked.credential(f"Bearer {client.text}")
            await sync_to_async(revoke, thread_sensitive=False)()
            second = await asked.credential(f"Bearer {client.text}")  # nobody has told it yet
            asked.forget_key(str(client.row.pk))
            with pytest.raises(KeyRevoked):
                await asked.credential(f"Bearer {client.text}")
            return first, second
        finally:
            await asyncio.gather(*asked._notes)
            await reads.close()

    first, second = asyncio.run(revoked())
    assert first is second


def test_key_is_refused_the_moment_its_time_is_over(make: Make, time_machine: TimeMachineFixture) -> None:
    client = make(expires_at=clock.now() + timedelta(hours=1))

    async def later() -> None:
        reads = CountedReader(conninfo())
        asked = Callers(reads)
        await asked.credential(f"Bearer {client.text}")
        await asyncio.gather(*asked._notes)
        time_machine.move_to(clock.now() + timedelta(hours=1, seconds=1))
        try:
            with pytest.raises(KeyExpired):
                await asked.credential(f"Bearer {client.text}")
        finally:
            await reads.close()

    asyncio.run(later())


def test_unknown_key_of_good_form_is_refused(make: Make) -> None:
    client = make()
    ApiKey.objects.filter(pk=client.row.pk).update(digest="0" * 64)

    with pytest.raises(KeyInvalid):
        asyncio.run(_ask(client.text))


async def _ask(text: str) -> Credential:
    reads = CountedReader(conninfo())
    try:
        return await Callers(reads).credential(f"Bearer {text}")
    finally:
        await reads.close()


def lost_after(client: KeyClient, act: Callable[[], object], code: str) -> None:
    path = f"/api/runs/{uuid4()}/frames"
    assert client.http.get(path).status_code == 404
    act()
    began = time.monotonic()
    while (answer := client.http.get(path)).status_code == 404:
        assert time.monotonic() - began < WITHIN_SECONDS, "the key still opens the door"
        time.sleep(0.05)
    assert refused(answer) == (401, code)


def test_revoked_key_ends_because_the_engine_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "ALIVE_SECONDS", 3600)  # by itself it would not ask again in this test
    client, other = make(), make()

    def revoke() -> None:
        client.revoke()
        connection.close()

    async def work(opened: Engine) -> None:
        for each in (client, other):
            await opened.callers.credential(f"Bearer {each.text}")
        while len(opened.callers._known) == 2:  # what is said before it listens is lost
            await opened.redis.publish(api_keys.ENDED_CHANNEL, str(other.row.pk))
            await asyncio.sleep(0.01)
        await sync_to_async(revoke, thread_sensitive=False)()
        while opened.callers._known:
            await asyncio.sleep(0.01)
        with pytest.raises(KeyRevoked):
            await opened.callers.credential(f"Bearer {client.text}")

    with_engine(work)


def test_revoked_key_ends_also_when_the_word_of_it_is_lost(make: Make) -> None:
    client = make()

    lost_after(
        client,
        lambda: ApiKey.objects.filter(pk=client.row.pk).update(revoked_at=clock.now()),
        "key_revoked",
    )


def test_blocked_customers_key_ends_within_seconds(make: Make) -> None:
    client = make()

    lost_after(
        client,
        lambda: blocking.block(user_id=client.user.pk, reason="Проба", now=clock.now(), actor=SYSTEM),
        "key_invalid",
    )


@pytest.mark.parametrize("is_told", [True, False])
def test_stream_of_a_revoked_key_stops_and_is_settled(make: Make, is_told: bool) -> None:
    """As if the customer had stopped it. The run of another key goes on."""
    client = make()
    other = make(user=client.user)
    runs = [Streamed(client), Streamed(other)]

    if is_told:
        client.revoke()
    else:
        ApiKey.objects.filter(pk=client.row.pk).update(revoked_at=clock.now())

    frames = runs[0].rest()
    assert frames[-1] == {**frames[-1], "type": "run.finished", "finish_reason": "cancelled"}
    settled = one(frames, "settled")
    run = Run.objects.get(id=frames[0]["run_id"])
    assert (run.state, run.cost_micro_rub) == ("stopped", settled["cost_micro_rub"])
    assert Run.objects.get(id=runs[1].run_id).state == "running"
    other.http.post(f"/api/runs/{runs[1].run_id}/cancel")
    runs[1].rest()


class Streamed:
    """A run that streams and is read by a thread."""

    def __init__(self, client: KeyClient) -> None:
        self.frames: list[dict[str, Any]] = []
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(client,))
        self._thread.start()
        assert self._has_begun.wait(20)

    @property
    def run_id(self) -> str:
        found: str = self.frames[0]["run_id"]
        return found

    def rest(self) -> list[dict[str, Any]]:
        self._thread.join(30)
        return self.frames

    def _read(self, client: KeyClient) -> None:
        body = {"prompt": "Долго", "model": "fault/slow", "idempotency_key": str(uuid4())}
        with web.stream(
            "POST", f"{client.http.base_url}/api/stream/run", json=body, timeout=60,
            headers={"Authorization": f"Bearer {client.text}"},
        ) as answer:  # fmt: skip
            for line in answer.iter_lines():
                self.frames.append(orjson.loads(line))
                if self.frames[-1]["type"] == "delta":
                    self._has_begun.set()


def test_month_limit_holds_under_parallel_runs_with_one_key(make: Make) -> None:
    """The limit fits three holds of ten; a key without one (the control) lets all ten through."""
    control = make()
    hold = one(control.frames("sandbox/small"), "run.accepted")["hold_micro_rub"]
    limited = make(user=control.user, month_limit_micro_rub=3 * hold + hold // 2)

    def ten(client: KeyClient) -> list[tuple[int, str]]:
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            body = {
                "prompt": "Сколько будет два и два?",
                "model": "fault/slow",
                "idempotency_key": str(uuid4()),
            }
            with web.stream(
                "POST", f"{client.http.base_url}/api/stream/run", json=body, timeout=60,
                headers={"Authorization": f"Bearer {client.text}"},
            ) as answer:  # fmt: skip
                if answer.status_code != 200:
                    answer.read()
                    answers.append((answer.status_code, answer.json()["code"]))
                    return
                answers.append((200, ""))
                ready.wait(20)

        ready = threading.Event()
        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(answers) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        ready.set()
        for thread in threads:
            thread.join()
        return answers

    refusals = [answer for answer in ten(limited) if answer[0] != 200]
    assert set(refusals) == {(402, "spend_limit_reached")}
    counter = LimitCounter.objects.get(subject=f"key:{limited.row.pk}", window="month")
    assert counter.spent_micro_rub + counter.reserved_micro_rub <= 3 * hold + hold // 2
    assert 1 <= 10 - len(refusals) <= 3
    assert [answer for answer in ten(control) if answer[0] != 200] == []
    running = Run.objects.filter(customer_id=control.user.pk, finished_at=None)
    for run_id in running.values_list("pk", flat=True):  # their charges would come while other tests run
        control.http.post(f"/api/runs/{run_id}/cancel")
    assert not running.exists()


def test_refusal_names_the_limit_of_the_key(make: Make) -> None:
    client = make(month_limit_micro_rub=1)

    answer = client.run()

    assert refused(answer) == (402, "spend_limit_reached")
    told = answer.json()
    assert (told["subject_kind"], told["window"], told["limit_micro_rub"]) == ("key", "month", 1)
    assert "this API key's limit" in told["detail"]


def test_key_never_stands_in_logs_or_errors(make: Make, server: ServerProcess) -> None:
    """Canary: the secret is looked for in everything that the server wrote and answered.

    A second key stands in a path, where its caller put it: of this one that path may be repeated, no more.
    """
    client, in_path = make(models=("sandbox/small",)), make()
    path = f"/api/runs/{in_path.text}"
    answers = [
        client.run(),
        client.run("sandbox/large"),
        client.run("nobody/nothing"),
        client.run(max_output_tokens=-1),
        *(in_path.http.get(path + rest) for rest in ("", "/frames", "/nowhere")),
        client.http.get("/api/account"),
        client.http.post("/api/payments/checkout", content=b"{"),
        client.http.get("/api/audit"),
        client.http.get("/admin/"),
        client.http.get("/nowhere"),
    ]
    for header in (client.text, f"Basic {client.text}", f"Token {client.text}", f"Bearer{client.text}"):
        answers += [
            client.http.request(method, door, json={}, headers={"Authorization": header})
            for method, door in (
                ("POST", "/api/stream/run"),
                ("GET", f"/api/runs/{uuid4()}/frames"),
                ("GET", "/api/balance"),
                ("GET", "/api/account"),
                ("GET", "/api/audit"),
                ("POST", "/api/auth/logout"),
                ("GET", "/app/wallet"),
            )
        ]
    client.revoke()
    answers += [client.http.get("/api/balance"), client.http.get(f"/api/runs/{uuid4()}/frames")]

    written = [*(answer.text + str(answer.headers) for answer in answers), server.output()]
    for text in written:
        assert secret_of(client) not in text
        assert secret_of(in_path) not in text.replace(path, "")
    assert client.row.public_id in server.output()  # the refusal was written down: this is its log


def secret_of(client: KeyClient) -> str:
    """Enough of it to be found also where the rest was cut off."""
    return client.text[17:37]
