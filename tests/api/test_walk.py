"""Every route of the API meets what a client can get wrong: the right answer, never a fault, nothing moved.

The routes come from the product itself, the requests from their schemas; a new route needs no new test.
"""

import ipaddress
import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import Model

from accounts import api_keys, tokens
from accounts.models import User
from auditlog.actors import Actor
from billing import ledger
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories, web
from tests.api import cases
from tests.api.cases import Case
from tests.api.conftest import MOCK_SECRET
from tests.api.routes import KEY_DOORS, METHODS, Operation, lean_paths, operations
from tests.billing import books
from tests.payments.invoices.firm import close, firm, in_months, invoice
from tests.server_process import ServerProcess

pytestmark = pytest.mark.heavy

RUB = 1_000_000
MEMBERS = ("type", "title", "status", "detail", "instance", "code", "retryable", "request_id")
MOCK = "/api/payments/webhook/mock"
MAY_BE_UNAVAILABLE = ("/api/ready", "/api/health")  # 503 with a body of their own is their answer
ALL = operations()
WITH_BODY = [operation for operation in ALL if operation.body is not None]
CLOSED = [operation for operation in ALL if operation.audience != "visitor"]
APPS_OF_MONEY = ("billing", "plans", "payments", "orchestration", "playground")
_addresses = itertools.count(random.randrange(2**60))  # noqa: S311 - other runs use the same counters

Find = Callable[[Operation], "Walker"]


class Walker:
    """One customer with money, a payment and a run, who sends requests and writes down every wrong answer."""

    def __init__(self, server: ServerProcess, person: User) -> None:
        self.server = server
        self.person = person
        self.token = factories.access_token(person)
        self.faults: list[str] = []
        self.http = web.client(base_url=server.url, timeout=30)

    def send(self, operation: Operation, case: Case, *, is_known: bool = True) -> httpx.Response:
        """One request from an address of its own; with the walker's token unless the case brings another."""
        headers = {
            "content-type": "application/json",
            "x-forwarded-for": str(ipaddress.IPv6Address(2**125 + next(_addresses))),
            **({"authorization": f"Bearer {self.token}"} if is_known else {}),
            **({"x-plyrum-mock-webhook-secret": MOCK_SECRET} if operation.path == MOCK else {}),
            **case.headers,
        }
        target = (case.path or path_of(operation)) + (f"?{case.query}" if case.query else "")
        content: Any = _in_chunks(case.content) if case.is_chunked else case.content
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        request = self.http.build_request(operation.method, target, content=content, headers=encoded)
        return self.http.send(request)

    def walk(self, operation: Operation, found: Iterable[Case], *, is_known: bool = True) -> None:
        for case in found:
            answer = self.send(operation, case, is_known=is_known)
            if complaint := complaint_about(answer, case, operation):
                self.faults.append(f"{operation} [{case.name}] {complaint}")

    def balance(self) -> Any:
        return self.http.get("/api/balance", headers={"authorization": f"Bearer {self.token}"}).json()


def complaint_about(answer: httpx.Response, case: Case, operation: Operation) -> str:
    """What is wrong with an answer; "" when nothing is."""
    if answer.status_code == 503 and operation.path in MAY_BE_UNAVAILABLE:
        return ""
    shown = f"{answer.status_code} {answer.text[:160]!r}"
    if answer.status_code >= 500 and not (
        answer.status_code == 503 and "code" in answer.text and not case.statuses
    ):
        return f"is a fault: {shown}"
    if case.statuses and answer.status_code not in case.statuses:
        return f"wants {case.statuses}: {shown}"
    if "x-request-id" not in answer.headers:
        return f"has no X-Request-Id: {shown}"
    return _complaint_about_problem(answer, case) if answer.status_code >= 400 else ""


