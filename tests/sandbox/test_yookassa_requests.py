"""What the sandbox's YooKassa refuses, and with which words: credentials, keys, bodies, queries."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests import web
from tests.sandbox.conftest import CreatePayment, new_key, payment_body
from tests.sandbox_process import SandboxProcess

Json = dict[str, Any]


def assert_refused(answer: httpx.Response, status: int, code: str, parameter: str | None = None) -> None:
    body = answer.json()
    assert answer.status_code == status, body
    assert body["type"] == "error"
    assert body["code"] == code
    assert len(body["id"]) == 36
    assert body["description"]
    assert body.get("parameter") == parameter


@pytest.mark.parametrize(
    "credentials", [None, ("900001", "wrong"), ("900002", "test_sandbox_secret"), ("", "")]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/payments"), ("POST", "/payments"), ("GET", "/me")])
def test_wrong_credentials_are_refused(
    sandbox: SandboxProcess, credentials: tuple[str, str] | None, method: str, path: str
) -> None:
    answer = web.request(method, f"{sandbox.url}/yookassa/v3{path}", auth=credentials)

    assert_refused(answer, 401, "invalid_credentials")


@pytest.mark.parametrize("key", [None, "", "k" * 65, "ключ".encode(), "with space", "a/b"])
def test_a_missing_or_malformed_key_is_refused(yookassa: httpx.Client, key: str | bytes | None) -> None:
    headers: dict[str, Any] = {} if key is None else {"Idempotence-Key": key}

    answer = yookassa.post("/payments", json=payment_body(), headers=headers)

    assert_refused(answer, 400, "invalid_request", "Idempotence-Key")


@pytest.mark.parametrize("key", ["a", "5" * 64, "A-z_0.9+key"])
def test_every_allowed_key_is_taken(yookassa: httpx.Client, key: str) -> None:
    answer = yookassa.post("/payments", json=payment_body(), headers={"Idempotence-Key": key})

    assert answer.status_code == 200


def test_the_same_key_and_data_give_the_original_result(yookassa: httpx.Client) -> None:
    key = new_key()

    first = yookassa.post("/payments", json=payment_body(), headers=key)
    second = yookassa.post("/payments", json=payment_body(), headers=key)

    assert first.status_code == second.status_code == 200
    assert first.content == second.content


def test_a_new_key_makes_a_second_payment(create: CreatePayment) -> None:
    assert create()["id"] != create()["id"]


def test_the_same_key_with_other_data_is_refused(yookassa: httpx.Client) -> None:
    key = new_key()
    yookassa.post("/payments", json=payment_body(), headers=key)

    answer = yookassa.post("/payments", json=payment_body(description="другое"), headers=key)

    assert_refused(answer, 400, "invalid_request", "Idempotence-Key")


def test_a_corrected_request_needs_a_new_key(yookassa: httpx.Client) -> None:
    key = new_key()
    refused = yookassa.post("/payments", json=payment_body(capture="yes"), headers=key)

    same_key = yookassa.post("/payments", json=payment_body(), headers=key)
    new = yookassa.post("/payments", json=payment_body(), headers=new_key())

    assert_refused(refused, 400, "invalid_request", "capture")
    assert_refused(same_key, 400, "invalid_request", "Idempotence-Key")
    assert new.status_code == 200


def test_a_key_is_forgotten_after_a_day() -> None:
    with SandboxProcess() as sandbox:
        client = web.client(base_url=f"{sandbox.url}/yookassa/v3", auth=("900001", "test_sandbox_secret"))
        with client:
            key = new_key()
            first = client.post("/payments", json=payment_body(), headers=key).json()
            sandbox.control("yookassa", {"clock_offset_seconds": 24 * 3600 + 1})
            second = client.post("/payments", json=payment_body(description="другое"), headers=key)

    assert second.status_code == 200
    assert second.json()["id"] != first["id"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(yookassa: httpx.Client, content_type: str) -> None:
    headers = new_key() | {"Content-Type": content_type}

    answer = yookassa.post("/payments", content=b"{}", headers=headers)

    assert_refused(answer, 415, "invalid_request", "Content-Type")


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"text"', b"null", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(yookassa: httpx.Client, raw: bytes) -> None:
    headers = new_key() | {"Content-Type": "application/json"}

    answer = yookassa.post("/payments", content=raw, headers=headers)

    assert_refused(answer, 400, "invalid_request")


def money(value: Any, currency: Any = "RUB") -> Json:
    return {"value": value, "currency": currency}


def redirect(**changes: Any) -> Json:
    return {"type": "redirect", "return_url": "http://127.0.0.1:8000/back"} | changes


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"amount": None}, "amount"),
        ({"amount": "1500.00"}, "amount"),
        ({"amount": {"currency": "RUB"}}, "amount.value"),
        ({"amount": money(1500)}, "amount.value"),
        ({"amount": money(1500.0)}, "amount.value"),
        ({"amount": money("1500")}, "amount.value"),
        ({"amount": money("1500.0")}, "amount.value"),
        ({"amount": money("1500.000")}, "amount.value"),
        ({"amount": money("1,500.00")}, "amount.value"),
        ({"amount": money("1500,00")}, "amount.value"),
        ({"amount": money("-1.00")}, "amount.value"),
        ({"amount": money(" 1500.00")}, "amount.value"),
        ({"amount": money("1500.00\n")}, "amount.value"),
        ({"amount": money("١٥٠٠.00")}, "amount.value"),
        ({"amount": money("0.99")}, "amount.value"),
        ({"amount": money("350000.01")}, "amount.value"),
        ({"amount": money("1500.00", "USD")}, "amount.currency"),
        ({"amount": {"value": "1500.00"}}, "amount.currency"),
        ({"amount": money("1500.00") | {"vat": 1}}, "amount.vat"),
        ({"capture": "true"}, "capture"),
        ({"capture": 1}, "capture"),
        ({"confirmation": None}, "confirmation"),
        ({"confirmation": redirect(type="embedded")}, "confirmation.type"),
        ({"confirmation": {"type": "redirect"}}, "confirmation.return_url"),
        ({"confirmation": redirect(return_url="/back")}, "confirmation.return_url"),
        ({"confirmation": redirect(return_url="javascript:alert(1)")}, "confirmation.return_url"),
        ({"confirmation": redirect(return_url="https://a.example/" + "x" * 2031)}, "confirmation.return_url"),
        ({"confirmation": redirect(locale="de_DE")}, "confirmation.locale"),
        ({"confirmation": redirect(colour="red")}, "confirmation.colour"),
        ({"description": "д" * 129}, "description"),
        ({"description": 5}, "description"),
        ({"merchant_customer_id": "u" * 201}, "merchant_customer_id"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 33: "x"}}, "metadata"),
        ({"metadata": {"number": 5}}, "metadata.number"),
        ({"metadata": {"long": "x" * 513}}, "metadata.long"),
        ({"client_ip": "300.1.1.1"}, "client_ip"),
        ({"payment_method_data": {"type": "mir"}}, "payment_method_data.type"),
        ({"payment_method_data": {"type": "sberbank"}}, "payment_method_data.type"),
        ({"payment_method_data": {"type": "sbp"}, "capture": False}, "capture"),
        ({"payment_token": "t", "payment_method_id": "m"}, "payment_method_id"),
        ({"payment_method_id": "m"}, "payment_method_id"),
        ({"save_payment_method": "yes"}, "save_payment_method"),
        ({"recipient": {"account": "1"}}, "recipient.account"),
        ({"colour": "red"}, "colour"),
        ({"cms_name": "x"}, "cms_name"),
    ],
)
def test_a_bad_field_is_named(yookassa: httpx.Client, change: Json, parameter: str) -> None:
    answer = yookassa.post("/payments", json=payment_body(**change), headers=new_key())

    assert_refused(answer, 400, "invalid_request", parameter)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": money("1.00")},
        {"amount": money("350000.00")},
        {
            "confirmation": redirect(
                return_url="https://a.example/" + "x" * 2030, locale="ru_RU", enforce=True
            )
        },
        {"description": "д" * 128},
        {"metadata": {f"{'k' * 30}{n:02d}": "x" * 512 for n in range(16)}},
        {"client_ip": "2001:db8::1"},
        {"payment_method_data": {"type": "bank_card"}},
        {"payment_method_data": {"type": "sbp"}},
        {"save_payment_method": False},
        {"merchant_customer_id": None, "metadata": None, "description": None},
    ],
)
def test_every_allowed_field_is_taken(create: CreatePayment, change: Json) -> None:
    assert create(**change)["status"] == "pending"


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"save_payment_method": True}, "save_payment_method"),
        ({"airline": {}}, "airline"),
        ({"transfers": []}, "transfers"),
        ({"deal": {}}, "deal"),
        ({"statements": []}, "statements"),
    ],
)
def test_what_the_shop_has_not_is_forbidden(yookassa: httpx.Client, change: Json, parameter: str) -> None:
    answer = yookassa.post("/payments", json=payment_body(**change), headers=new_key())

    assert_refused(answer, 403, "forbidden", parameter)


ITEM: Json = {
    "description": "Предоплата за доступ к сервису",
    "quantity": 1.000,
    "measure": "piece",
    "amount": {"value": "1500.00", "currency": "RUB"},
    "vat_code": 1,
    "payment_subject": "service",
    "payment_mode": "full_prepayment",
}


def receipt(*items: Json, **changes: Any) -> Json:
    return {"customer": {"email": "buyer@example.com"}, "items": list(items) or [ITEM]} | changes


@pytest.mark.parametrize(
    "value",
    [
        receipt(),
        receipt(ITEM | {"vat_code": 12, "quantity": "1"}),
        receipt(ITEM | {"quantity": 3, "amount": money("500.00")}, customer={"phone": "79001234567"}),
        receipt(ITEM | {"amount": money("500.00")}, ITEM | {"amount": money("1000.00")}, tax_system_code=2),
        receipt(ITEM | {"quantity": 0.5, "amount": money("3000.00")}),
    ],
)
def test_a_good_receipt_is_registered_with_the_payment(
    create: CreatePayment, sandbox: SandboxProcess, value: Json
) -> None:
    payment = create(receipt=value)
    paid = sandbox.control(f"payments/{payment['id']}/outcome", {"outcome": "succeeded"})

    assert payment["receipt_registration"] == "pending"
    assert paid["receipt_registration"] == "succeeded"


@pytest.mark.parametrize(
    ("value", "parameter"),
    [
        ([], "receipt"),
        ({"items": [ITEM]}, "receipt.customer"),
        (receipt(customer={}), "receipt.customer"),
        (receipt(customer={"email": "nobody"}), "receipt.customer.email"),
        (receipt(customer={"phone": "+79001234567"}), "receipt.customer.phone"),
        (receipt(customer={"email": "a@b.c", "inn": "123"}), "receipt.customer.inn"),
        (receipt() | {"items": []}, "receipt.items"),
        (receipt(ITEM | {"amount": money("1499.99")}), "receipt.items"),
        (receipt(ITEM | {"quantity": 2}), "receipt.items"),
        (receipt(ITEM | {"quantity": 0}), "receipt.items[0].quantity"),
        (receipt(ITEM | {"quantity": 1.0001}), "receipt.items[0].quantity"),
        (receipt(ITEM | {"quantity": "one"}), "receipt.items[0].quantity"),
        (receipt(ITEM | {"vat_code": 0}), "receipt.items[0].vat_code"),
        (receipt(ITEM | {"vat_code": 13}), "receipt.items[0].vat_code"),
        (receipt(ITEM | {"vat_code": "1"}), "receipt.items[0].vat_code"),
        (receipt(ITEM | {"measure": "bottle"}), "receipt.items[0].measure"),
        (receipt(ITEM | {"payment_mode": "later"}), "receipt.items[0].payment_mode"),
        (receipt(ITEM | {"payment_subject": "wish"}), "receipt.items[0].payment_subject"),
        (receipt(ITEM | {"description": "д" * 129}), "receipt.items[0].description"),
        (receipt(ITEM | {"price": 1}), "receipt.items[0].price"),
        (receipt(tax_system_code=7), "receipt.tax_system_code"),
        (receipt(colour="red"), "receipt.colour"),
    ],
)
def test_a_bad_receipt_is_refused(yookassa: httpx.Client, value: Any, parameter: str) -> None:
    answer = yookassa.post("/payments", json=payment_body(receipt=value), headers=new_key())

    assert_refused(answer, 400, "invalid_request", parameter)


def test_a_shop_with_a_register_demands_the_receipt() -> None:
    with SandboxProcess() as sandbox:
        sandbox.control("yookassa", {"receipt_required": True})
        answer = web.post(
            f"{sandbox.url}/yookassa/v3/payments",
            json=payment_body(),
            headers=new_key(),
            auth=("900001", "test_sandbox_secret"),
        )

    assert_refused(answer, 400, "invalid_request", "receipt")


@pytest.mark.parametrize(
    "path",
    ["/payments/nothing", f"/payments/{uuid4()}", f"/refunds/{uuid4()}", "/wishes"],
    ids=["no id", "a payment", "a refund", "no such kind"],
)
def test_an_unknown_object_is_not_found(yookassa: httpx.Client, path: str) -> None:
    assert_refused(yookassa.get(path), 404, "not_found")


def test_a_wrong_method_is_refused_in_the_same_shape(yookassa: httpx.Client) -> None:
    assert_refused(yookassa.delete("/payments", headers=new_key()), 405, "invalid_request")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"status": "paid"}, "status"),
        ({"payment_method": "mir"}, "payment_method"),
        ({"created_at.gte": "yesterday"}, "created_at.gte"),
        ({"created_at.eq": "2026-11-20T00:00:00Z"}, "created_at.eq"),
        ({"cursor": "12"}, "cursor"),
        ({"cursor": "c-" + "9" * 30}, "cursor"),
        ({"limit": "9" * 5000}, "limit"),
        ({"metadata.topup_id": "7f3c"}, "metadata.topup_id"),
    ],
)
def test_a_bad_list_query_is_refused(yookassa: httpx.Client, query: dict[str, str], parameter: str) -> None:
    assert_refused(yookassa.get("/payments", params=query), 400, "invalid_request", parameter)
