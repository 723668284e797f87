"""The providers' doors over HTTP: what is stored, what is refused, and a real delivery from the sandbox."""

import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connection, transaction
from django.test import Client
from django.test.testcases import LiveServerThread
from pytest_django import Settings

from payments import tasks
from payments.models import Payment, WebhookEvent
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import RUB, Shop, actions, at_once, balance, event_of, open_payment, topups
from tests.sandbox_process import SandboxProcess

YOOKASSA = "/api/payments/webhook/yookassa"
MOCK = "/api/payments/webhook/mock"
SECRET = "mock-secret-of-the-tests"


def notify(client: Client, body: object, **extra: Any) -> Any:
    return client.post(YOOKASSA, body, content_type="application/json", **extra)


def note(object_id: str, event: str = "payment.succeeded") -> dict[str, Any]:
    return {"type": "notification", "event": event, "object": {"id": object_id, "status": "succeeded"}}


def test_a_notification_is_stored_and_answered(client: Client, shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    answers = [notify(client, note(payment.provider_payment_id or "")) for _copy in range(2)]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {}), (200, {})]
    assert balance(user) == 0
    tasks.process_event(event_id=str(event_of(payment).id))
    assert balance(user) == 500 * RUB


def test_fifty_deliveries_at_once_are_stored_once(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    answers = at_once([lambda: notify(Client(), note(payment.provider_payment_id or ""))] * 50)

    assert {answer.status_code for answer in answers} == {200}
    tasks.process_event(event_id=str(event_of(payment).id))
    assert len(topups(user)) == 1


@pytest.mark.parametrize("address", ["185.71.76.5", "203.0.113.9"])
def test_live_news_from_any_address_are_stored_and_believed_only_after_asking(
    shop: Shop, settings: Settings, address: str
) -> None:
    user = factories.customer()
    payment = open_payment(user)
    settings.PAYMENTS_LIVE = True

    answer = notify(Client(REMOTE_ADDR=address), note(payment.provider_payment_id or ""))

    assert answer.status_code == 200
    assert event_of(payment).source_ip == address
    assert balance(user) == 0


def test_news_about_unknown_objects_and_unknown_kinds_are_taken(client: Client) -> None:
    for body in (note(str(uuid7())), note(str(uuid7()), "deal.closed"), note("short")):
        assert notify(client, body).status_code == 200


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"{}", b"\xff", b'{"type":"notification","event":"e","object":{"id":NaN}}']
)
def test_what_is_no_notification_is_malformed(client: Client, raw: bytes) -> None:
    answer = notify(client, raw)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_notification")


def test_a_large_body_is_refused_before_it_is_read(client: Client) -> None:
    for size in (65_537, 3_000_000):
        answer = notify(client, b" " * size)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_when_it_cannot_be_stored_the_sender_is_told_to_come_again(client: Client) -> None:
    """The table is locked by somebody, as a database in trouble is."""
    client.raise_request_exception = False
    done: list[int] = []

    def hold_and_ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        done.append(notify(client, note(str(uuid7()))).status_code)

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE payments_webhookevent IN ACCESS EXCLUSIVE MODE")
        at_once([hold_and_ask])

    assert done == [503]


