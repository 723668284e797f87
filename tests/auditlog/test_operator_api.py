import json
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from auditlog import journal
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from plyrum.ids import uuid7
from tests import factories


@pytest.fixture
def target() -> UUID:
    """A person whom five entries are about, the last one a refusal."""
    person, actor = uuid7(), Actor.operator(uuid7())
    for number in range(5):
        with transaction.atomic():
            journal.record(
                actor=actor,
                action="billing.thing.done" if number < 3 else "payments.thing.done",
                subject=f"thing:{number}",
                status="denied" if number == 4 else "ok",
                target_user_id=person,
            )
    return person


@pytest.fixture
def headers() -> dict[str, str]:
    return factories.bearer(factories.operator("owner"))


def test_export_lists_events_newest_first(client: Client, headers: dict[str, str], target: UUID) -> None:
    answer = client.get("/api/audit", {"target_user_id": str(target)}, headers=headers)

    assert answer.status_code == 200
    assert answer["X-Schema-Version"] == "1"
    items = answer.json()["items"]
    assert [item["subject"] for item in items] == [f"thing:{number}" for number in (4, 3, 2, 1, 0)]
    assert items[0]["status"] == "denied"
    assert items[0]["created_at"].endswith("Z")
    assert answer.json()["next_cursor"] is None


def test_export_is_itself_journalled(client: Client, target: UUID) -> None:
    operator = factories.operator("security")

    client.get("/api/audit", {"target_user_id": str(target)}, headers=factories.bearer(operator))

    event = AuditEvent.objects.get(action="audit.export", actor_id=str(operator.pk))
    assert event.data == {"filter": {"target_user_id": str(target)}, "count": 5}


@pytest.mark.parametrize(
    ("filters", "subjects"),
    [
        ({"kind": "payments"}, ["thing:4", "thing:3"]),
        ({"kind": "billing.thing.done"}, ["thing:2", "thing:1", "thing:0"]),
        ({"kind": "billing.thing.don"}, []),
        ({"status": "denied"}, ["thing:4"]),
        ({"from": "2020-01-01T00:00:00Z", "limit": "1"}, ["thing:4"]),
        ({"from": "2100-01-01T00:00:00Z"}, []),
        ({"to": "2020-01-01T00:00:00Z"}, []),
    ],
)
def test_filters_narrow(
    client: Client, headers: dict[str, str], target: UUID, filters: dict[str, str], subjects: list[str]
) -> None:
    answer = client.get("/api/audit", {"target_user_id": str(target), **filters}, headers=headers)

    assert [item["subject"] for item in answer.json()["items"]] == subjects


def test_filter_by_actor_finds_what_a_person_did(client: Client, headers: dict[str, str]) -> None:
    person = factories.customer()

    answer = client.get("/api/audit", {"actor_user_id": str(person.pk)}, headers=headers)

    assert {item["kind"] for item in answer.json()["items"]} == {
        "accounts.user.registered",
        "legal.acceptance.recorded",
    }


def test_cursor_continues_below_the_page(client: Client, headers: dict[str, str], target: UUID) -> None:
    query = {"target_user_id": str(target), "limit": "3"}
    first = client.get("/api/audit", query, headers=headers).json()
    rest = client.get("/api/audit", {**query, "cursor": first["next_cursor"]}, headers=headers).json()

    subjects = [item["subject"] for item in first["items"] + rest["items"]]
    assert subjects == [f"thing:{number}" for number in (4, 3, 2, 1, 0)]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("by_header", [False, True])
def test_ndjson_is_one_event_a_line(
    client: Client, headers: dict[str, str], target: UUID, by_header: bool
) -> None:
    query = {"target_user_id": str(target)} | ({} if by_header else {"format": "ndjson"})
    accept = {"Accept": "application/x-ndjson"} if by_header else {}

    answer = client.get("/api/audit", query, headers={**headers, **accept})

    assert answer["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert [line["subject"] for line in lines][:2] == ["thing:4", "thing:3"]
    assert len(lines) == 5


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "many"},
        {"format": "xml"},
        {"target_user_id": "not-a-uuid"},
        {"actor_user_id": "1"},
        {"status": "perhaps"},
        {"from": "yesterday"},
        {"since": "2026-01-01T00:00:00Z"},
        {"unknown": "1"},
        {"kind": "billing'; --"},
        {"cursor": "99999999999999999999999"},
        {"cursor": "abc"},
    ],
)
def test_wrong_parameters_are_refused(client: Client, headers: dict[str, str], query: dict[str, str]) -> None:
    answer = client.get("/api/audit", query, headers=headers)

    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "validation_failed"
    assert answer.json()["errors"]
    assert all(row["msg"].isascii() for row in answer.json()["errors"])  # English, as all texts of the API


@pytest.mark.parametrize("role", ["finance", "security", "owner"])
def test_role_may_read_the_journal(client: Client, role: str) -> None:
    answer = client.get("/api/audit", {"limit": 1}, headers=factories.bearer(factories.operator(role)))

    assert answer.status_code == 200


@pytest.mark.parametrize("role", ["support", "catalogue"])
def test_role_may_not_read_the_journal(client: Client, role: str) -> None:
    answer = client.get("/api/audit", headers=factories.bearer(factories.operator(role)))

    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


def test_customer_may_not_read_the_journal(client: Client) -> None:
    answer = client.get("/api/audit", headers=factories.bearer(factories.customer()))

    assert answer.status_code == 403


def test_visitor_may_not_read_the_journal(client: Client) -> None:
    answer = client.get("/api/audit")

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer["Content-Language"] == "en"
    assert answer.json()["code"] == "unauthenticated"


def test_journal_cannot_be_written_from_outside(client: Client, headers: dict[str, str]) -> None:
    for method in (client.put, client.patch, client.delete, client.options):
        answer = method("/api/audit", headers=headers)
        assert (answer.status_code, answer["Allow"], answer.json()["allow"]) == (
            405, "GET, HEAD", ["GET", "HEAD"],
        )  # fmt: skip
