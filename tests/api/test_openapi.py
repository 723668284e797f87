"""The published document of the customer API: a change of it is seen in review, and real answers keep it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import transaction

from billing import ledger
from plyrum.ids import uuid7
from tests import factories, web
from tests.api.json_schema import faults, followed
from tests.api.renew_snapshot import SNAPSHOT, text_of
from tests.api.routes import KEY_DOORS, METHODS, OPEN_DOORS, document
from tests.server_process import ServerProcess

RUB = 1_000_000
Operation = tuple[str, str, dict[str, Any], dict[str, Any]]


def operations() -> Iterator[Operation]:
    """(method, path, operation, path item)."""
    for path, item in document()["paths"].items():
        yield from ((method, path, item[method], item) for method in METHODS if method in item)


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a document."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from parts(part)


def test_document_is_the_reviewed_one() -> None:
    assert text_of(document()) == SNAPSHOT.read_text(encoding="utf-8"), (
        "The customer API has changed. If it was meant: python -m tests.api.renew_snapshot"
    )


def test_document_is_served_to_everybody(server: ServerProcess) -> None:
    answer = web.get(f"{server.url}/api/openapi.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert text_of(answer.json()) == text_of(document())


def test_document_has_the_structure_of_openapi_3_1() -> None:
    found = document()

    assert re.fullmatch(r"3\.1\.\d+", found["openapi"])
    assert found["info"]["title"]
    assert found["info"]["version"]
    assert all(path.startswith("/") for path in found["paths"])
    for method, path, operation, item in operations():
        where = f"{method} {path}"
        named = [*item.get("parameters", []), *operation.get("parameters", [])]
        in_path = {parameter["name"] for parameter in named if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), where
        assert all(parameter["required"] for parameter in named if parameter["in"] == "path"), where
        assert all("schema" in parameter for parameter in named), where
        assert operation["responses"], where
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status), where
            response = followed(response["$ref"], found) if "$ref" in response else response
            assert response["description"], where


def test_every_reference_leads_somewhere() -> None:
    found = document()

    for part in parts(found):
        if isinstance(part.get("$ref"), str):
            assert followed(part["$ref"], found)


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation, _ in operations() if "operationId" in operation]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("method", "path", "operation", "_item"), list(operations()))
def test_every_operation_has_summary_tag_and_security(
    method: str, path: str, operation: dict[str, Any], _item: dict[str, Any]
) -> None:
    known = document()["components"]["securitySchemes"]

    assert operation["summary"]
    assert operation["tags"]
    assert all(set(choice) <= set(known) for choice in operation["security"])
    if not path.startswith(OPEN_DOORS):
        by_key: list[dict[str, list[str]]] = [{"ApiKey": []}] if (method, path) in KEY_DOORS else []
        assert operation["security"] == [*by_key, {"AccessToken": []}]


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    person = factories.customer()
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=person.id, amount_micro_rub=100 * RUB,
            key=f"openapi:{uuid7()}", expires_at=None,
        )  # fmt: skip
    headers = factories.bearer(person)
    with web.client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def check(answer: httpx.Response, method: str, path: str) -> None:
    """The answer is one that the document names for its status, in every field."""
    found = document()
    responses = found["paths"][path][method]["responses"]
    response = responses.get(str(answer.status_code)) or followed(responses["default"]["$ref"], found)
    content = response.get("content", {}).get(answer.headers["content-type"].partition(";")[0])
    assert content is not None, (method, path, answer.status_code, answer.headers["content-type"])
    assert list(faults(answer.json(), content["schema"], found)) == []


@pytest.mark.parametrize("path", ["/api/account", "/api/balance", "/api/billing/ledger", "/api/payments"])
def test_answers_keep_the_document(http: httpx.Client, path: str) -> None:
    answer = http.get(path)

    assert answer.status_code == 200
    check(answer, "get", path)


def test_payment_keeps_the_document(http: httpx.Client) -> None:
    opened = http.post("/api/payments/checkout", json={"amount_rub": 500, "accept_terms": True})

    assert opened.status_code == 201
    check(opened, "post", "/api/payments/checkout")
    check(http.get(f"/api/payments/{opened.json()['payment']['id']}"), "get", "/api/payments/{payment_id}")


def test_keys_keep_the_document(http: httpx.Client) -> None:
    made = http.post("/api/account/keys", json={"name": "Проба", "month_limit_micro_rub": RUB})
    path = f"/api/account/keys/{made.json()['id']}"

    assert made.status_code == 201
    check(made, "post", "/api/account/keys")
    check(http.get("/api/account/keys"), "get", "/api/account/keys")
    check(http.patch(path, json={"name": "Другая"}), "patch", "/api/account/keys/{key_id}")
    assert http.delete(path).status_code == 204


def test_people_keep_the_document(http: httpx.Client) -> None:
    person = {"email": factories.unique_email("openapi"), "password": "a long enough passphrase"}

    registered = http.post("/api/auth/register", json={**person, "accept_offer": True})
    signed_in = http.post("/api/auth/login", json=person)

    assert (registered.status_code, signed_in.status_code) == (201, 200)
    check(registered, "post", "/api/auth/register")
    check(signed_in, "post", "/api/auth/login")
    token = signed_in.json()["refresh_token"]
    check(http.post("/api/auth/refresh", json={"refresh_token": token}), "post", "/api/auth/refresh")


def test_runs_keep_the_document(http: httpx.Client) -> None:
    asked = {"prompt": "?", "model": "sandbox/small", "stream": False}

    answered = http.post("/api/stream/run", json=asked, headers={"Idempotency-Key": str(uuid7())})

    assert answered.status_code == 200
    check(answered, "post", "/api/stream/run")
    stopped = http.post(f"/api/runs/{answered.json()['run_id']}/cancel")
    check(stopped, "post", "/api/runs/{run_id}/cancel")
    told = http.get(f"/api/runs/{answered.json()['run_id']}/frames")
    shown = document()["paths"]["/api/runs/{run_id}/frames"]["get"]["responses"]["200"]["content"]
    for line in told.text.splitlines():
        assert list(faults(json.loads(line), shown["application/x-ndjson"]["schema"], document())) == []


def test_key_of_the_body_may_stand_in_the_header() -> None:
    told = {
        path
        for _, path, operation, _ in operations()
        if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
    }

    assert {"/api/stream/run", "/api/payments/checkout", "/api/subscription/activate"} <= told
    assert "/api/auth/login" not in told


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/payments/checkout", {"amount_rub": "much"}, 422),
        ("/api/auth/login", {"email": "nobody@example.test", "password": "wrong"}, 401),
        ("/api/stream/run", {}, 422),
    ],
)
def test_refusals_keep_the_document(http: httpx.Client, path: str, body: dict[str, Any], status: int) -> None:
    answer = http.post(path, json=body)

    assert answer.status_code == status
    check(answer, "post", path)
