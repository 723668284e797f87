"""One sandbox and one real server for the chat's tests, and a browser without scripts that speaks to it."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client

from accounts.models import User
from billing import ledger
from plyrum.ids import uuid7
from tests import factories, web
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess

RUB = 1_000_000
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture(scope="session")
def server(sandbox: SandboxProcess) -> Iterator[ServerProcess]:
    with ServerProcess(sandbox_url=sandbox.url) as process:
        yield process


class Event:
    """One server-sent event as the page's script reads it."""

    def __init__(self, text: str) -> None:
        facts = dict(line.split(": ", 1) for line in text.splitlines())
        self.name = facts["event"]
        self.id = int(facts["id"]) if "id" in facts else None
        self.data: dict[str, Any] = orjson.loads(facts["data"])


def parsed(text: str) -> list[Event]:
    return [Event(part) for part in text.split("\n\n") if part.startswith("event:")]


class Browser:
    """A customer who is signed in to the site of a real server."""

    def __init__(self, url: str, user: User) -> None:
        self.user = user
        session = Client()
        session.force_login(user)
        cookie = session.cookies[settings.SESSION_COOKIE_NAME].value
        self.http = web.client(base_url=url, timeout=60)
        self.http.cookies.set(settings.SESSION_COOKIE_NAME, cookie, domain="127.0.0.1")
        found = TOKEN.search(self.http.get("/app/chat").text)
        assert found is not None
        self.token = found.group(1)

    def post(self, path: str, *, script: bool = True, **fields: str) -> httpx.Response:
        accept = "application/json" if script else "text/html"
        return self.http.post(
            path, data={**fields, "csrfmiddlewaretoken": self.token}, headers={"Accept": accept}
        )

    def ask(
        self,
        text: str = "Сколько будет два и два?",
        *,
        path: str = "/app/chat",
        script: bool = True,
        **fields: str,
    ) -> httpx.Response:
        sent = {"model": "sandbox/small", "idempotency_key": str(uuid4()), "text": text, **fields}
        return self.post(path, script=script, **sent)

    def begun(
        self, text: str = "Сколько будет два и два?", *, path: str = "/app/chat", **fields: str
    ) -> dict[str, Any]:
        answer = self.ask(text, path=path, script=True, **fields)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def events(self, url: str, after_seq: int = 0) -> list[Event]:
        answer = self.http.get(url, params={"after_seq": after_seq})
        assert answer.status_code == 200, answer.text
        return parsed(answer.text)


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
def make_browser(server: ServerProcess) -> Iterator[Callable[..., Browser]]:
    opened: list[Browser] = []

    def make(rub: int = 100, user: User | None = None) -> Browser:
        person = user or factories.customer()
        if rub:
            credited(person, rub * RUB)
        opened.append(Browser(server.url, person))
        return opened[-1]

    yield make
    for browser in opened:
        browser.http.close()


@pytest.fixture
def browser(make_browser: Callable[..., Browser]) -> Browser:
    return make_browser()