def _complaint_about_problem(answer: httpx.Response, case: Case) -> str:
    shown = f"{answer.status_code} {answer.text[:160]!r}"
    if answer.headers.get("content-type", "") != "application/problem+json":
        return f"is no problem document ({answer.headers.get('content-type')}): {shown}"
    body = answer.json()
    if missing := [name for name in MEMBERS if name not in body]:
        return f"lacks {missing}: {shown}"
    if (body["status"], body["request_id"]) != (answer.status_code, answer.headers["x-request-id"]):
        return f"tells another status or request id: {shown}"
    if case.code and body["code"] != case.code:
        return f"wants code {case.code}: {shown}"
    if answer.status_code == 422 and body["code"] == "validation_failed":
        rows = body.get("errors")
        if not rows or any(set(row) != {"loc", "msg", "type"} for row in rows):
            return f"has no errors with loc, msg, type: {shown}"
    if answer.status_code == 401 and "www-authenticate" not in answer.headers:
        return f"has no WWW-Authenticate: {shown}"
    if answer.status_code == 429 and "retry-after" not in answer.headers:
        return f"has no Retry-After: {shown}"
    return ""


def path_of(operation: Operation, identity: str = "") -> str:
    """The operation's path with `identity` (else an id of nothing) in its place."""
    path = operation.path
    for name in operation.path_names:
        path = path.replace(f"{{{name}}}", identity or str(uuid4()))
    return path


def rows_of(customer_id: UUID) -> dict[str, int]:
    """How many rows of money, payments, runs and threads a customer has, table by table."""
    return {
        model._meta.label: model._default_manager.filter(**{name: customer_id}).count()
        for model, name in _tables()
    }


def _tables() -> list[tuple[type[Model], str]]:
    found: list[tuple[type[Model], str]] = []
    for label in APPS_OF_MONEY:
        for model in apps.get_app_config(label).get_models():
            names = {field.attname for field in model._meta.concrete_fields}
            found += [(model, name) for name in ("customer_id", "user_id") if name in names]
    return found


def _in_chunks(content: bytes) -> Iterable[bytes]:
    return (content[place : place + 16_384] for place in range(0, len(content), 16_384))


@pytest.fixture
def find(server: ServerProcess, mock_server: ServerProcess) -> Iterable[Find]:
    """A walker whom an operation lets in, at the server that offers it: the mock's door needs the mock."""
    made: list[Walker] = []

    def make(operation: Operation) -> Walker:
        person = factories.operator() if operation.audience == "operator" else factories.customer()
        with transaction.atomic():
            ledger.bonus(
                entry_id=uuid7(), customer_id=person.id, amount_micro_rub=100 * RUB,
                key=f"walk:{uuid7()}", expires_at=None,
            )  # fmt: skip
        made.append(Walker(mock_server if operation.path == MOCK else server, person))
        return made[-1]

    yield make
    for walker in made:
        walker.http.close()


@pytest.fixture(scope="session")
def foreign_ids(server: ServerProcess) -> dict[str, str]:
    """Everything of somebody else that has an id."""
    person = factories.customer()
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=person.id, amount_micro_rub=100 * RUB,
            key=f"walk:{uuid7()}", expires_at=None,
        )  # fmt: skip
    with web.client(base_url=server.url, headers=factories.bearer(person), timeout=30) as http:
        order = {"amount_rub": 500, "accept_terms": True}
        payment = http.post("/api/payments/checkout", json=order).raise_for_status().json()["payment"]
        asked = {
            "prompt": "Привет",
            "model": "sandbox/small",
            "stream": False,
            "idempotency_key": str(uuid4()),
        }
        run = http.post("/api/stream/run", json=asked).raise_for_status().json()
    organisation = firm(person)
    books.spend(person.id, RUB)
    document = close(organisation, in_months(1))
    return {
        "payment_id": payment["id"],
        "run_id": run["run_id"],
        "key_id": str(factories.api_key(person)[0].pk),
        "invoice_id": str(invoice(person.id).id),
        "document_id": str(document.id if document else None),
    }


