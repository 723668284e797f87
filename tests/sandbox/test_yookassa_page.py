"""The hosted payment page: forms, test cards, СБП, leaving, and what a finished payment shows."""

import re
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import CreatePayment

Json = dict[str, Any]
GOOD = {"expiry": "12 / 30", "csc": "123"}
SUCCESS = [
    "5555555555554477",
    "5555555555554444",
    "4793128161644804",
    "4111111111111111",
    "2200000000000004",
    "2202474301322987",
    "6759649826438453",
    "370000000000002",
    "3528000700000000",
]
DECLINES = [
    ("3d_secure_failed", "payment_network", "5555555555554592", "4839665499603842", "2200000000000012"),
    ("call_issuer", "payment_network", "5555555555554535", "4926946416239025", "2200000000000020"),
    ("card_expired", "payment_network", "5555555555554543", "4141435412630840", "2200000000000038"),
    ("fraud_suspected", "payment_network", "5555555555554568", "4483274282299972", "2200000000000046"),
    ("general_decline", "payment_network", "5555555555554527", "4889971706588753", "2202202212312379"),
    ("insufficient_funds", "payment_network", "5555555555554600", "4562265587712390", "2200000000000053"),
    ("invalid_card_number", "payment_network", "5555555555554618", "4951017853630544", "2201382000000013"),
    ("invalid_csc", "payment_network", "5555555555554626", "4194180666146368", "2200770212727079"),
    ("issuer_unavailable", "payment_network", "5555555555554501", "4654130848359150", "2201382000000021"),
    (
        "payment_method_limit_exceeded",
        "payment_network",
        "5555555555554576",
        "4565231022577548",
        "2201382000000039",
    ),
    (
        "payment_method_restricted",
        "payment_network",
        "5555555555554550",
        "4233961169071671",
        "2201382000000047",
    ),
    ("country_forbidden", "yoo_money", "5555555555554584", "4969751510013864", "2201382000000054"),
    ("fraud_suspected", "yoo_money", "5555555555554634", "4119098878796485", "2201696981989955"),
]


def by_card(browser: httpx.Client, payment: Json, number: str, **changes: str) -> httpx.Response:
    return browser.post(f"/yookassa/pay/{payment['id']}/card", data={"number": number} | GOOD | changes)


@pytest.mark.parametrize("number", SUCCESS)
def test_a_good_card_pays_and_returns_to_the_shop(
    browser: httpx.Client, yookassa: httpx.Client, create: CreatePayment, number: str
) -> None:
    payment = create()

    answer = by_card(browser, payment, number)
    shown = yookassa.get(f"/payments/{payment['id']}").json()

    assert answer.status_code == 303
    assert answer.headers["Location"] == "http://127.0.0.1:8000/app/topup/7f3c"
    assert shown["status"] == "succeeded"
    card = shown["payment_method"]["card"]
    assert (card["first6"], card["last4"]) == (number[:6], number[-4:])
    assert (card["expiry_month"], card["expiry_year"]) == ("12", "2030")


@pytest.mark.parametrize(
    ("reason", "party", "number"), [(row[0], row[1], number) for row in DECLINES for number in row[2:]]
)
def test_a_test_card_is_declined_for_its_reason(
    browser: httpx.Client, yookassa: httpx.Client, create: CreatePayment, reason: str, party: str, number: str
) -> None:
    payment = create()

    answer = by_card(browser, payment, number)
    shown = yookassa.get(f"/payments/{payment['id']}").json()

    assert answer.status_code == 303
    assert shown["status"] == "canceled"
    assert shown["cancellation_details"] == {"party": party, "reason": reason}
    assert shown["payment_method"]["card"]["last4"] == number[-4:]


def test_any_other_number_is_declined_without_a_reason(
    browser: httpx.Client, yookassa: httpx.Client, create: CreatePayment
) -> None:
    payment = create()

    by_card(browser, payment, "4242 4242 4242 4242")

    shown = yookassa.get(f"/payments/{payment['id']}").json()
    assert shown["cancellation_details"]["reason"] == "general_decline"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"number": "4111 1111 1111 1112"}, "number"),
        ({"number": ""}, "number"),
        ({"number": "сорок"}, "number"),
        ({"expiry": "13/30"}, "expiry"),
        ({"expiry": "01/20"}, "expiry"),
        ({"expiry": ""}, "expiry"),
        ({"csc": "12"}, "csc"),
    ],
)
def test_a_mistyped_form_comes_back_with_its_errors(
    browser: httpx.Client, yookassa: httpx.Client, create: CreatePayment, changes: dict[str, str], field: str
) -> None:
    payment = create()

    data = {"number": "4111111111111111"} | GOOD | changes
    answer = browser.post(f"/yookassa/pay/{payment['id']}/card", data=data)

    assert answer.status_code == 422
    assert f'aria-describedby="{field}-problem"' in answer.text
    assert 'role="alert"' in answer.text
    assert yookassa.get(f"/payments/{payment['id']}").json()["status"] == "pending"


