"""The adapter: strict about notifications, tolerant about objects, honest about what may have happened."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import orjson
import pytest
from pytest_django import Settings

from payments import yookassa
from payments.errors import MalformedNotification, RemoteNotFoundError
from payments.shapes import NewPayment, Notification
from plyrum import clock
from plyrum.errors import AdapterError
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import Shop, open_payment


def note(**changes: Any) -> bytes:
    body = {"type": "notification", "event": "payment.succeeded", "object": {"id": "2e1a"}} | changes
    return orjson.dumps(body)


def test_a_notification_names_an_event_and_an_object() -> None:
    assert yookassa.notification(note()) == Notification("payment.succeeded", "2e1a")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage",
        b'{"type":"notification","event":"payment.succ',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        note(type="other"),
        note(event=7),
        note(event=""),
        note(event="x" * 101),
        note(event="with\x00zero"),
        b'{"type":"notification","event":"\\ud800","object":{"id":"x"}}',
        note(object=None),
        note(object=[]),
        note(object={}),
        note(object={"id": 7}),
        note(object={"id": "x" * 101}),
        note(object={"id": "x", "deep": [[[[[[[[[[[1]]]]]]]]]]]}),
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'{"type":"notification","type":"notification","event":"e","object":{"id":"x"}}',
        b'{"type":"notification","event":"e","object":{"id":"x","sum":NaN}}',
        b'{"type":"notification","event":"e","object":{"id":"x","sum":' + b"9" * 5000 + b"}}",
    ],
)
def test_anything_else_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedNotification):
        yookassa.notification(raw)


@pytest.mark.parametrize(
    ("ip", "is_known"),
    [
        ("185.71.76.0", True),
        ("185.71.76.31", True),
        ("185.71.76.32", False),
        ("77.75.153.127", True),
        ("77.75.153.128", False),
        ("77.75.154.128", True),
        ("77.75.154.127", False),
        ("77.75.156.11", True),
        ("77.75.156.12", False),
        ("2a02:5180:0:1509::1", True),
        ("2a02:5181::1", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_published_sources_are_known_to_the_address(ip: str, is_known: bool) -> None:
    assert yookassa.is_known_source(ip) is is_known


def test_the_same_body_is_the_same_bytes() -> None:
    new = NewPayment(uuid7(), uuid7(), 500_000_000, "a@b.test", "http://127.0.0.1/app", "sbp", "en")

    assert yookassa.request_body(new) == yookassa.request_body(new)
    body = orjson.loads(yookassa.request_body(new))
    assert body["payment_method_data"] == {"type": "sbp"}
    assert body["confirmation"]["locale"] == "en_US"


def test_an_object_with_missing_and_new_fields_is_read() -> None:
    found = yookassa._payment({"id": "x", "status": "brand_new", "amount": 7, "extra": {"a": 1}})

    assert (found.id, found.status) == ("x", "brand_new")
    assert (found.amount_micro_rub, found.is_test, found.account_id, found.created_at) == (
        None,
        None,
        "",
        None,
    )


@pytest.mark.parametrize("moment", ["yesterday", 7, None, "2026-01-01T00:00:00"])
def test_a_moment_that_cannot_be_trusted_is_no_moment(moment: object) -> None:
    assert yookassa._payment({"id": "x", "status": "s", "captured_at": moment}).captured_at is None


@pytest.mark.parametrize("value", [None, [], {}, {"id": "x"}, {"status": "s"}, {"id": 7, "status": "s"}])
def test_an_answer_that_is_no_payment_is_an_unknown_outcome(value: object) -> None:
    with pytest.raises(AdapterError) as failure:
        yookassa._payment(value)

    assert failure.value.outcome_unknown


class _Fixed(BaseHTTPRequestHandler):
    """A provider whose every answer is one body; what YooKassa's edge sends on a bad day."""

    body = b""
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fixed(settings: Settings) -> Iterator[type[_Fixed]]:
    handler = type("_Answer", (_Fixed,), {})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    settings.YOOKASSA_API_BASE_URL = f"http://127.0.0.1:{server.server_port}/v3"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"items": 7}'])
def test_an_answer_that_cannot_be_read_is_tried_again(fixed: type[_Fixed], body: bytes) -> None:
    fixed.body = body
    now = clock.now()

    with pytest.raises(AdapterError) as failure:
        yookassa.listed(since=now, until=now)

    assert failure.value.retryable


def test_a_refusal_that_is_not_json_is_still_a_refusal(fixed: type[_Fixed]) -> None:
    fixed.status, fixed.body = 403, b"[1]"

    with pytest.raises(AdapterError, match="403") as failure:
        yookassa.get("x")

    assert not failure.value.retryable


def test_reading_what_is_not_there_says_so() -> None:
    with pytest.raises(RemoteNotFoundError):
        yookassa.get(str(uuid7()))


def test_wrong_credentials_are_final_and_their_error_names_no_secret(settings: Settings) -> None:
    settings.YOOKASSA_SECRET_KEY = "test_very_secret"

    with pytest.raises(AdapterError) as failure:
        yookassa.create(key=uuid4(), body="{}")

    assert (failure.value.retryable, failure.value.outcome_unknown) == (False, False)
    assert "401" in failure.value.detail
    assert "very_secret" not in str(failure.value)


def test_a_key_used_for_another_body_is_refused_for_good() -> None:
    key = uuid4()
    new = NewPayment(uuid7(), uuid7(), 500_000_000, "a@b.test", "http://127.0.0.1/app", "", "ru")
    yookassa.create(key=key, body=yookassa.request_body(new))
    other = yookassa.request_body(NewPayment(uuid7(), uuid7(), 1_000_000, "a@b.test", "http://h/", "", "ru"))

    with pytest.raises(AdapterError) as failure:
        yookassa.create(key=key, body=other)

    assert not failure.value.retryable


def test_trouble_while_reading_is_never_an_unknown_outcome(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    for effect in ("500", "429"):
        shop.spoil_read(payment, effect)
        with pytest.raises(AdapterError) as failure:
            yookassa.get(payment.provider_payment_id or "")
        assert (failure.value.retryable, failure.value.outcome_unknown) == (True, False)
