"""The operator API's doors: who gets in and how. `/api/audit` stands for every operator view."""

import pytest
from django.conf import settings
from django.test import Client, RequestFactory
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.operator_auth import IsOperator, OperatorAuthentication
from tests import factories


def test_session_of_an_operator_opens_reading(client: Client) -> None:
    client.force_login(factories.operator())

    assert client.get("/api/audit", {"limit": 1}).status_code == 200


def test_session_of_a_customer_does_not(client: Client) -> None:
    client.force_login(factories.customer())

    assert client.get("/api/audit").status_code == 403


def test_session_without_the_csrf_token_writes_nothing() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.operator())

    answer = client.post("/api/audit", {"action": "prune"}, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_session_with_the_csrf_token_is_believed() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.operator())
    client.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32

    answer = client.put("/api/audit", headers={"X-CSRFToken": "a" * 32})

    assert answer.status_code == 405  # past authentication: this method is not offered


def test_bearer_wins_over_the_session(client: Client) -> None:
    client.force_login(factories.operator())

    answer = client.get("/api/audit", headers=factories.bearer(factories.customer()))

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer nonsense", "token_invalid"),
        ("Bearer plk_0123456789", "key_invalid"),
        ("Basic YTpi", "token_invalid"),
        ("Bearer", "token_invalid"),
    ],
)
def test_wrong_bearer_is_nobody_even_with_a_session(client: Client, header: str, code: str) -> None:
    client.force_login(factories.operator())

    answer = client.get("/api/audit", headers={"Authorization": header})

    assert (answer.status_code, answer.json()["code"]) == (401, code)


def test_view_without_roles_is_open_to_every_operator() -> None:
    request = Request(
        RequestFactory().get("/", headers=factories.bearer(factories.operator("support"))),
        authenticators=[OperatorAuthentication()],
    )

    assert IsOperator().has_permission(request, APIView())
