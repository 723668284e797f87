"""The customer API of payments over HTTP: shapes, keys, bad input, other people's payments."""

from typing import Any

import orjson
import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from payments.models import Payment
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import RUB, Shop, balance, open_payment

CHECKOUT = "/api/payments/checkout"
BODY: dict[str, Any] = {"amount_rub": 500, "accept_terms": True}
PAYMENT_FIELDS = {
    "id",
    "status",
    "amount_micro_rub",
    "currency",
    "provider",
    "provider_payment_id",
    "confirmation_url",
    "expires_at",
    "created_at",
    "succeeded_at",
    "cancellation_reason",
    "method",
    "refunds",
    "receipts",
}


def post(client: Client, user: User | None, path: str, body: Any = None, **headers: str) -> Any:
    who = factories.bearer(user) if user else {}
    return client.post(path, body, content_type="application/json", headers=who | headers)


def get(client: Client, user: User, path: str) -> Any:
    return client.get(path, headers=factories.bearer(user))


def test_checkout_answers_where_to_pay(client: Client, shop: Shop) -> None:
    user = factories.customer()

    answer = post(client, user, CHECKOUT, BODY)

    assert answer.status_code == 201
    payment = answer.json()["payment"]
    assert set(payment) == PAYMENT_FIELDS
    assert (payment["status"], payment["amount_micro_rub"], payment["provider"]) == (
        "pending",
        500 * RUB,
        "yookassa",
    )
    (remote,) = shop.payments_of(user)
    assert payment["provider_payment_id"] == remote["id"]
    assert payment["confirmation_url"] == remote["confirmation"]["confirmation_url"]
    assert payment["created_at"].endswith("Z")
    assert payment["expires_at"].endswith("Z")
    assert "Idempotent-Replayed" not in answer.headers
    assert balance(user) == 0


def test_the_receipt_goes_to_the_given_address_else_to_the_account(client: Client) -> None:
    user = factories.customer()

    post(client, user, CHECKOUT, BODY | {"receipt_email": "books@example.test"})
    post(client, user, CHECKOUT, BODY)

    rows = Payment.objects.filter(customer_id=user.id).order_by("id")
    assert [row.receipt_email for row in rows] == ["books@example.test", user.email]


def test_method_and_own_return_address_reach_the_provider(client: Client, settings: Settings) -> None:
    user = factories.customer()
    url = f"{settings.SITE_URL}/app/chat"

    post(client, user, CHECKOUT, BODY | {"method": "sbp", "return_url": url})

    sent = orjson.loads(Payment.objects.get(customer_id=user.id).request_body)
    assert sent["payment_method_data"] == {"type": "sbp"}
    assert sent["confirmation"]["return_url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/app",
        "http://127.0.0.1:8000.evil.example/",
        "http://127.0.0.1:8000@evil.example/",
        "http://127.0.0.1:8000\\@evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "/app",
        "http://[::1",
        "http://127.0.0.1:8000/\u0000",
    ],
)
def test_an_address_of_another_site_is_no_return_address(
    client: Client, settings: Settings, url: str
) -> None:
    settings.SITE_URL = "http://127.0.0.1:8000"

    answer = post(client, factories.customer(), CHECKOUT, BODY | {"return_url": url})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"]


@pytest.mark.parametrize("place", ["header", "body"])
def test_a_repeat_gets_the_stored_answer(client: Client, shop: Shop, place: str) -> None:
    user = factories.customer()
    body = BODY if place == "header" else BODY | {"idempotency_key": "key-1"}
    headers = {"Idempotency-Key": "key-1"} if place == "header" else {}

    first = post(client, user, CHECKOUT, body, **headers)
    shop.pay(Payment.objects.get(customer_id=user.id))
    paid = post(client, user, f"/api/payments/{first.json()['payment']['id']}/refresh")
    second = post(client, user, CHECKOUT, body, **headers)

    assert paid.json()["status"] == "succeeded"
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json()["payment"] == first.json()["payment"]
    assert len(shop.payments_of(user)) == 1


