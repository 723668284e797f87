import statistics
import time
from typing import Any

import pytest
from django.contrib.auth.hashers import identify_hasher, make_password
from django.test import Client

from accounts import login, throttling
from accounts.errors import InvalidCredentials
from accounts.models import RefreshFamily, User
from auditlog.models import AuditEvent
from plyrum import clock
from tests import factories, throttles
from tests.accounts.conftest import Post
from tests.factories import PASSWORD, unique_email

WRONG = "not the right password"


def test_right_password_opens_a_session(post: Post, client: Client, address: str) -> None:
    user = factories.customer()

    answer = post("/api/auth/login", {"email": user.email.upper(), "password": PASSWORD})

    got = answer.json()
    assert answer.status_code == 200
    assert got["user"]["id"] == str(user.id)
    headers = {"Authorization": f"Bearer {got['access_token']}"}
    assert client.get("/api/account", headers=headers).status_code == 200
    assert RefreshFamily.objects.filter(user=user, ip=address).count() == 1
    assert AuditEvent.objects.filter(action="accounts.session.opened", target_user_id=user.id).count() == 1


def blocked() -> str:
    return factories.customer(is_active=False).email


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (lambda: factories.customer().email, WRONG),
        (unique_email, PASSWORD),
        (blocked, PASSWORD),
        (lambda: "no address at all", PASSWORD),
        (lambda: "анна@example.ru", PASSWORD),
    ],
    ids=["wrong password", "unknown address", "blocked", "no address", "not ascii"],
)
def test_every_failure_looks_the_same(post: Post, email: Any, password: str) -> None:
    answer = post(
        "/api/auth/login", {"email": email(), "password": password}, **{"X-Request-Id": "same-id-1"}
    )

    assert answer.status_code == 401
    assert answer.json() == {
        "type": "urn:plyrum:error:invalid_credentials",
        "title": "The e-mail or the password is wrong",
        "status": 401,
        "detail": "The e-mail or the password is wrong",
        "instance": "/api/auth/login",
        "code": "invalid_credentials",
        "retryable": False,
        "request_id": "same-id-1",
    }


def test_unknown_address_takes_as_long_as_a_wrong_password() -> None:
    """Told by the CPU's work: how long it takes depends on what else this machine does."""
    known: list[float] = []
    unknown: list[float] = []

    def work(email: str, number: int) -> float:
        begun = time.process_time()
        Client(REMOTE_ADDR=f"198.51.100.{number}").post(
            "/api/auth/login", {"email": email, "password": WRONG}, content_type="application/json"
        )
        return time.process_time() - begun

    for number in range(8):
        known.append(work(factories.customer().email, number))
        unknown.append(work(unique_email(), number))

    ratio = statistics.median(known) / statistics.median(unknown)
    assert 0.33 < ratio < 3  # without the vain hash it is ten times and more


def test_failure_is_journalled_without_the_address(post: Post, address: str) -> None:
    user = factories.customer()

    post("/api/auth/login", {"email": user.email, "password": WRONG})

    event = AuditEvent.objects.get(action="accounts.session.refused", target_user_id=user.id)
    assert (event.status, event.ip) == ("denied", address)
    assert event.data == {"reason": "password", "surface": "api"}


def test_sixth_wrong_password_in_a_row_must_wait(post: Post) -> None:
    user = factories.customer()
    for _ in range(5):
        assert post("/api/auth/login", {"email": user.email, "password": WRONG}).status_code == 401

    answers = [post("/api/auth/login", {"email": user.email, "password": PASSWORD}) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {429}
    assert answers[0].json()["code"] == "rate_limited"
    assert answers[0].json()["retryable"] is True
    assert 0 < int(answers[0]["Retry-After"]) <= 300


def test_limit_of_an_account_holds_for_unknown_addresses_too(post: Post) -> None:
    email = unique_email()

    codes = [post("/api/auth/login", {"email": email, "password": WRONG}).status_code for _ in range(6)]

    assert codes == [401] * 5 + [429]


def test_limit_of_an_account_holds_across_addresses() -> None:
    user = factories.customer()

    codes = [
        Client(REMOTE_ADDR=f"203.0.113.{number}")
        .post("/api/auth/login", {"email": user.email, "password": WRONG}, content_type="application/json")
        .status_code
        for number in range(6)
    ]

    assert codes == [401] * 5 + [429]


def test_one_address_may_not_try_many_accounts(post: Post, address: str) -> None:
    throttles.drain(throttling.LOGIN_PER_ADDRESS, address)

    answer = post("/api/auth/login", {"email": factories.customer().email, "password": PASSWORD})

    assert answer.status_code == 429
    assert AuditEvent.objects.filter(action="accounts.session.refused", ip=address).count() == 1


def test_successes_are_not_counted(post: Post) -> None:
    user = factories.customer()

    codes = [
        post("/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code for _ in range(8)
    ]

    assert codes == [200] * 8


def test_old_hash_is_upgraded_at_login(post: Post) -> None:
    user = factories.customer(password=make_password(PASSWORD, hasher="pbkdf2_sha256"))

    assert post("/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code == 200

    user.refresh_from_db()
    assert identify_hasher(user.password).algorithm == "argon2"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@b.ru"},
        {"password": "x"},
        {"email": "a@b.ru", "password": ""},
        {"email": "a@b.ru", "password": "x", "remember": True},
        {"email": {"$ne": ""}, "password": "x"},
    ],
)
def test_wrong_body_is_refused(post: Post, body: Any) -> None:
    answer = post("/api/auth/login", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_login_is_not_read_from_the_address_line(client: Client) -> None:
    user = factories.customer()

    answer = client.get("/api/auth/login", {"email": user.email, "password": PASSWORD})

    assert answer.status_code == 405


def test_password_changed_during_the_check_wins() -> None:
    """The slow hash runs before the lock; what happened meanwhile is judged under the lock."""
    user = factories.customer()
    stale = User.objects.get(pk=user.pk)
    User.objects.filter(pk=user.pk).update(token_version=2)

    with pytest.raises(InvalidCredentials):
        login._open(stale, factories.ORIGIN, clock.now())
