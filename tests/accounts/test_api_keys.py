"""API keys: told once, kept as a digest, mistyped ones cost no question, revoked for good."""

import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.core.cache import caches
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from pytest_django import Settings
from structlog.testing import capture_logs

from accounts import api_keys, credentials, key_secrets
from accounts.api_keys import Wish
from accounts.errors import (
    AddressNotAllowed,
    KeyExpired,
    KeyInvalid,
    KeyNotFound,
    KeyRevoked,
    TooManyKeys,
)
from accounts.models import ApiKey, Notice, User
from accounts.tasks import send_notice
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import keys
from plyrum import clock
from plyrum.errors import InvalidRequest
from tests import factories
from tests.threads import at_once

PATH = "/api/account/keys"
RUB = 1_000_000


@pytest.fixture
def user() -> User:
    return factories.customer()


def text_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


def caller(text: str) -> credentials.Credential:
    return credentials.load_by_key(key_secrets.read(text), now=clock.now())


def revoke(row: ApiKey) -> None:
    api_keys.revoke(key_id=row.pk, now=clock.now(), actor=Actor.customer(row.user_id))


def journal(user: User) -> list[AuditEvent]:
    found = AuditEvent.objects.filter(target_user_id=user.pk, action__startswith="accounts.api_key.")
    return list(found.order_by("id"))


class Owner:
    """Calls about keys with an access token."""

    def __init__(self, client: Client, user: User) -> None:
        self.client = client
        self.headers = factories.bearer(user)

    def send(self, method: str, path: str = PATH, body: Any = None, **headers: str) -> Any:
        return self.client.generic(
            method,
            path,
            json.dumps(body) if body is not None else b"",
            content_type="application/json",
            headers={**self.headers, **headers},
        )


@pytest.fixture
def owner(client: Client, user: User) -> Owner:
    return Owner(client, user)


def test_form_is_a_prefix_a_public_id_and_a_secret_of_256_bits() -> None:
    made = {key_secrets.make() for _ in range(50)}

    assert all(one.text.startswith(f"plk_{one.public_id}_") and len(one.text) == 66 for one in made)
    assert 62**key_secrets.SECRET_CHARS >= 2**256
    assert len({one.text for one in made}) == len({one.public_id for one in made}) == 50


