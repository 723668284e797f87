"""`POST /api/billing/admin/credit` and `/adjustment`: who may, what they take, what a repeat answers."""

from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from auditlog.actors import Actor
from billing import acts
from billing.models import OperatorRequest
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB

CREDIT = "/api/billing/admin/credit"
ADJUSTMENT = "/api/billing/admin/adjustment"


@pytest.fixture
def customer() -> UUID:
    return factories.customer().id


@pytest.fixture
def finance() -> User:
    return factories.operator("finance")


def body(customer: UUID, **facts: Any) -> dict[str, Any]:
    return {
        "user_id": str(customer),
        "reason": "Жалоба клиента",
        "idempotency_key": str(uuid7()),
        "amount_rub": 5,
        **facts,
    }


def post(client: Client, person: User, data: object, *, path: str = CREDIT, **headers: str) -> Any:
    return client.post(
        path, data, content_type="application/json", headers={**factories.bearer(person), **headers}
    )


def told(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_credit_answers_the_entry(client: Client, finance: User, customer: UUID) -> None:
    answer = post(client, finance, body(customer, ticket="T-7"))

    entry = told(answer, 201)["entry"]
    (stored,) = books.entries(customer)
    assert entry["id"] == str(stored.id)
    assert (entry["seq"], entry["type"], entry["source_type"]) == (1, "admin_adjustment", "operator")
    assert (entry["amount_micro_rub"], entry["balance_after_micro_rub"]) == (5 * RUB, 5 * RUB)
    assert entry["description"]
    assert entry["created_at"].endswith("Z")
    assert "Idempotent-Replayed" not in answer
    request = OperatorRequest.objects.get(ledger_entry_id=stored.id)
    assert (request.maker_id, request.ticket) == (finance.id, "T-7")


def test_micro_roubles_are_taken_exactly(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer, amount_micro_rub=1_234_567)
    del data["amount_rub"]

    assert told(post(client, finance, data), 201)["entry"]["amount_micro_rub"] == 1_234_567


def test_adjustment_gives_and_takes_what_is_free(client: Client, finance: User, customer: UUID) -> None:
    down = body(customer, amount_rub=-3)

    answers = [
        told(post(client, finance, data, path=ADJUSTMENT), 201)["entry"]["balance_after_micro_rub"]
        for data in (body(customer), down, down)
    ]
    too_much = post(client, finance, body(customer, amount_rub=-3), path=ADJUSTMENT)

    assert answers == [5 * RUB, 2 * RUB, 2 * RUB]
    assert told(too_much, 402)["code"] == "insufficient_balance"
    assert [entry.amount_micro_rub for entry in books.entries(customer)] == [5 * RUB, 3 * RUB]


@pytest.mark.parametrize("amount", [0, None, "-5", 1.5, 10**30, -(10**30)])
def test_adjustment_of_a_wrong_amount_is_refused(
    client: Client, finance: User, customer: UUID, amount: object
) -> None:
    answer = post(client, finance, body(customer, amount_rub=amount), path=ADJUSTMENT)

    assert told(answer, 422)["code"] in ("validation_failed", "operator_limit_exceeded")
    assert books.entries(customer) == []


def test_same_key_and_body_answer_the_same_entry(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer)

    first, again = post(client, finance, data), post(client, finance, data)

    assert told(first, 201) == told(again, 201)
    assert again["Idempotent-Replayed"] == "true"
    assert len(books.entries(customer)) == 1


def test_same_key_with_another_body_is_refused(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer)
    post(client, finance, data)

    answer = post(client, finance, data | {"amount_rub": 6})

    assert told(answer, 422)["code"] == "idempotency_mismatch"
    assert len(books.entries(customer)) == 1


def test_key_may_come_in_the_header(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer)
    del data["idempotency_key"]
    key = {"Idempotency-Key": str(uuid7())}

    first, again = post(client, finance, data, **key), post(client, finance, data, **key)

    assert told(first, 201) == told(again, 201)


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x85b"])
def test_header_that_is_no_key_is_refused(client: Client, finance: User, customer: UUID, key: str) -> None:
    problem = told(post(client, finance, body(customer), **{"Idempotency-Key": key}), 422)

    assert problem["code"] == "validation_failed"
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert books.entries(customer) == []


def test_key_is_required(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer)
    del data["idempotency_key"]

    assert told(post(client, finance, data), 422)["code"] == "idempotency_key_required"
    assert books.entries(customer) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"amount_micro_rub": 5},
        {"amount_rub": None},
        {"amount_rub": 0},
        {"amount_rub": -5},
        {"amount_rub": "5"},
        {"amount_rub": 1.5},
        {"amount_rub": 10**30},
        {"reason": " "},
        {"reason": "x" * 301},
        {"ticket": "x" * 101},
        {"ticket": "a\x00b"},
        {"idempotency_key": ""},
        {"idempotency_key": "a\r\nb"},
        {"user_id": "nobody"},
        {"walk": 1},
    ],
)
def test_wrong_fields_are_refused_and_named(
    client: Client, finance: User, customer: UUID, facts: dict[str, Any]
) -> None:
    problem = told(post(client, finance, body(customer, **facts)), 422)

    assert problem["code"] == "validation_failed"
    assert problem["errors"]
    assert books.entries(customer) == []