def test_a_real_delivery_ends_in_the_wallet(server_url: str, sandbox: SandboxProcess, shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    match = {"receipt_email": user.email}
    sandbox.control("yookassa", {"next_webhooks": {"duplicate": 3}, "match": match})
    sandbox.control("yookassa", {"webhook_url": f"{server_url}{YOOKASSA}"})
    try:
        shop.pay(payment)
        event = _wait_for_event(payment)
    finally:
        sandbox.control("yookassa", {"webhook_url": None})

    tasks.process_event(event_id=str(event.id))

    assert orjson.loads(bytes(event.raw_body))["event"] == "payment.succeeded"
    assert event.source_ip == "127.0.0.1"
    assert balance(user) == 500 * RUB


@pytest.fixture
def mocked(settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = "mock"
    settings.PAYMENTS_MOCK_WEBHOOK_SECRET = SECRET


def tell(client: Client, body: object, secret: str | None = SECRET) -> Any:
    headers = {} if secret is None else {"x-plyrum-mock-webhook-secret": secret}
    return client.post(MOCK, body, content_type="application/json", headers=headers)


def event(payment: Payment, status: str = "succeeded", **facts: Any) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "payment_id": str(payment.id), "status": status} | facts


@pytest.mark.usefixtures("mocked")
def test_the_mock_credits_once_and_calls_the_second_a_duplicate(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)
    body = event(payment, amount_micro_rub=500 * RUB)

    first, second = tell(client, body), tell(client, body)

    assert (first.status_code, first.json()) == (200, {"status": "processed"})
    assert (second.status_code, second.json()) == (200, {"status": "duplicate"})
    assert balance(user) == 500 * RUB
    assert actions(payment)[-1] == "payments.payment.succeeded"
    assert WebhookEvent.objects.get(event_key=body["event_id"]).outcome == "applied"


@pytest.mark.usefixtures("mocked")
def test_two_events_of_one_payment_credit_once(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)

    assert [tell(client, event(payment)).json() for _time in range(2)] == [{"status": "processed"}] * 2
    assert len(topups(user)) == 1


@pytest.mark.usefixtures("mocked")
def test_parallel_copies_of_one_event_are_processed_once() -> None:
    user = factories.customer()
    body = event(open_payment(user))

    answers = at_once([lambda: tell(Client(), body)] * 20)

    assert sorted(answer.json()["status"] for answer in answers) == ["duplicate"] * 19 + ["processed"]
    assert balance(user) == 500 * RUB


@pytest.mark.usefixtures("mocked")
def test_a_cancellation_credits_nothing_and_a_late_success_does(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)

    assert tell(client, event(payment, "canceled")).json() == {"status": "processed"}
    payment.refresh_from_db()
    assert (payment.status, balance(user)) == ("canceled", 0)
    assert tell(client, event(payment)).json() == {"status": "processed"}
    payment.refresh_from_db()
    assert (payment.status, balance(user)) == ("succeeded", 500 * RUB)
    assert tell(client, event(payment, "canceled")).json() == {"status": "processed"}
    payment.refresh_from_db()
    assert (payment.status, balance(user)) == ("succeeded", 500 * RUB)


@pytest.mark.usefixtures("mocked")
def test_one_event_id_with_other_content_is_a_mismatch(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)
    body = event(payment, "canceled")
    tell(client, body)

    answer = tell(client, body | {"status": "succeeded"})

    assert (answer.status_code, answer.json()["code"]) == (409, "webhook_payload_mismatch")
    assert balance(user) == 0


@pytest.mark.usefixtures("mocked")
@pytest.mark.parametrize("amount", [500 * RUB + 10_000, 500 * RUB - 1, 0, -1])
def test_another_amount_is_a_mismatch_and_the_event_may_come_again(client: Client, amount: int) -> None:
    user = factories.customer()
    body = event(open_payment(user), amount_micro_rub=amount)

    answer = tell(client, body)

    assert (answer.status_code, answer.json()["code"]) == (409, "amount_mismatch")
    assert balance(user) == 0
    assert tell(client, body | {"amount_micro_rub": 500 * RUB}).json() == {"status": "processed"}


@pytest.mark.usefixtures("mocked")
@pytest.mark.parametrize("wanted", [str(uuid7()), "no-id"], ids=["an id", "no id"])
def test_an_unknown_payment_is_not_found(client: Client, wanted: str) -> None:
    body = {"event_id": str(uuid7()), "payment_id": wanted, "status": "succeeded"}

    answer = tell(client, body)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not WebhookEvent.objects.filter(event_key=body["event_id"]).exists()


def test_a_payment_of_yookassa_cannot_be_paid_by_the_mock(client: Client, settings: Settings) -> None:
    user = factories.customer()
    payment = open_payment(user)
    settings.PAYMENTS_PROVIDER, settings.PAYMENTS_MOCK_WEBHOOK_SECRET = "mock", SECRET

    assert tell(client, event(payment)).status_code == 404
    assert balance(user) == 0


@pytest.mark.usefixtures("mocked")
@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + " ", "ы"])
def test_a_wrong_secret_is_401_whatever_the_body_is(client: Client, secret: str | None) -> None:
    user = factories.customer()
    for body in (event(open_payment(user)), b"{"):
        assert tell(client, body, secret).status_code == 401
    assert balance(user) == 0


@pytest.mark.usefixtures("mocked")
def test_an_empty_secret_in_the_settings_opens_nothing(client: Client, settings: Settings) -> None:
    settings.PAYMENTS_MOCK_WEBHOOK_SECRET = ""

    assert tell(client, event(open_payment(factories.customer())), "").status_code == 401


def test_the_mock_is_off_while_another_provider_is_in_use(client: Client, settings: Settings) -> None:
    settings.PAYMENTS_MOCK_WEBHOOK_SECRET = SECRET

    answer = tell(client, {"event_id": "e", "payment_id": "p", "status": "succeeded"})

    assert answer.status_code == 503


@pytest.mark.usefixtures("mocked")
@pytest.mark.parametrize(
    "change",
    [
        {"status": "refunded"},
        {"event_id": ""},
        {"event_id": "a\u0000"},
        {"payment_id": 7},
        {"amount_micro_rub": "500"},
        {"amount_micro_rub": 1.5},
        {"surprise": 1},
    ],
)
def test_wrong_fields_of_an_event_are_refused(client: Client, change: dict[str, Any]) -> None:
    user = factories.customer()

    assert tell(client, event(open_payment(user)) | change).status_code == 422
    assert balance(user) == 0


@pytest.fixture
def server_url() -> Iterator[str]:
    """The site on a real socket, on the tests' database."""
    server = LiveServerThread("127.0.0.1", StaticFilesHandler)
    server.daemon = True
    server.start()
    server.is_ready.wait()
    yield f"http://127.0.0.1:{server.port}"
    server.terminate()


def _wait_for_event(payment: Payment) -> WebhookEvent:
    deadline = time.monotonic() + 30
    rows = WebhookEvent.objects.filter(object_id=payment.provider_payment_id)
    while time.monotonic() < deadline:
        if found := rows.first():
            return found
        time.sleep(0.02)
    raise AssertionError("The sandbox delivered nothing.")
