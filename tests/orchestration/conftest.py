"""One sandbox and one real server for all tests of the engine, and a client that speaks to it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
import pytest_asyncio
from aiohttp import ClientSession
from django.db import transaction

from accounts.models import User
from billing import ledger
from orchestration.providers.transport import open_session
from plyrum.ids import uuid7
from tests import factories, web
from tests.orchestration import run_steps
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

RUB = 1_000_000
Frames = list[dict[str, Any]]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture(params=[True, False], ids=["one", "array"])
def both_forms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs twice: a step alone goes by the function for one, then by that of arrays."""
    monkeypatch.setattr(run_steps, "is_alone_by_itself", request.param)


@pytest_asyncio.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture(scope="session")
def server(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    with ServerProcess(sandbox_url=sandbox.url, PLYRUM_RUN_LEASE_SECONDS="30") as process:
        yield process


class Client:
    """A customer with a token and a purse, speaking to one server."""

    def __init__(self, url: str, user: User) -> None:
        self.user = user
        self.http = web.client(base_url=url, headers=factories.bearer(user), timeout=30)

    def run(self, model: str | None = "sandbox/small", **fields: Any) -> httpx.Response:
        body = {
            "idempotency_key": str(uuid4()),
            "prompt": "Сколько будет два и два?",
            "model": model,
            **fields,
        }
        return self.http.post("/api/stream/run", json={k: v for k, v in body.items() if v is not None})

    def frames(self, model: str | None = "sandbox/small", **fields: Any) -> Frames:
        response = self.run(model, **fields)
        assert response.status_code == 200, response.text
        return parsed(response)

    def balance(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/balance").json()
        return found


def parsed(response: httpx.Response) -> Frames:
    return [orjson.loads(line) for line in response.content.splitlines()]


def types(frames: Frames) -> list[str]:
    """Types in order, neighbours of one kind once."""
    found: list[str] = []
    for frame in frames:
        if not found or found[-1] != frame["type"]:
            found.append(frame["type"])
    return found


def one(frames: Frames, type_: str) -> dict[str, Any]:
    (found,) = [frame for frame in frames if frame["type"] == type_]
    return found


def text_of(frames: Frames) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "delta")


def credited(user: User, amount_micro_rub: int) -> User:
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(),
            customer_id=user.id,
            amount_micro_rub=amount_micro_rub,
            key=f"test:{uuid7()}",
            expires_at=None,
        )
    return user


@pytest.fixture
def make_client(server: ServerProcess) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(rub: int = 100, url: str = "", user: User | None = None) -> Client:
        person = user or factories.customer()
        if rub and user is None:
            credited(person, rub * RUB)
        made.append(Client(url or server.url, person))
        return made[-1]

    yield make
    for client in made:
        client.http.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