@pytest.mark.parametrize("operation", CLOSED, ids=str)
def test_wrong_credentials_are_refused_first(find: Find, operation: Operation) -> None:
    walker = find(operation)
    lived = timedelta(seconds=settings.ACCESS_TOKEN_TTL + 60)
    expired = tokens.issue(
        user_id=walker.person.id, session_id=uuid7(), token_version=0, now=clock.now() - lived
    )

    walker.walk(operation, cases.wrong_credentials(walker.token, expired), is_known=False)

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize("operation", CLOSED, ids=str)
def test_api_key_opens_what_it_is_for_and_nothing_else(find: Find, operation: Operation) -> None:
    """The key of an operator too. A revoked key is nobody anywhere."""
    walker = find(operation)
    before = rows_of(walker.person.id)
    row, headers = factories.api_key(walker.person)
    body = json.dumps(cases.example(operation)).encode() if operation.body is not None else b""

    answer = walker.send(operation, Case("key", (), content=body, headers=headers), is_known=False)

    told = (answer.status_code, answer.json().get("code")) if answer.status_code >= 400 else (200, "")
    if (operation.method, operation.path) in KEY_DOORS:
        assert told in ((200, ""), (404, "not_found")), told
    else:
        assert told == (403, "forbidden")
        assert rows_of(walker.person.id) == before
    api_keys.revoke(key_id=row.pk, now=clock.now(), actor=Actor.customer(walker.person.id))
    for _ in range(150):  # an engine hears of it, or asks within five seconds
        gone = walker.send(operation, Case("revoked", (), content=body, headers=headers), is_known=False)
        if gone.status_code == 401:
            break
        time.sleep(0.2)
    assert (gone.status_code, gone.json()["code"]) == (401, "key_revoked")
    assert headers["Authorization"][-49:] not in answer.text + gone.text


@pytest.mark.parametrize("operation", [one for one in ALL if one.audience == "operator"], ids=str)
def test_customers_are_refused_at_operators_doors(find: Find, operation: Operation) -> None:
    walker = find(replace(operation, audience="customer"))

    walker.walk(
        operation, [Case("a customer's token", (403,), "forbidden", b"{}"), Case("and rubbish", (403,))]
    )

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_bodies_that_are_no_objects_are_refused(find: Find, operation: Operation) -> None:
    walker = find(operation)
    before = rows_of(walker.person.id), walker.balance()

    walker.walk(operation, cases.broken_bodies(operation))

    assert not walker.faults, "\n".join(walker.faults)
    assert (rows_of(walker.person.id), walker.balance()) == before


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_wrong_fields_are_refused(find: Find, operation: Operation) -> None:
    walker = find(operation)
    before = rows_of(walker.person.id), walker.balance()

    walker.walk(operation, cases.wrong_fields(operation))

    assert not walker.faults, "\n".join(walker.faults)
    assert (rows_of(walker.person.id), walker.balance()) == before


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_garbage_in_texts_is_never_a_fault(find: Find, operation: Operation) -> None:
    walker = find(operation)

    walker.walk(operation, cases.garbage_texts(operation))

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize("operation", [one for one in ALL if one.query], ids=str)
def test_garbage_in_parameters_is_never_a_fault(
    find: Find, operation: Operation, foreign_ids: dict[str, str]
) -> None:
    walker = find(operation)

    walker.walk(operation, cases.wrong_parameters(operation))

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize("operation", [one for one in ALL if one.path_names], ids=str)
def test_foreign_missing_and_garbage_ids_answer_alike(
    find: Find, operation: Operation, foreign_ids: dict[str, str]
) -> None:
    walker = find(operation)
    before = rows_of(walker.person.id), walker.balance()
    identities: dict[str, str] = {name: name for name in cases.GARBAGE_IDS}
    identities |= {"missing": str(uuid7()), "foreign": foreign_ids[operation.path_names[0]]}
    body = json.dumps(cases.example(operation)).encode() if operation.body is not None else b""

    walker.walk(
        operation,
        [
            Case(f"id {name[:20]}", (404,), "not_found", body, path=path_of(operation, identity))
            for name, identity in identities.items()
        ],
    )

    assert not walker.faults, "\n".join(walker.faults)
    assert (rows_of(walker.person.id), walker.balance()) == before