@pytest.mark.parametrize("place", [4, 20, 40, 60, 65])
def test_mistyped_key_makes_no_query(user: User, client: Client, place: int) -> None:
    text = text_of(factories.api_key(user)[1])
    other = "1" if text[place] != "1" else "2"
    wrong = text[:place] + other + text[place + 1 :]

    with CaptureQueriesContext(connection) as asked:
        answer = client.get("/api/balance", headers={"Authorization": f"Bearer {wrong}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
    assert list(asked) == []
    assert wrong not in answer.content.decode()


def test_good_key_costs_one_query_to_be_known(user: User) -> None:
    text = text_of(factories.api_key(user)[1])
    caller(text)  # its first use is noted

    with CaptureQueriesContext(connection) as asked:
        found = caller(text)

    assert len(asked) == 1
    assert (found.user_id, found.kind, found.role, found.session_id) == (user.pk, "api_key", "", None)


def test_dump_of_the_table_cannot_authenticate(user: User) -> None:
    row, headers = factories.api_key(user)
    text = text_of(headers)
    stored = {str(value) for value in ApiKey.objects.filter(pk=row.pk).values_list()[0]}

    assert not any(text[17:] in value or text[17:60] in value for value in stored)
    assert hashlib.sha256(text.encode()).hexdigest() not in stored
    assert row.digest != key_secrets._digest(text, b"another pepper")
    for guess in (row.digest, f"plk_{row.public_id}_{row.digest}", f"plk_{row.public_id}"):
        with pytest.raises(KeyInvalid):
            caller(guess)


def test_new_pepper_keeps_the_keys_of_the_old_one(user: User, settings: Settings) -> None:
    old, headers = factories.api_key(user)
    settings.PLYRUM_API_KEY_PEPPERS = {**settings.PLYRUM_API_KEY_PEPPERS, 7: b"x" * 40}

    new, new_headers = factories.api_key(user)

    assert (old.pepper_version, new.pepper_version) == (1, 7)
    assert caller(text_of(headers)).user_id == caller(text_of(new_headers)).user_id == user.pk
    settings.PLYRUM_API_KEY_PEPPERS = {7: b"x" * 40}
    with pytest.raises(KeyInvalid):
        caller(text_of(headers))


def test_revoked_expired_and_blocked_say_so(user: User) -> None:
    revoked, gone = factories.api_key(user)
    expiring, over = factories.api_key(user, expires_at=clock.now() + timedelta(seconds=1))
    _, good = factories.api_key(user)
    revoke(revoked)

    with pytest.raises(KeyRevoked):
        caller(text_of(gone))
    assert expiring.expires_at is not None
    with pytest.raises(KeyExpired):
        credentials.load_by_key(key_secrets.read(text_of(over)), now=expiring.expires_at)
    User.objects.filter(pk=user.pk).update(is_active=False)
    with pytest.raises(KeyInvalid, match="blocked"):
        caller(text_of(good))


def test_changed_password_does_not_end_keys(user: User) -> None:
    _, headers = factories.api_key(user)

    User.objects.filter(pk=user.pk).update(token_version=user.token_version + 1)

    assert caller(text_of(headers)).user_id == user.pk


def test_key_of_an_operator_is_a_customers_key() -> None:
    _, headers = factories.api_key(factories.operator())

    assert caller(text_of(headers)).is_operator is False


def test_revoking_is_final_and_told_once(user: User) -> None:
    row, _ = factories.api_key(user)

    revoke(row)
    first = ApiKey.objects.get(pk=row.pk).revoked_at
    revoke(row)

    assert ApiKey.objects.get(pk=row.pk).revoked_at == first
    actions = [entry.action.rpartition(".")[2] for entry in journal(user)]
    assert actions == ["issued", "revoked"]


def test_last_use_is_noted_once_an_hour(user: User) -> None:
    row, headers = factories.api_key(user)
    presented = key_secrets.read(text_of(headers))
    start = clock.now()

    def used_at(minutes: int) -> object:
        credentials.load_by_key(presented, now=start + timedelta(minutes=minutes))
        return ApiKey.objects.get(pk=row.pk).last_used_at

    assert used_at(0) == used_at(59) == start
    assert used_at(60) == start + timedelta(minutes=60)


def test_keys_alive_have_an_upper_number(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_ALIVE", 2)
    first, _ = factories.api_key(user)
    factories.api_key(user)

    with pytest.raises(TooManyKeys):
        factories.api_key(user)
    revoke(first)
    factories.api_key(user)


def test_calls_at_once_make_one_key_and_keep_the_number(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_ALIVE", 3)

    def issue(idempotency_key: str) -> str:
        return keys.issue(
            customer_id=user.pk,
            wish=Wish("Проба"),
            month_limit_micro_rub=RUB,
            idempotency_key=idempotency_key,
            now=clock.now(),
            actor=Actor.customer(user.pk),
        ).text

    def another() -> str:
        try:
            return issue("")
        except TooManyKeys:
            return "refused"

    told = at_once(6, lambda: issue("same"))
    assert sorted(bool(text) for text in told) == [False] * 5 + [True]
    others = at_once(6, another)
    assert others.count("refused") == 4
    assert ApiKey.objects.filter(user=user).count() == 3


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_networks_are_stored_in_one_form(written: str, stored: str) -> None:
    assert api_keys.network_of(written) == stored


@pytest.mark.parametrize(
    ("networks", "address", "is_let_in"),
    [
        ([], "198.51.100.1", True),
        ([], "", True),
        (["203.0.113.0/24"], "203.0.113.255", True),
        (["203.0.113.0/24"], "203.0.114.1", False),
        (["203.0.113.0/24"], "", False),
        (["203.0.113.0/24"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["198.51.100.1/32", "2001:db8::/32"], "198.51.100.1", True),
        (["::/0"], "198.51.100.1", False),
    ],
)
def test_addresses_open_and_close_the_door(
    user: User, networks: list[str], address: str, is_let_in: bool
) -> None:
    _, headers = factories.api_key(user, ip_allow=tuple(networks))
    scope = caller(text_of(headers)).api_key
    assert scope is not None

    if is_let_in:
        scope.require_address(address)
    else:
        with pytest.raises(AddressNotAllowed):
            scope.require_address(address)


@pytest.mark.parametrize("address", ["203.0.113.9", "::ffff:203.0.113.9"])
def test_mapped_address_of_a_socket_is_its_ipv4(user: User, address: str) -> None:
    _, headers = factories.api_key(user, ip_allow=("203.0.113.0/24",))

    assert Client(REMOTE_ADDR=address).get("/api/balance", headers=headers).status_code == 200
    refused = Client(REMOTE_ADDR="192.0.2.1").get("/api/balance", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "ip_not_allowed")


def test_key_that_names_no_address_works_from_anywhere(user: User) -> None:
    _, headers = factories.api_key(user)

    assert Client(REMOTE_ADDR="192.0.2.1").get("/api/balance", headers=headers).status_code == 200


def test_key_is_told_once_and_listed_without(owner: Owner, user: User) -> None:
    body = {
        "name": " Сервер ",
        "expires_at": "2099-01-01T00:00:00Z",
        "month_limit_micro_rub": 300 * RUB,
        "models": ["sandbox/small"],
        "ip_allow": ["203.0.113.7", "::ffff:198.51.100.0/120"],
    }

    made = owner.send("POST", body=body)

    assert made.status_code == 201, made.content
    assert made["Cache-Control"] == "no-store"
    told = made.json()
    assert told["key"].startswith(told["prefix"] + "_")
    assert (told["name"], told["state"]) == ("Сервер", "active")
    assert told["expires_at"].startswith("2099-01-01T00:00:00")
    assert told["month_limit_micro_rub"] == told["month_limit_in_force_micro_rub"] == 300 * RUB
    assert told["month_spent_micro_rub"] == 0
    assert (told["models"], told["ip_allow"]) == (["sandbox/small"], ["198.51.100.0/24", "203.0.113.7/32"])
    listed = owner.send("GET")
    assert listed.json() == {
        "items": [{name: value for name, value in told.items() if name != "key"}],
        "next_cursor": None,
    }
    assert (listed["X-Schema-Version"], listed["X-Total-Count"]) == ("1", "1")
    (entry,) = journal(user)
    secret = told["key"].rpartition("_")[2]
    assert secret not in json.dumps(entry.data) + entry.subject
    assert entry.subject == f"key:{told['id']}"


def test_repeat_makes_no_second_key_and_tells_no_secret(owner: Owner, user: User) -> None:
    body = {"name": "Раз", "month_limit_micro_rub": RUB}
    first = owner.send("POST", body=body, **{"Idempotency-Key": "k1"})

    again = owner.send("POST", body=body, **{"Idempotency-Key": "k1"})
    other = owner.send("POST", body={"name": "Два"}, **{"Idempotency-Key": "k1"})

    assert again.status_code == 201
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json() | {"key": None}
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert ApiKey.objects.filter(user=user).count() == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"models": ["sandbox/small", "nobody/nothing"]}, "models"),
        ({"ip_allow": ["203.0.113.7/24"]}, "ip_allow"),
        ({"ip_allow": ["example.test"]}, "ip_allow"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"month_limit_micro_rub": -1}, "month_limit_micro_rub"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a" * 61}, "name"),
    ],
)
def test_wrong_wishes_are_named(owner: Owner, user: User, wrong: dict[str, Any], field: str) -> None:
    answer = owner.send("POST", body={"name": "Проба", **wrong})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [row["loc"][:2] for row in answer.json()["errors"]] == [["body", field]]
    assert not ApiKey.objects.filter(user=user).exists()


def test_name_and_limit_change_and_a_revoked_key_stays(owner: Owner, user: User) -> None:
    row, _ = factories.api_key(user, month_limit_micro_rub=RUB)
    path = f"{PATH}/{row.pk}"

    assert owner.send("PATCH", path, {"name": "Другое"}).json()["month_limit_micro_rub"] == RUB
    assert owner.send("PATCH", path, {"month_limit_micro_rub": 2 * RUB}).json()["name"] == "Другое"
    assert owner.send("PATCH", path, {"month_limit_micro_rub": None}).json()["month_limit_micro_rub"] is None
    assert owner.send("PATCH", path, {"name": None}).status_code == 422
    for _ in range(2):
        assert owner.send("DELETE", path).status_code == 204
    changed = owner.send("PATCH", path, {"name": "Поздно"})
    assert (changed.status_code, changed.json()["code"]) == (409, "key_ended")
    (item,) = owner.send("GET").json()["items"]
    assert (item["state"], item["name"]) == ("revoked", "Другое")


def test_stranger_finds_no_key(owner: Owner) -> None:
    foreign, _ = factories.api_key(factories.stranger())

    for method, body in (("DELETE", None), ("PATCH", {"name": "Моё"})):
        for key_id in (foreign.pk, uuid4(), "x"):
            answer = owner.send(method, f"{PATH}/{key_id}", body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert ApiKey.objects.get(pk=foreign.pk).revoked_at is None


def test_key_makes_no_keys_and_does_not_sign_in(user: User, client: Client) -> None:
    row, headers = factories.api_key(user)
    text = text_of(headers)

    own = f"{PATH}/{row.pk}"
    for method, path in (("get", PATH), ("post", PATH), ("delete", own), ("get", "/api/account")):
        answer = getattr(client, method)(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
    assert client.get("/app/wallet", headers=headers).status_code == 302
    client.cookies["authorization"] = text
    for place in (f"/api/balance?key={text}", f"/api/balance?api_key={text}", "/api/balance"):
        assert client.get(place).status_code == 401


def test_wish_of_another_order_is_the_same() -> None:
    first, second = Wish("a", models=("x", "y")), Wish("a", models=("y", "x"))

    assert first.fingerprint(limit=1) == second.fingerprint(limit=1) != first.fingerprint(limit=2)


def test_key_is_a_row_for_ever(user: User) -> None:
    factories.api_key(user)

    with pytest.raises(Exception, match="protected"):
        User.objects.get(pk=user.pk).delete()


def test_views_of_nobody_are_none() -> None:
    assert keys.views([], now=clock.now()) == []


@pytest.mark.parametrize("scheme", ["", "Basic ", "Token ", "Bearer"])
@pytest.mark.parametrize("path", ["/api/balance", "/api/account"])
def test_header_of_another_scheme_is_not_written_down(
    user: User, client: Client, settings: Settings, caplog: pytest.LogCaptureFixture, path: str, scheme: str
) -> None:
    settings.DEBUG = True
    text = text_of(factories.api_key(user)[1])

    answer = client.get(path, headers={"Authorization": scheme + text})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert text[17:] not in caplog.text + answer.content.decode()


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("", ""), ("Bearer", ""), ("Bearer ", ""),
        ("abc", ""), ("Basic abc", ""), ("Bearerabc", ""),
    ],
)  # fmt: skip
def test_token_is_read_of_the_bearer_scheme_only(header: str, token: str) -> None:
    assert credentials.bearer_token(header) == token


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/api/balance", "mistyped", "key_invalid"),
        ("/api/balance", "unknown", "key_invalid"),
        ("/api/balance", "revoked", "key_revoked"),
        ("/api/balance", "expired", "key_expired"),
        ("/api/balance", "elsewhere", "ip_not_allowed"),
        ("/api/account", "mistyped", "key_invalid"),
        ("/api/account", "revoked", "key_revoked"),
    ],
)
def test_refused_key_leaves_one_line_without_its_secret(
    user: User, client: Client, path: str, kind: str, reason: str
) -> None:
    row, headers = factories.api_key(user, ip_allow=("203.0.113.0/24",) if kind == "elsewhere" else ())
    text = text_of(headers)
    over = {"revoked": "revoked_at", "expired": "expires_at"}.get(kind)
    if over:
        ApiKey.objects.filter(pk=row.pk).update(**{over: clock.now()})
    if kind == "unknown":
        ApiKey.objects.filter(pk=row.pk).update(digest="0" * 64)
    sent = text[:-1] + ("1" if text[-1] != "1" else "2") if kind == "mistyped" else text

    with capture_logs() as said:
        answer = client.get(path, headers={"Authorization": f"Bearer {sent}"})

    assert answer.json()["code"] == reason
    (told,) = [line for line in said if line["event"] == "api_key_refused"]
    assert (told["reason"], told["public_id"]) == (reason, row.public_id)
    assert text[17:40] not in repr(said)


