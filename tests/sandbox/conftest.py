"""One sandbox process with a webhook receiver for all of its contract tests. No Django, no database."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests import web
from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox_process import PROVIDER_KEY, SHOP, SandboxProcess

Json = dict[str, Any]
CreatePayment = Callable[..., Json]


@pytest.fixture(scope="session", autouse=True)
def _database_for_all() -> None:
    """These tests need no database: put the suite-wide one out of their way."""


@pytest.fixture(scope="session")
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="session")
def sandbox(receiver: WebhookReceiver) -> Iterator[SandboxProcess]:
    with SandboxProcess(webhook_url=receiver.url) as process:
        yield process


@pytest.fixture(scope="session")
def yookassa(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    with web.client(base_url=f"{sandbox.url}/yookassa/v3", auth=SHOP, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def provider(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {PROVIDER_KEY}"}
    with web.client(base_url=f"{sandbox.url}/openai/v1", headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def browser(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    """A payer's browser: no credentials, redirects are looked at, not followed."""
    with web.client(base_url=sandbox.url, timeout=30) as client:
        yield client


def payment_body(**changes: Any) -> Json:
    """Build a full request; a change to None takes the field away."""
    body: Json = {
        "amount": {"value": "1500.00", "currency": "RUB"},
        "capture": True,
        "confirmation": {"type": "redirect", "return_url": "http://127.0.0.1:8000/app/topup/7f3c"},
        "description": "Пополнение кошелька № 7f3c",
        "merchant_customer_id": "u_812",
        "metadata": {"topup_id": "7f3c"},
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def new_key() -> dict[str, str]:
    return {"Idempotence-Key": str(uuid4())}


@pytest.fixture
def create(yookassa: httpx.Client) -> CreatePayment:
    """Create a payment, with changes to the usual body, and answer it."""

    def make(**changes: Any) -> Json:
        answer = yookassa.post("/payments", json=payment_body(**changes), headers=new_key())
        assert answer.status_code == 200, answer.text
        shown: Json = answer.json()
        return shown

    return make