@pytest.mark.parametrize("path", sorted({operation.path for operation in ALL}))
def test_wrong_methods_are_refused(find: Find, path: str) -> None:
    offered = [operation for operation in ALL if operation.path == path]
    walker = find(offered[0])
    others = set(METHODS) | {"options", "trace"}

    for method in sorted(others - {operation.method for operation in offered}):
        wrong = Operation(method, path, "customer", None, {}, offered[0].path_names)
        statuses = (403, 405) if offered[0].audience == "operator" else (405,)
        walker.walk(wrong, [Case("method", statuses)])

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize(
    "path",
    ["/api/", "/api/nothing", "/api/runs/a/b/c", "/api/account/", "/api/%00", "/api/%ff"],
)
def test_unknown_paths_are_told_as_problems(find: Find, path: str) -> None:
    nowhere = Operation("get", path, "customer", None, {}, ())
    walker = find(nowhere)

    walker.walk(nowhere, [Case("GET", (404,), "not_found"), Case("with a query", (404,), query="%ff=%00")])

    assert not walker.faults, "\n".join(walker.faults)


@pytest.mark.parametrize("operation", [one for one in ALL if one.is_idempotent_by_key], ids=str)
def test_wrong_idempotency_keys_are_refused(find: Find, operation: Operation) -> None:
    walker = find(operation)
    before = rows_of(walker.person.id), walker.balance()
    body = {key: value for key, value in cases.example(operation).items() if key != "idempotency_key"}

    for name, key in {"empty": "", "256 characters": "k" * 256}.items():
        headers = {"idempotency-key": key}
        walker.walk(
            operation, [Case(f"key {name}", (422,), content=json.dumps(body).encode(), headers=headers)]
        )

    assert not walker.faults, "\n".join(walker.faults)
    assert (rows_of(walker.person.id), walker.balance()) == before


@pytest.mark.parametrize(
    "operation", [one for one in ALL if one.audience == "operator" and one.body is None], ids=str
)
def test_garbage_of_operators_is_never_a_fault(server: ServerProcess, operation: Operation) -> None:
    walker = Walker(server, factories.operator())
    names = ("from", "to", "limit", "page", "cursor", "kind", "status", "format", "actor_user_id", "walk")
    garbled = replace(operation, query={name: {"type": "string"} for name in names})

    walker.walk(
        garbled, (replace(case, statuses=(200, 404, 422)) for case in cases.wrong_parameters(garbled))
    )

    walker.http.close()
    assert not walker.faults, "\n".join(walker.faults)


def test_request_id_is_kept_when_sane_and_made_when_not(find: Find) -> None:
    ours = find(ALL[0])
    for operation in ALL:
        walker = find(operation) if operation.path == MOCK else ours
        for given, is_kept in {
            "walk-0123456789": True,
            "no": False,
            "a b\tc": False,
            "x" * 200: False,
        }.items():
            answer = walker.send(operation, Case("id", (), headers={"x-request-id": given}))
            assert (answer.headers["x-request-id"] == given) is is_kept, (str(operation), given)


def test_walk_covers_every_lean_route() -> None:
    """A lean route that nobody described in the OpenAPI document would be walked by nobody."""
    walked = {(one.method.upper(), one.path) for one in ALL}
    missing = [
        (method, pattern)
        for method, pattern in lean_paths()
        if not any(
            method == walked_method and re.fullmatch(pattern, walked_path)
            for walked_method, walked_path in walked
        )
    ]
    assert missing == []