def test_limit_is_told(client: Client, finance: User, customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_CREDIT_MAX_RUB = 8

    problem = told(post(client, finance, body(customer)), 403)

    facts = (problem["code"], problem["role"], problem["limit_micro_rub"])
    assert facts == ("operator_limit_exceeded", "finance", 4 * RUB)


def test_unknown_customer_is_not_found(client: Client, finance: User) -> None:
    assert told(post(client, finance, body(uuid7())), 404)["code"] == "not_found"


def test_own_wallet_is_refused(client: Client, finance: User) -> None:
    assert told(post(client, finance, body(finance.id)), 403)["code"] == "own_wallet"
    assert books.entries(finance.id) == []


@pytest.mark.parametrize(
    ("role", "status"),
    [("support", 403), ("catalogue", 403), ("security", 403), ("finance", 201), ("owner", 201)],
)
def test_role_decides(client: Client, customer: UUID, role: str, status: int) -> None:
    told(post(client, factories.operator(role), body(customer)), status)

    assert len(books.entries(customer)) == (status == 201)


def test_customers_and_visitors_are_kept_out(client: Client, customer: UUID) -> None:
    assert told(post(client, factories.stranger(), body(customer)), 403)["code"] == "forbidden"
    told(client.post(CREDIT, body(customer), content_type="application/json"), 401)
    assert books.entries(customer) == []


def test_session_of_the_back_office_needs_its_token(
    finance: User, customer: UUID, settings: Settings
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(finance)

    told(client.post(CREDIT, body(customer), content_type="application/json"), 403)
    told(client.post(CREDIT, body(customer)), 403)
    assert books.entries(customer) == []

    client.get("/admin/billing/wallet/")  # any page that sets the token
    token = client.cookies[settings.CSRF_COOKIE_NAME].value
    form = body(customer, csrfmiddlewaretoken=token)
    assert told(client.post(CREDIT, form), 400)["code"] == "invalid_json"
    headers = {"X-CSRFToken": token}
    told(client.post(CREDIT, body(customer), content_type="application/json", headers=headers), 201)


def test_above_the_limit_it_waits_for_a_second_person(
    client: Client, finance: User, customer: UUID, settings: Settings
) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 4
    data = body(customer)

    asked = told(post(client, finance, data), 202)["request"]

    assert (asked["state"], asked["amount_micro_rub"]) == ("waiting", 5 * RUB)
    assert books.entries(customer) == []
    assert told(post(client, finance, data), 202)["request"] == asked

    request = OperatorRequest.objects.get(pk=asked["id"])
    checker = Actor.operator(uuid7())
    acts.approve(request_id=request.id, sha256=request.sha256, now=clock.now(), actor=checker)

    entry = told(post(client, finance, data), 201)["entry"]
    assert entry["id"] == str(books.entries(customer)[0].id)


def test_key_of_a_refused_request_stays_refused(
    client: Client, finance: User, customer: UUID, settings: Settings
) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 4
    data = body(customer)
    asked = told(post(client, finance, data), 202)["request"]
    acts.refuse(
        request_id=UUID(asked["id"]),
        reason="Не подтвердилось",
        now=clock.now(),
        actor=Actor.operator(uuid7()),
    )

    problem = told(post(client, finance, data), 409)

    assert (problem["code"], problem["state"]) == ("operator_request_closed", "refused")


def test_too_large_a_body_is_refused(client: Client, finance: User, customer: UUID) -> None:
    data = body(customer, reason="x" * 70_000)

    assert told(post(client, finance, data), 413)["code"] == "body_too_large"