@pytest.mark.parametrize(("answer", "status"), [("confirm", "succeeded"), ("refuse", "canceled")])
def test_sbp_is_answered_by_the_bank(
    browser: httpx.Client, yookassa: httpx.Client, create: CreatePayment, answer: str, status: str
) -> None:
    payment = create()

    redirect = browser.post(f"/yookassa/pay/{payment['id']}/sbp", data={"answer": answer})
    shown = yookassa.get(f"/payments/{payment['id']}").json()

    assert redirect.status_code == 303
    assert shown["status"] == status
    assert shown["payment_method"]["type"] == "sbp"


def test_the_page_shows_sum_shop_and_every_way(browser: httpx.Client, create: CreatePayment) -> None:
    payment = create(description="<b>Пополнение</b>")

    answer = browser.get(f"/yookassa/pay/{payment['id']}")

    text = answer.text
    assert answer.status_code == 200
    assert "1\u00a0500,00\u00a0₽" in text
    assert "&lt;b&gt;Пополнение&lt;/b&gt;" in text
    assert "ЮKassa · песочница" in text
    for mark in ("pay-card", "card-number", "card-expiry", "card-csc", "sbp-confirm", "sbp-refuse", "leave"):
        assert f'data-test="{mark}"' in text
    assert 'href="http://127.0.0.1:8000/app/topup/7f3c"' in text
    assert not re.search(r"<script|style=|onclick", text)
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("method", "shown", "hidden"),
    [("sbp", "sbp-confirm", "pay-card"), ("bank_card", "pay-card", "sbp-confirm")],
)
def test_a_chosen_method_is_the_only_one(
    browser: httpx.Client, create: CreatePayment, method: str, shown: str, hidden: str
) -> None:
    payment = create(payment_method_data={"type": method})

    text = browser.get(f"/yookassa/pay/{payment['id']}").text

    assert shown in text
    assert hidden not in text


def test_a_finished_payment_says_so_and_cannot_be_paid_again(
    browser: httpx.Client, create: CreatePayment
) -> None:
    payment = create()
    by_card(browser, payment, "5555555555554444")

    page = browser.get(f"/yookassa/pay/{payment['id']}")
    again = by_card(browser, payment, "5555555555554600")

    assert 'data-status="succeeded"' in page.text
    assert "Платёж уже оплачен" in again.text
    assert "card-number" not in again.text


def test_an_unknown_payment_has_a_page_of_its_own(browser: httpx.Client) -> None:
    answer = browser.get("/yookassa/pay/nothing")

    assert answer.status_code == 404
    assert "Платёж не найден" in answer.text


def test_the_other_pages_open(browser: httpx.Client, create: CreatePayment) -> None:
    payment = create()

    index = browser.get("/").text
    payments = browser.get("/yookassa/payments").text

    assert "5555\u00a05555\u00a05555\u00a04477" in index
    assert f"/yookassa/pay/{payment['id']}" in payments
    assert browser.get("/openai/calls").status_code == 200
    assert browser.get("/static/sandbox.css").headers["Content-Type"].startswith("text/css")


def test_a_chosen_test_card_fills_the_form(browser: httpx.Client, create: CreatePayment) -> None:
    payment = create()

    chosen = browser.get(f"/yookassa/pay/{payment['id']}", params={"card": "5555555555554600"}).text
    foreign = browser.get(f"/yookassa/pay/{payment['id']}", params={"card": 'zz4242"><script>'}).text

    assert 'value="5555 5555 5555 4600"' in chosen
    assert 'value="12 / 30"' in chosen
    assert "zz4242" not in foreign  # ids are of hexadecimal digits
    assert "<script" not in foreign


def test_a_return_address_cannot_widen_the_policy(browser: httpx.Client, create: CreatePayment) -> None:
    confirmation = {"type": "redirect", "return_url": "http://магазин.рф; script-src */назад"}
    payment = create(confirmation=confirmation)

    answer = browser.get(f"/yookassa/pay/{payment['id']}")

    assert answer.status_code == 200
    assert "script-src" not in answer.headers["Content-Security-Policy"]


def test_an_unknown_path_has_an_answer_in_its_own_shape(browser: httpx.Client) -> None:
    page = browser.get("/nothing/here")
    provider = browser.get("/openai/v1/nothing")

    assert page.status_code == provider.status_code == 404
    assert "Страницы нет" in page.text
    assert provider.json()["error"]["code"] == "unknown_url"