def test_one_key_for_another_body_is_a_mismatch(client: Client) -> None:
    user = factories.customer()
    post(client, user, CHECKOUT, BODY, **{"Idempotency-Key": "key-2"})

    answer = post(client, user, CHECKOUT, BODY | {"amount_rub": 501}, **{"Idempotency-Key": "key-2"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_no_key_is_refused(client: Client, key: str) -> None:
    answer = post(client, factories.customer(), CHECKOUT, BODY, **{"Idempotency-Key": key})

    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["header", "Idempotency-Key"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"amount_rub": None}, "amount_rub"),
        ({"amount_rub": "500"}, "amount_rub"),
        ({"amount_rub": 500.5}, "amount_rub"),
        ({"amount_rub": 500.0}, "amount_rub"),
        ({"amount_rub": True}, "amount_rub"),
        ({"amount_rub": [500]}, "amount_rub"),
        ({"amount_rub": 99}, "amount_rub"),
        ({"amount_rub": -500}, "amount_rub"),
        ({"amount_rub": 10**18}, "amount_rub"),
        ({"accept_terms": False}, "accept_terms"),
        ({"accept_terms": None}, "accept_terms"),
        ({"accept_terms": "true"}, "accept_terms"),
        ({"receipt_email": "not an address"}, "receipt_email"),
        ({"receipt_email": "a@b.c\u0000"}, "receipt_email"),
        ({"receipt_email": 7}, "receipt_email"),
        ({"receipt_email": "a" * 250 + "@example.test"}, "receipt_email"),
        ({"method": "cash"}, "method"),
        ({"offer_version": 0}, "offer_version"),
        ({"offer_version": 10**12}, "offer_version"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "a\u0000b"}, "idempotency_key"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
        ({"surprise": 1}, "surprise"),
        ({"customer_id": str(uuid7())}, "customer_id"),
    ],
)
def test_wrong_fields_are_named_and_nothing_is_stored(
    client: Client, change: dict[str, Any], name: str
) -> None:
    user = factories.customer()

    answer = post(client, user, CHECKOUT, BODY | change)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["loc"][-1] == name
    assert not Payment.objects.filter(customer_id=user.id).exists()


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"amount_rub": NaN, "accept_terms": true}', 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b'{"x": "' + b"x" * 65_536 + b'"}', 413, "body_too_large"),
        (b"{}", 422, "validation_failed"),
    ],
)
def test_a_body_that_is_no_order_is_refused(client: Client, raw: bytes, status: int, code: str) -> None:
    answer = client.post(
        CHECKOUT, raw, content_type="application/json", headers=factories.bearer(factories.customer())
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_outdated_terms_name_the_version_to_read(client: Client) -> None:
    user = User.objects.create(email=factories.unique_email())

    answer = post(client, user, CHECKOUT, BODY)

    got = answer.json()
    assert (answer.status_code, got["code"], got["document"]) == (409, "terms_outdated", "offer")
    again = post(client, user, CHECKOUT, BODY | {"offer_version": got["version"]})
    assert again.status_code == 201


def test_without_a_provider_the_checkout_is_not_configured(client: Client, settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = ""

    answer = post(client, factories.customer(), CHECKOUT, BODY)

    assert (answer.status_code, answer.json()["code"]) == (503, "payments_not_configured")


def test_an_unknown_outcome_says_that_nothing_is_charged_twice(client: Client, shop: Shop) -> None:
    user = factories.customer()
    shop.spoil_create(user, "500_after_execution")

    answer = post(client, user, CHECKOUT, BODY, **{"Idempotency-Key": "key-3"})
    got = answer.json()
    again = post(client, user, CHECKOUT, BODY, **{"Idempotency-Key": "key-3"})

    assert (answer.status_code, got["code"], got["retryable"]) == (503, "payment_outcome_unknown", True)
    assert "nothing is charged twice" in got["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert again.status_code == 201
    assert again.json()["payment"]["id"] == got["payment_id"]
    assert len(shop.payments_of(user)) == 1


def test_own_payments_are_listed_newest_first(client: Client) -> None:
    user = factories.customer()
    made = [str(open_payment(user, rub).id) for rub in (100, 200, 300)]

    first = get(client, user, "/api/payments?page_size=2")
    second = get(client, user, f"/api/payments?page_size=2&cursor={first.json()['next_cursor']}")

    assert first.headers["X-Schema-Version"] == "1"
    assert first.headers["X-Total-Count"] == "3"
    assert (first.headers["X-Page"], first.headers["X-Page-Size"]) == ("1", "2")
    assert [item["id"] for item in first.json()["items"]] == made[:0:-1]
    assert [item["id"] for item in second.json()["items"]] == made[:1]
    assert second.json()["next_cursor"] is None
    assert "X-Total-Count" not in second.headers
    assert set(first.json()["items"][0]) == PAYMENT_FIELDS


@pytest.mark.parametrize("query", ["page=0", "page_size=101", "page=x", "cursor=%00", "cursor=zzz"])
def test_a_wrong_page_is_a_wrong_field(client: Client, query: str) -> None:
    assert get(client, factories.customer(), f"/api/payments?{query}").status_code == 422


def test_a_payment_shows_why_it_did_not_pass(client: Client, shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.decline(payment, "insufficient_funds")

    refreshed = post(client, user, f"/api/payments/{payment.id}/refresh")
    shown = get(client, user, f"/api/payments/{payment.id}")

    assert refreshed.json() == shown.json()
    assert shown.headers["X-Schema-Version"] == "1"
    got = shown.json()
    assert (got["status"], got["cancellation_reason"]) == ("canceled", "insufficient_funds")
    assert (got["refunds"], got["receipts"], got["confirmation_url"]) == ([], [], None)


def test_states_that_only_we_tell_apart_are_pending(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)
    for status in ("created", "unknown", "pending"):
        Payment.objects.filter(pk=payment.pk).update(status=status)
        assert get(client, user, f"/api/payments/{payment.id}").json()["status"] == "pending"


def test_a_refresh_credits_what_was_paid_once_in_ten_seconds(client: Client, shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    first = post(client, user, f"/api/payments/{payment.id}/refresh")
    second = post(client, user, f"/api/payments/{payment.id}/refresh")

    assert (first.status_code, first.json()["status"]) == (200, "succeeded")
    assert (second.status_code, second.json()["code"]) == (429, "rate_limited")
    assert second.headers["Retry-After"] == "10"
    rate = [second.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")]
    assert rate == ["1", "0", "10"]
    assert balance(user) == 500 * RUB


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_json"),
        ('{"walk": 1}', 422, "validation_failed"),
        (" " * 65_537, 413, "body_too_large"),
        ('{"idempotency_key": "k"}', 200, ""),
    ],
)
def test_a_refresh_is_told_nothing_but_a_key(
    client: Client, shop: Shop, body: str, status: int, code: str
) -> None:
    user = factories.customer()
    payment = open_payment(user)

    answer = post(client, user, f"/api/payments/{payment.id}/refresh", body)

    assert (answer.status_code, answer.json().get("code", "")) == (status, code)
    payment.refresh_from_db()
    assert (payment.checked_at is not None) == (status == 200)


def test_a_refresh_of_a_silent_provider_says_so(client: Client, settings: Settings) -> None:
    user = factories.customer()
    payment = open_payment(user)
    settings.YOOKASSA_API_BASE_URL = "http://127.0.0.1:9/v3"

    answer = post(client, user, f"/api/payments/{payment.id}/refresh")

    assert (answer.status_code, answer.json()["code"]) == (503, "payment_provider_unavailable")


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_sees_a_missing_payment(client: Client, shop: Shop, method: str) -> None:
    owner, stranger = factories.customer(), factories.stranger()
    payment = open_payment(owner)
    shop.pay(payment)
    tail = "" if method == "get" else "/refresh"

    answers = [
        getattr(client, method)(f"/api/payments/{wanted}{tail}", headers=factories.bearer(stranger))
        for wanted in (payment.id, uuid7(), "not-an-id", "%00")
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
    assert get(client, stranger, "/api/payments").json()["items"] == []
    assert balance(owner) == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", CHECKOUT),
        ("get", "/api/payments"),
        ("get", f"/api/payments/{uuid7()}"),
        ("post", f"/api/payments/{uuid7()}/refresh"),
    ],
    ids=["begin", "list", "one", "ask again"],
)
def test_visitors_and_forged_tokens_are_turned_away(client: Client, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}):
        answer = getattr(client, method)(path, headers=headers)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["WWW-Authenticate"]
