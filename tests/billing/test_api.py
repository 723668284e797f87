"""Balance and ledger over HTTP: shapes, filters, pages, and nothing of anybody else."""

import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from billing.models import EntryType, LotKind
from plyrum import clock
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock

NOON = datetime(2032, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def customer() -> User:
    return factories.customer()


class Api:
    """The customer API as one person sees it."""

    def __init__(self, client: Client, user: User) -> None:
        self._client = client
        self._headers = factories.bearer(user)

    def get(self, path: str, **query: object) -> Any:
        address = f"{path}?{urlencode(query)}" if query else path
        return self._client.get(address, headers=self._headers)

    def ledger(self, **query: object) -> Any:
        answer = self.get("/api/billing/ledger", **query)
        assert answer.status_code == 200, answer.content
        return answer.json()


@pytest.fixture
def api(client: Client, customer: User) -> Api:
    return Api(client, customer)


def cursor_at(seq: int) -> str:
    """A cursor as the API makes it, for an entry that the caller may never have seen."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def is_utc(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text).tzinfo is not None


def test_balance_of_a_new_customer_is_nothing(api: Api) -> None:
    answer = api.get("/api/balance")

    assert answer.status_code == 200
    assert answer.json() == {
        "balance_micro_rub": 0,
        "total_micro_rub": 0,
        "reserved_micro_rub": 0,
        "unlimited": False,
        "currency": "RUB",
        "lots": [],
    }


def test_balance_tells_what_is_free_what_is_held_and_from_which_lots(api: Api, customer: User) -> None:
    expires_at = books.in_seconds(3600)
    books.credit(customer.id, 500 * RUB)
    books.credit(customer.id, 20 * RUB, kind=LotKind.BONUS, expires_at=expires_at)
    books.held(customer.id, 30 * RUB)

    got = api.get("/api/balance").json()

    assert (got["balance_micro_rub"], got["total_micro_rub"], got["reserved_micro_rub"]) == (
        490 * RUB,
        520 * RUB,
        30 * RUB,
    )
    assert got["lots"] == [
        {"kind": "purchased", "remaining_micro_rub": 500 * RUB, "expires_at": None},
        {"kind": "bonus", "remaining_micro_rub": 20 * RUB, "expires_at": clock.rfc3339(expires_at)},
    ]


def test_balance_does_not_show_expired_money(api: Api, customer: User, clock: LedgerClock) -> None:
    past = books.in_seconds(-60)
    clock.stand_at(past - timedelta(hours=1))
    books.credit(customer.id, 100, kind=LotKind.BONUS, expires_at=past)
    books.held(customer.id, 30, ttl_seconds=7200)

    got = api.get("/api/balance").json()

    assert (got["balance_micro_rub"], got["total_micro_rub"], got["reserved_micro_rub"]) == (0, 30, 30)
    assert got["lots"] == []


def test_superaccount_is_unlimited(api: Api, customer: User, settings: Settings) -> None:
    settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED = True
    settings.PLYRUM_DEV_SUPERACCOUNT_USER_ID = str(customer.id)

    assert api.get("/api/balance").json()["unlimited"] is True


def test_entries_tell_both_directions_with_the_balance_after(api: Api, customer: User) -> None:
    payment_id = books.topped_up(customer.id, 500 * RUB)
    hold_id = books.held(customer.id, 2 * RUB)
    usage = [books.usage_row(RUB, run_id=hold_id, model="openai/gpt-x")]
    debit = books.settle(customer.id, hold_id, RUB, usage=usage)

    got = api.ledger()

    spent, paid = got["items"]
    assert got["next_cursor"] is None
    assert is_utc(spent["created_at"])
    assert spent == {
        "id": str(debit["entry_id"]),
        "seq": 2,
        "type": "usage_debit",
        "source_type": "run",
        "source_id": str(hold_id),
        "amount_micro_rub": -RUB,
        "balance_after_micro_rub": 499 * RUB,
        "description": "Ответ модели: openai/gpt-x",
        "created_at": spent["created_at"],
    }
    assert (paid["source_id"], paid["amount_micro_rub"], paid["description"]) == (
        str(payment_id),
        500 * RUB,
        "Пополнение",
    )


def test_page_names_its_schema_and_its_size(api: Api, customer: User) -> None:
    books.credit(customer.id, 5)

    answer = api.get("/api/billing/ledger", page_size=10)

    assert answer["X-Schema-Version"] == "1"
    assert (answer["X-Total-Count"], answer["X-Page"], answer["X-Page-Size"]) == ("1", "1", "10")


def test_pages_by_number_and_by_cursor_show_the_same(api: Api, customer: User) -> None:
    books.call("ledger_credit", [books.credit_step(customer.id, place + 1) for place in range(23)])
    expected = list(range(23, 0, -1))

    by_number = [api.ledger(page=page, page_size=5) for page in range(1, 7)]
    by_cursor = [api.ledger(page_size=5)]
    while by_cursor[-1]["next_cursor"]:
        by_cursor.append(api.ledger(page_size=5, cursor=by_cursor[-1]["next_cursor"]))

    assert [item["seq"] for page in by_number for item in page["items"]] == expected
    assert [item["seq"] for page in by_cursor for item in page["items"]] == expected
    assert by_number[5]["items"] == []


def test_cursor_is_stable_while_new_entries_come(api: Api, customer: User) -> None:
    books.call("ledger_credit", [books.credit_step(customer.id, 1) for _ in range(6)])
    first = api.ledger(page_size=3)
    books.credit(customer.id, 1)

    second = api.get("/api/billing/ledger", page_size=3, cursor=first["next_cursor"])

    assert [item["seq"] for item in second.json()["items"]] == [3, 2, 1]
    assert "X-Total-Count" not in second


def test_last_page_has_no_next_cursor(api: Api, customer: User) -> None:
    books.call("ledger_credit", [books.credit_step(customer.id, 1) for _ in range(4)])

    assert api.ledger(page_size=4)["next_cursor"] is None
    assert api.ledger(page_size=3)["next_cursor"] is not None


def test_pages_are_cheap_however_deep(api: Api, customer: User, django_assert_max_num_queries: Any) -> None:
    books.call("ledger_credit", [books.credit_step(customer.id, 1) for _ in range(30)])
    deep = api.ledger(page_size=25)["next_cursor"]

    with django_assert_max_num_queries(4):
        api.ledger(page_size=5, cursor=deep)


def test_filter_by_type(api: Api, customer: User) -> None:
    books.credit(customer.id, 5)
    books.credit(customer.id, 5, kind=LotKind.BONUS)
    books.spend(customer.id, 3)

    assert [item["type"] for item in api.ledger(type="bonus")["items"]] == ["bonus"]
    assert [item["type"] for item in api.ledger(type="usage_debit")["items"]] == ["usage_debit"]
    assert api.ledger(type="refund")["items"] == []


@pytest.mark.parametrize("name", EntryType.values)
def test_every_type_of_the_contract_is_a_filter(api: Api, name: str) -> None:
    assert api.ledger(type=name)["items"] == []


def test_filter_by_time_is_half_open(api: Api, customer: User, clock: LedgerClock) -> None:
    for hours in range(3):
        clock.stand_at(NOON + timedelta(hours=hours))
        books.credit(customer.id, hours + 1)
    first, second, third = ((NOON + timedelta(hours=hours)).isoformat() for hours in range(3))

    def amounts(**query: object) -> list[int]:
        return [item["amount_micro_rub"] for item in api.ledger(**query)["items"]]

    assert amounts(**{"from": second}) == [3, 2]
    assert amounts(to=second) == [1]
    assert amounts(**{"from": first, "to": third}) == [2, 1]
    assert amounts(**{"from": first, "to": first}) == []
    assert amounts(**{"from": "2032-05-01T16:00:00+03:00", "type": "admin_adjustment"}) == [3, 2]
    assert amounts(**{"from": "2032-05-01T13:00:00.000001Z"}) == [3]


@pytest.mark.parametrize(
    "query",
    [
        {"type": "gift"},
        {"type": ""},
        {"type": "TOPUP"},
        {"from": "yesterday"},
        {"from": "2026-11-20"},
        {"from": "2026-11-20T09:00:00"},
        {"from": "1700000000"},
        {"to": "2026-13-01T00:00:00Z"},
        {"to": "2026-11-20 09:00:00Z"},
        {"from": "2026-11-21T00:00:00Z", "to": "2026-11-20T00:00:00Z"},
        {"page": "0"},
        {"page": "-1"},
        {"page": "x"},
        {"page": "10000000"},
        {"page_size": "0"},
        {"page_size": "101"},
        {"page_size": "1.5"},
        {"cursor": "x"},
        {"cursor": "AAAA"},
        {"cursor": "%00"},
        {"cursor": "a" * 201},
        {"since": "2026-11-20T09:00:00Z"},
        {"typ": "topup"},
        {"customer_id": "1"},
    ],
)
def test_wrong_parameters_are_told_and_nothing_is_answered(api: Api, query: dict[str, str]) -> None:
    answer = api.get("/api/billing/ledger", **query)

    got = answer.json()
    assert (answer.status_code, got["code"]) == (422, "validation_failed")
    assert answer["Content-Type"] == "application/problem+json"
    assert got["errors"]


@pytest.mark.parametrize("number", [10**18, 10**30, -1, 0])
def test_cursor_beyond_everything_is_an_empty_or_full_page(api: Api, customer: User, number: int) -> None:
    books.credit(customer.id, 5)

    assert len(api.ledger(cursor=cursor_at(number))["items"]) == (1 if number > 0 else 0)


@pytest.mark.parametrize("path", ["/api/balance", "/api/billing/ledger"])
def test_visitor_sees_nothing(client: Client, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer["Content-Language"] == "en"  # a problem speaks English, whatever pages speak


@pytest.mark.parametrize("path", ["/api/balance", "/api/billing/ledger"])
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_money_cannot_be_written_over_http(client: Client, customer: User, path: str, method: str) -> None:
    answer = getattr(client, method)(path, headers=factories.bearer(customer))

    assert answer.status_code == 405


def test_stranger_sees_nothing_of_others(client: Client, customer: User) -> None:
    books.credit(customer.id, 500 * RUB)
    books.held(customer.id, RUB)
    theirs = Api(client, customer).ledger(page_size=1)
    stranger = Api(client, factories.stranger())

    assert stranger.get("/api/balance").json()["total_micro_rub"] == 0
    assert stranger.ledger()["items"] == []
    assert stranger.ledger(page_size=1, cursor=cursor_at(theirs["items"][0]["seq"] + 1))["items"] == []


def test_description_speaks_the_customers_language(client: Client) -> None:
    """English words are collected with the translations; the choice of the language is the customer's."""
    user = factories.customer(locale="en")
    books.credit(user.id, 5)

    answer = Api(client, user).get("/api/billing/ledger")

    (item,) = answer.json()["items"]
    assert (item["description"], answer["Content-Language"]) == ("Adjustment", "en")


def test_one_query_tells_the_models_of_a_whole_page(
    client: Client, customer: User, django_assert_max_num_queries: Any
) -> None:
    books.credit(customer.id, 100)
    for _ in range(10):
        books.spend(customer.id, 1)
    api = Api(client, customer)

    with django_assert_max_num_queries(5):
        got = api.ledger()

    assert {item["description"] for item in got["items"][:10]} == {f"Ответ модели: {books.SKU}"}


def test_models_of_one_run_are_named_once_each_in_the_order_of_work(api: Api, customer: User) -> None:
    books.credit(customer.id, 100)
    hold_id: UUID = books.held(customer.id, 50)
    usage = []
    for model in ("b/scout", "a/final", "b/scout"):
        usage.append(books.usage_row(10, run_id=hold_id, model=model))
        time.sleep(0.002)  # ids follow the work by the millisecond

    books.settle(customer.id, hold_id, 30, usage=usage)

    assert api.ledger()["items"][0]["description"] == "Ответ модели: b/scout, a/final"