@pytest.mark.parametrize(
    "text", ["plk_", "plk_secretwithoutform", "plk_" + "a" * 60, "plk_UPPERCASE012_" + "a" * 49]
)
def test_text_that_names_no_key_is_not_repeated(client: Client, text: str) -> None:
    with capture_logs() as said:
        client.get("/api/balance", headers={"Authorization": f"Bearer {text}"})

    (told,) = [line for line in said if line["event"] == "api_key_refused"]
    assert (told["reason"], told["public_id"]) == ("key_invalid", "")


def test_access_token_that_is_refused_leaves_no_line_about_keys(user: User, client: Client) -> None:
    token = factories.access_token(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with capture_logs() as said:
        for sent in (token, token + "x", "x"):
            assert client.get("/api/balance", headers={"Authorization": f"Bearer {sent}"}).status_code == 401

    assert not [line for line in said if line["event"] == "api_key_refused"]


def letters_of(user: User) -> list[str]:
    return list(Notice.objects.filter(user_id=user.pk).order_by("id").values_list("letter", flat=True))


def sent_to(user: User) -> list[EmailMessage]:
    for notice_id in Notice.objects.filter(user_id=user.pk).order_by("id").values_list("pk", flat=True):
        send_notice(notice_id=str(notice_id))
    return [letter for letter in mail.outbox if letter.to == [user.email]]


def test_owner_is_told_of_a_new_key_once(owner: Owner, user: User) -> None:
    told = [
        owner.send("POST", body={"name": "Сервер <1>"}, **{"Idempotency-Key": "k"}).json() for _ in range(2)
    ]

    assert letters_of(user) == ["api_key_issued"]
    notice = Notice.objects.get(user_id=user.pk)
    secret = told[0]["key"][17:]
    assert secret not in json.dumps(notice.facts)
    (letter,) = sent_to(user)
    assert letter.subject == "Создан ключ API"
    assert "«Сервер <1>»" in letter.body
    assert told[0]["prefix"] in letter.body
    assert "/app/keys" in letter.body
    assert secret[:16] not in letter.body


def test_owner_is_told_once_when_an_operator_ends_a_key(user: User) -> None:
    row, _ = factories.api_key(user)
    operator = Actor.operator(factories.operator().pk)

    at_once(
        4,
        lambda: api_keys.revoke(key_id=row.pk, now=clock.now(), actor=operator, reason="Ключ найден в сети"),
    )

    assert letters_of(user) == ["api_key_issued", "api_key_revoked"]
    letter = sent_to(user)[-1]
    assert letter.subject == "Ключ API отозван"
    assert row.prefix in letter.body


def test_owner_who_ends_a_key_gets_no_letter_about_it(user: User) -> None:
    row, _ = factories.api_key(user)

    revoke(row)

    assert letters_of(user) == ["api_key_issued"]


def test_key_that_was_not_made_is_not_told(user: User) -> None:
    class Broken(Exception):
        pass

    def issue_and_fail() -> None:
        with transaction.atomic():
            api_keys.lock(user.pk)
            api_keys.issue(
                customer_id=user.pk, wish=Wish("x"), now=clock.now(), actor=Actor.customer(user.pk)
            )
            raise Broken

    with pytest.raises(Broken):
        issue_and_fail()

    assert letters_of(user) == []


def test_operator_says_why_a_key_ends(user: User) -> None:
    row, headers = factories.api_key(user)
    operator = Actor.operator(factories.operator().pk)

    with pytest.raises(InvalidRequest):
        api_keys.revoke(key_id=row.pk, now=clock.now(), actor=operator, reason="  ")

    assert caller(text_of(headers)).user_id == user.pk


def test_unknown_key_is_not_revoked(user: User) -> None:
    with pytest.raises(KeyNotFound):
        api_keys.revoke(key_id=uuid4(), now=clock.now(), actor=Actor.customer(user.pk))


def test_key_ends_also_when_engines_cannot_be_told(user: User) -> None:
    row, headers = factories.api_key(user)
    dead = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}

    with override_settings(CACHES=dead), capture_logs() as lines:
        revoke(row)
    caches.close_all()

    assert [line["event"] for line in lines] == ["key_end_not_told"]
    with pytest.raises(KeyRevoked):
        caller(text_of(headers))
