"""Every failure as the same document, with the headers that belong to it."""

from typing import Any

import pytest
from django.http import Http404
from django.test import RequestFactory
from rest_framework import exceptions
from rest_framework.views import APIView

from plyrum import errors, operator_problems, problems


def test_document_has_every_member_and_the_errors_own_facts() -> None:
    error = errors.PaymentRequired("Top up.", needed_micro_rub=5)

    found = problems.document(error, instance="/api/x", request_id="r-1")

    assert found.pop("type").endswith("payment_required")
    assert found == {
        "title": "There is not enough money",
        "status": 402,
        "detail": "Top up.",
        "instance": "/api/x",
        "code": "payment_required",
        "retryable": False,
        "request_id": "r-1",
        "needed_micro_rub": 5,
    }


def test_detail_is_the_title_when_nothing_is_said() -> None:
    assert (
        problems.document(errors.NotFound(), instance="", request_id="")["detail"] == "Nothing is found here"
    )


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.NotFound(), {}),
        (errors.Unauthenticated(), {"WWW-Authenticate": 'Bearer realm="plyrum"'}),
        (errors.MethodNotAllowed(allow=["GET", "HEAD"]), {"Allow": "GET, HEAD"}),
        (errors.MethodNotAllowed(), {}),
        (errors.TooManyRequests(retry_after_seconds=7), {"Retry-After": "7"}),
        (
            errors.TooManyRequests(retry_after_seconds=7, limit=10),
            {
                "Retry-After": "7",
                "X-RateLimit-Limit": "10",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": "7",
            },
        ),
    ],
)
def test_headers_belong_to_the_error(error: errors.PlyrumError, headers: dict[str, str]) -> None:
    assert problems.headers(error) == {"Content-Language": "en", **headers}


def test_wrong_fields_never_repeat_the_value() -> None:
    rows: list[dict[str, Any]] = [
        {
            "loc": ("body", "items", 0, "password"),
            "msg": "Too short",
            "type": "short",
            "input": "secret-value",
        }
    ]

    refused = problems.field_errors(rows)

    assert refused.extra["errors"] == [
        {"loc": ["body", "items", "0", "password"], "msg": "Too short", "type": "short"}
    ]
    assert "secret-value" not in repr(refused.extra)


def every_family() -> list[type[errors.PlyrumError]]:
    """All families and the errors of every app that is loaded."""
    found, waiting = [], [errors.PlyrumError]
    while waiting:
        family = waiting.pop()
        found.append(family)
        waiting += family.__subclasses__()
    return found


@pytest.mark.parametrize("family", every_family(), ids=lambda family: family.__name__)
def test_every_error_is_a_well_formed_problem(family: type[errors.PlyrumError]) -> None:
    assert family.code.replace("_", "").isalnum()
    assert family.code == family.code.lower()
    assert 400 <= family.status <= 599
    assert str(family.title)


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (errors.Conflict(), "conflict", 409),
        (exceptions.ParseError(), "invalid_json", 400),
        (exceptions.UnsupportedMediaType("text/plain"), "invalid_json", 400),
        (exceptions.NotAuthenticated(), "unauthenticated", 401),
        (exceptions.AuthenticationFailed(), "unauthenticated", 401),
        (exceptions.PermissionDenied(), "forbidden", 403),
        (exceptions.NotFound(), "not_found", 404),
        (Http404(), "not_found", 404),
        (exceptions.MethodNotAllowed("PUT"), "method_not_allowed", 405),
        (exceptions.ValidationError({"name": ["Needed."]}), "validation_failed", 422),
    ],
)
def test_operators_read_the_same_problems(failure: Exception, code: str, status: int) -> None:
    request: Any = RequestFactory().get("/api/audit")
    request.request_id = "r-1"

    answer = operator_problems.handle(failure, {"request": request, "view": APIView()})

    assert answer is not None
    assert (answer.status_code, answer.data["code"], answer.data["request_id"]) == (status, code, "r-1")
    assert answer.content_type == problems.CONTENT_TYPE


@pytest.mark.parametrize(
    ("detail", "rows"),
    [
        ({"name": ["Needed."]}, [(["query", "name"], "Needed.")]),
        ({"name": "Needed."}, [(["query", "name"], "Needed.")]),
        (["Wrong."], [(["query"], "Wrong.")]),
        (
            {"a": ["One.", "Two."], "b": ["Three."]},
            [(["query", "a"], "One."), (["query", "a"], "Two."), (["query", "b"], "Three.")],
        ),
    ],
)
def test_wrong_fields_of_operators_have_places(detail: Any, rows: list[tuple[list[str], str]]) -> None:
    request: Any = RequestFactory().get("/api/audit")
    request.request_id = "r-1"

    answer = operator_problems.handle(exceptions.ValidationError(detail), {"request": request})

    assert answer is not None
    assert [(row["loc"], row["msg"]) for row in answer.data["errors"]] == rows


def test_unexpected_failure_of_the_operator_api_rises() -> None:
    assert operator_problems.handle(ZeroDivisionError(), {"request": None}) is None


def test_failure_of_an_outside_service_says_whether_to_repeat() -> None:
    failure = errors.AdapterError("yookassa", "timed out", retryable=True, outcome_unknown=True)

    assert (str(failure), failure.retryable, failure.outcome_unknown) == ("yookassa: timed out", True, True)
