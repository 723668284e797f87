"""The wallet's page and the balance in the frame of every page."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.template import Context, Template
from django.test import Client, RequestFactory
from pytest_django import Settings

from accounts.models import User
from billing import context, statement
from billing.models import LotKind
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB

NBSP = "\u00a0"


@pytest.fixture
def customer(client: Client) -> User:
    """A customer who is signed in to the site."""
    user = factories.customer()
    client.force_login(user)
    return user


def text_of(answer: Any) -> str:
    """What a reader sees, with single spaces."""
    assert answer.status_code == 200
    main = answer.content.decode().split('id="main"', 1)[1].split("</main>", 1)[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", main))


def test_visitor_is_asked_to_sign_in(client: Client) -> None:
    answer = client.get("/app/wallet")

    assert answer.status_code == 302
    assert answer["Location"] == "/login?next=/app/wallet"


def test_new_wallet_says_what_will_stand_here(client: Client, customer: User) -> None:
    shown = text_of(client.get("/app/wallet"))

    assert "Кошелёк пуст" in shown
    assert "Выписка пуста" in shown


def test_wallet_shows_balance_reserve_lots_and_entries(client: Client, customer: User) -> None:
    books.credit(customer.id, 500 * RUB)
    books.credit(customer.id, 20 * RUB, kind=LotKind.BONUS, expires_at=books.in_seconds(3600))
    books.spend(customer.id, RUB)
    books.held(customer.id, 4 * RUB)

    shown = text_of(client.get("/app/wallet")).replace(NBSP, " ")

    for words in (
        "515,00 ₽",
        "4,00 ₽",
        "519,00 ₽",
        "Бонус",
        "Пополнение",
        "Ответ модели",
        books.SKU,
        "−1,00 ₽",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (LotKind.PURCHASED, "Пополнение"),
        (LotKind.BONUS, "Бонус"),
        (LotKind.MONTHLY, "Начисление по тарифу"),
        (LotKind.ROLLOVER, "Перенос с прошлого месяца"),
    ],
)
def test_every_kind_of_lot_has_its_words(client: Client, customer: User, kind: LotKind, words: str) -> None:
    books.credit(customer.id, RUB, kind=kind, expires_at=books.in_seconds(3600))

    page = client.get("/app/wallet")

    assert [lot["label"] for lot in page.context["lots"]] == [words]
    assert words in text_of(page)


def test_entry_of_a_payment_leads_to_the_payment(client: Client, customer: User) -> None:
    payment = uuid7()
    step = books.credit_step(customer.id, RUB) | {"source_type": "payment", "source_id": str(payment)}
    books.call("ledger_credit", [step])

    assert f'href="/app/topup/{payment}"' in client.get("/app/wallet").content.decode()


def test_entry_of_a_run_leads_to_the_run(client: Client, customer: User) -> None:
    books.credit(customer.id, RUB)
    books.spend(customer.id, 5)

    (line,) = client.get("/app/wallet?type=usage_debit").context["entries"]

    assert line["url"]
    assert f'href="{line["url"]}"' in client.get("/app/wallet").content.decode()


def test_statement_is_filtered_by_type(client: Client, customer: User) -> None:
    books.credit(customer.id, RUB)
    books.credit(customer.id, RUB, kind=LotKind.BONUS)

    entries = client.get("/app/wallet?type=bonus").context["entries"]

    assert [entry["type"] for entry in entries] == ["bonus"]
    assert "Таких проводок нет" in text_of(client.get("/app/wallet?type=refund"))


def test_statement_has_pages(client: Client, customer: User) -> None:
    books.call("ledger_credit", [books.credit_step(customer.id, place + 1) for place in range(25)])

    first = client.get("/app/wallet?type=admin_adjustment").context
    second = client.get(first["next_url"]).context

    assert [entry["amount_micro_rub"] for entry in first["entries"]] == list(range(25, 5, -1))
    assert [entry["amount_micro_rub"] for entry in second["entries"]] == [5, 4, 3, 2, 1]
    assert (first["first_url"], second["first_url"]) == ("", "/app/wallet?type=admin_adjustment")
    assert second["next_url"] == ""


@pytest.mark.parametrize(
    ("query", "leads_to"),
    [
        ("type=gift", "/app/wallet"),
        ("cursor=x", "/app/wallet"),
        ("type=topup&cursor=%00", "/app/wallet?type=topup"),
    ],
)
@pytest.mark.usefixtures("customer")
def test_garbage_leads_back_to_the_wallet(client: Client, query: str, leads_to: str) -> None:
    answer = client.get(f"/app/wallet?{query}")

    assert (answer.status_code, answer["Location"]) == (302, leads_to)


@pytest.mark.parametrize("method", ["post", "put", "delete"])
@pytest.mark.usefixtures("customer")
def test_wallet_is_only_read(client: Client, method: str) -> None:
    assert getattr(client, method)("/app/wallet").status_code == 405


def test_stranger_sees_an_own_wallet(client: Client, customer: User) -> None:
    books.credit(customer.id, 500 * RUB)
    client.force_login(factories.stranger())

    assert "Кошелёк пуст" in text_of(client.get("/app/wallet"))


def test_statement_that_cannot_be_read_says_so_and_the_balance_stays(
    client: Client, customer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times_out(*_: object, **__: object) -> None:
        raise OperationalError("canceling statement due to statement timeout")

    books.credit(customer.id, 500 * RUB)
    monkeypatch.setattr(statement, "lines", times_out)

    shown = text_of(client.get("/app/wallet")).replace(NBSP, " ")

    assert "Выписка сейчас не читается" in shown
    assert "500,00 ₽" in shown


def test_english_page_opens(client: Client, customer: User) -> None:
    books.credit(customer.id, 500 * RUB)

    assert client.get("/en/app/wallet").status_code == 200


def test_superaccount_sees_no_limit(client: Client, customer: User, settings: Settings) -> None:
    settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED = True
    settings.PLYRUM_DEV_SUPERACCOUNT_USER_ID = str(customer.id)

    page = client.get("/app/wallet").content.decode()

    assert "Без ограничения" in page
    assert "без ограничения" in page.split('id="main"', 1)[0]


def test_frame_shows_the_balance(client: Client, customer: User) -> None:
    books.credit(customer.id, 1234 * RUB)

    head = client.get("/app/wallet").content.decode().split('id="main"', 1)[0]

    assert f"1{NBSP}234,00{NBSP}₽" in head


def request_of(user: object) -> Any:
    request = RequestFactory().get("/")
    request.user = user  # type: ignore[assignment]
    return request


def test_page_that_shows_no_balance_asks_for_none(customer: User, django_assert_num_queries: Any) -> None:
    found = context.balance(request_of(customer))

    with django_assert_num_queries(0):
        Template("no money here").render(Context(found))


def test_balance_is_asked_once_for_a_page(customer: User, django_assert_num_queries: Any) -> None:
    books.credit(customer.id, 5 * RUB)
    found = context.balance(request_of(customer))

    with django_assert_num_queries(1):
        shown = Template(
            "{{ balance_micro_rub|money }}, {{ balance_micro_rub|money }}, {{ unlimited }}"
        ).render(Context(found))

    assert shown.replace(NBSP, " ") == "5,00 ₽, 5,00 ₽, False"


@pytest.mark.parametrize("request_", [request_of(AnonymousUser()), RequestFactory().get("/")])
def test_visitor_has_no_balance(request_: Any) -> None:
    template = Template("{% if balance_micro_rub is not None or unlimited %}shown{% else %}none{% endif %}")

    assert template.render(Context(context.balance(request_))) == "none"
