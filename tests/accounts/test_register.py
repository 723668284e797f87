from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import get_hasher, identify_hasher
from django.test import Client

from accounts import throttling
from accounts.models import User
from auditlog.models import AuditEvent
from legal import documents
from legal.models import Acceptance
from plyrum import clock
from tests import throttles
from tests.accounts.conftest import Post
from tests.factories import PASSWORD, unique_email
from tests.threads import at_once


def body(**changes: Any) -> dict[str, Any]:
    return {"email": unique_email(), "password": PASSWORD, "accept_offer": True, **changes}


def test_registering_makes_a_customer_with_a_session(post: Post, client: Client) -> None:
    sent = body()

    answer = post("/api/auth/register", sent)

    got = answer.json()
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert set(got) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert got["token_type"] == "Bearer"
    assert got["expires_in"] == 900
    assert set(got["user"]) == {"id", "email", "email_verified", "is_operator", "created_at"}
    assert got["user"]["email"] == sent["email"]
    assert got["user"]["email_verified"] is False
    assert got["user"]["is_operator"] is False
    assert got["user"]["created_at"].endswith("Z")
    headers = {"Authorization": f"Bearer {got['access_token']}"}
    assert client.get("/api/account", headers=headers).json()["id"] == got["user"]["id"]


def test_registering_records_the_accepted_offer(post: Post, address: str) -> None:
    answer = post("/api/auth/register", body(), **{"User-Agent": "tester/1"})

    acceptance = Acceptance.objects.get(user_id=answer.json()["user"]["id"])
    offer = documents.current("offer", at=clock.now())
    assert acceptance.version_id == offer.pk
    assert acceptance.sha256 == offer.sha256
    assert (acceptance.act, acceptance.surface) == ("registration", "api")
    assert (acceptance.ip, acceptance.user_agent) == (address, "tester/1")
    assert acceptance.request_id == answer["X-Request-Id"]


def test_registering_is_journalled_without_the_address(post: Post) -> None:
    sent = body()

    user_id = post("/api/auth/register", sent).json()["user"]["id"]

    event = AuditEvent.objects.get(action="accounts.user.registered", target_user_id=user_id)
    assert (event.actor_kind, event.actor_id) == ("customer", user_id)
    rows = AuditEvent.objects.filter(target_user_id=user_id)
    assert not any(sent["email"] in str(row.__dict__) for row in rows)


def test_password_is_hashed_with_argon2id_of_the_required_strength(post: Post) -> None:
    sent = body()

    post("/api/auth/register", sent)

    user = User.objects.get(email=sent["email"])
    facts = get_hasher("argon2").decode(user.password)
    assert identify_hasher(user.password).algorithm == "argon2"
    assert facts["variety"] == "argon2id"
    assert facts["memory_cost"] >= 19_456
    assert facts["time_cost"] >= 2


def test_address_is_unverified_until_its_owner_proves_it(post: Post) -> None:
    sent = body()

    post("/api/auth/register", sent)

    row = EmailAddress.objects.get(email=sent["email"])
    assert (row.primary, row.verified) == (True, False)


def test_taken_address_is_a_conflict_whatever_its_case(post: Post) -> None:
    sent = body()
    post("/api/auth/register", sent)

    answer = post("/api/auth/register", body(email=sent["email"].upper()))

    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize("acceptance", [False, None, "true", 1, "missing"])
def test_offer_must_be_accepted(post: Post, acceptance: Any) -> None:
    sent = body(accept_offer=acceptance)
    if acceptance == "missing":
        del sent["accept_offer"]

    answer = post("/api/auth/register", sent)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert "accept_offer" in answer.json()["errors"][0]["loc"]
    assert not User.objects.filter(email=sent["email"]).exists()


@pytest.mark.parametrize("password", ["short-1", "password1234", "x", "qwertyuiop12345"[:11]])
def test_weak_password_is_refused_with_reasons(post: Post, password: str) -> None:
    answer = post("/api/auth/register", body(password=password))

    got = answer.json()
    assert (answer.status_code, got["code"]) == (422, "validation_failed")
    assert got["errors"]
    assert all(set(row) == {"loc", "msg", "type"} and "password" in row["loc"] for row in got["errors"])
    assert all(row["msg"].isascii() for row in got["errors"])  # English, as all texts of the API
    assert password not in str(got["errors"])


def test_password_like_the_address_is_refused(post: Post) -> None:
    email = unique_email("konstantin-longname")

    answer = post("/api/auth/register", body(email=email, password=email.split("@")[0]))

    assert answer.status_code == 422


@pytest.mark.parametrize(
    "password", ["пароль из букв и слов", "x9" * 64, "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧", " spaces count here "]
)
def test_long_and_unusual_passwords_work_whole(post: Post, password: str) -> None:
    sent = body(password=password)

    assert post("/api/auth/register", sent).status_code == 201
    assert post("/api/auth/login", {"email": sent["email"], "password": password}).status_code == 200
    assert post("/api/auth/login", {"email": sent["email"], "password": password[:-1]}).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "no-address"},
        {"email": ""},
        {"email": None},
        {"email": ["a@b.ru"]},
        {"email": "a" * 300 + "@example.ru"},
        {"password": None},
        {"password": 123456789012},
        {"password": "x" * 1_025},
        {"locale": "de"},
        {"is_staff": True},
        {"role": "owner"},
        {"id": "00000000-0000-7000-8000-000000000001"},
    ],
)
def test_wrong_and_unknown_fields_are_refused(post: Post, changes: dict[str, Any]) -> None:
    answer = post("/api/auth/register", body(**changes))

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", '"text"', '{"email": NaN}', "\xff"])
def test_what_is_not_a_json_object_is_refused(client: Client, raw: str) -> None:
    answer = client.post("/api/auth/register", raw.encode("latin-1"), content_type="application/json")

    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("invalid_json", "validation_failed")


def test_huge_body_is_refused(client: Client) -> None:
    answer = client.post("/api/auth/register", b'{"x": "' + b"y" * 70_000, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_language_is_kept(post: Post) -> None:
    sent = body(locale="en")

    post("/api/auth/register", sent)

    assert User.objects.get(email=sent["email"]).locale == "en"


def test_twenty_parallel_registrations_of_one_address_make_one_account() -> None:
    email = unique_email("race")
    variants = iter([email, email.upper(), email.title(), f" {email} "] * 5)

    def register() -> int:
        sent = body(email=next(variants))
        return Client().post("/api/auth/register", sent, content_type="application/json").status_code

    outcomes = at_once(20, register)

    assert sorted(outcomes) == [201] + [409] * 19
    assert User.objects.filter(email__iexact=email).count() == 1
    assert Acceptance.objects.filter(user_id=User.objects.get(email=email).id).count() == 1


def test_registrations_from_one_address_are_limited(post: Post, address: str) -> None:
    throttles.drain(throttling.SIGNUP_PER_ADDRESS, address)

    answer = post("/api/auth/register", body())

    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 0 < int(answer["Retry-After"]) <= 60
