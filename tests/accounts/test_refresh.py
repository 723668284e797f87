"""Refresh families: one winner per token, theft ends the family. See security bar, section 20."""

from collections import Counter
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.test import Client

from accounts import sessions, tasks
from accounts.errors import (
    RefreshExpired,
    RefreshInProgress,
    RefreshInvalid,
    RefreshReused,
)
from accounts.models import RefreshFamily, RefreshToken, User
from accounts.shapes import TokenPair
from auditlog.models import AuditEvent
from plyrum import clock
from plyrum.errors import PlyrumError
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.conftest import Post
from tests.factories import ORIGIN
from tests.threads import at_once


def signed_in(user: User) -> TokenPair:
    with transaction.atomic():
        return sessions.open_family(user, origin=ORIGIN, now=clock.now())


def refresh(token: str, after: timedelta = timedelta()) -> TokenPair:
    return sessions.refresh(refresh_token=token, origin=ORIGIN, now=clock.now() + after)


def is_alive(client: Client, pair: TokenPair) -> bool:
    answer = client.get("/api/account", headers={"Authorization": f"Bearer {pair.access_token}"})
    return bool(answer.status_code == 200)


def test_refresh_answers_with_a_new_pair(post: Post, client: Client) -> None:
    first = signed_in(factories.customer())

    answer = post("/api/auth/refresh", {"refresh_token": first.refresh_token})

    body = answer.json()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert body["refresh_token"] != first.refresh_token
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert client.get("/api/account", headers=headers).status_code == 200


def test_refresh_token_is_stored_as_a_hash_only() -> None:
    pair = signed_in(factories.customer())

    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM accounts_refreshtoken t")
        dump = str(cursor.fetchall())

    assert pair.refresh_token not in dump


def test_second_use_at_once_is_told_that_a_parallel_call_won(post: Post) -> None:
    token = signed_in(factories.customer()).refresh_token
    post("/api/auth/refresh", {"refresh_token": token})

    answer = post("/api/auth/refresh", {"refresh_token": token})

    assert answer.status_code == 409
    assert answer.json()["code"] == "refresh_in_progress"
    assert answer.json()["retryable"] is True


def test_second_use_within_ten_seconds_revokes_nothing(client: Client) -> None:
    first, now = signed_in(factories.customer()), clock.now()
    second = sessions.refresh(refresh_token=first.refresh_token, origin=ORIGIN, now=now)

    with pytest.raises(RefreshInProgress):
        sessions.refresh(refresh_token=first.refresh_token, origin=ORIGIN, now=now + timedelta(seconds=9))

    assert is_alive(client, second)
    assert refresh(second.refresh_token)


def test_second_use_later_ends_every_descendant(client: Client, post: Post) -> None:
    user = factories.customer()
    first = signed_in(user)
    second = refresh(first.refresh_token)
    third = refresh(second.refresh_token)

    with time_machine.travel(clock.now() + timedelta(seconds=11)):
        stolen = post("/api/auth/refresh", {"refresh_token": first.refresh_token})
        heir = post("/api/auth/refresh", {"refresh_token": third.refresh_token})

    assert (stolen.status_code, stolen.json()["code"]) == (401, "refresh_reused")
    assert (heir.status_code, heir.json()["code"]) == (401, "refresh_reused")
    assert not any(is_alive(client, pair) for pair in (first, second, third))


def test_theft_is_journalled_once_and_told_to_the_owner() -> None:
    user = factories.customer()
    first = signed_in(user)
    refresh(first.refresh_token)

    for _ in range(2):
        with pytest.raises(RefreshReused):
            refresh(first.refresh_token, after=timedelta(seconds=30))

    event = AuditEvent.objects.get(action="accounts.session.reuse_detected", target_user_id=user.id)
    assert event.status == "denied"
    tasks.warn_of_reuse(user_id=str(user.id), at=clock.now().isoformat())
    (letter,) = [letter for letter in mail.outbox if letter.to == [user.email]]
    assert "токен" in letter.subject
    assert "Войдите снова" in letter.body


def test_theft_leaves_other_sessions_of_the_owner_alone(client: Client) -> None:
    user = factories.customer()
    stolen, other = signed_in(user), signed_in(user)
    refresh(stolen.refresh_token)

    with pytest.raises(RefreshReused):
        refresh(stolen.refresh_token, after=timedelta(seconds=30))

    assert is_alive(client, other)


def test_family_ends_absolutely_however_often_it_is_rotated() -> None:
    pair = signed_in(factories.customer())
    pair = refresh(pair.refresh_token, after=timedelta(days=20))

    with pytest.raises(RefreshExpired):
        refresh(pair.refresh_token, after=timedelta(days=31))


def test_token_out_of_time_in_a_living_family_is_expired() -> None:
    pair = signed_in(factories.customer())
    digest = sessions._digest(pair.refresh_token)
    RefreshToken.objects.filter(token_hash=digest).update(expires_at=clock.now())

    with pytest.raises(RefreshExpired):
        refresh(pair.refresh_token, after=timedelta(seconds=1))


@pytest.mark.parametrize("token", ["nonsense", "x" * 512])
def test_unknown_token_is_invalid(post: Post, token: str) -> None:
    answer = post("/api/auth/refresh", {"refresh_token": token})

    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")


def test_access_token_is_no_refresh_token(post: Post) -> None:
    pair = signed_in(factories.customer())

    answer = post("/api/auth/refresh", {"refresh_token": pair.access_token[:512]})

    assert answer.json()["code"] == "refresh_invalid"


def test_revoked_family_cannot_be_refreshed() -> None:
    pair = signed_in(factories.customer())
    sessions.logout(refresh_token=pair.refresh_token, origin=ORIGIN, now=clock.now())

    with pytest.raises(RefreshInvalid):
        refresh(pair.refresh_token)


def test_inactive_user_cannot_refresh() -> None:
    user = factories.customer()
    pair = signed_in(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(RefreshInvalid):
        refresh(pair.refresh_token)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"refresh_token": 5},
        {"refresh_token": ""},
        {"refresh_token": "a", "x": 1},
        {"refresh_token": None},
    ],
)
def test_wrong_body_is_refused(post: Post, body: Any) -> None:
    answer = post("/api/auth/refresh", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


# --- races -----------------------------------------------------------------------------------------------


def test_fifty_parallel_refreshes_have_one_winner(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REUSE_GRACE", timedelta(hours=1))  # however long fifty take
    token = signed_in(factories.customer()).refresh_token

    def present() -> tuple[int, str]:
        answer = Client(REMOTE_ADDR=address).post(
            "/api/auth/refresh", {"refresh_token": token}, content_type="application/json"
        )
        return answer.status_code, answer.json().get("code", "")

    outcomes = Counter(at_once(50, present))

    assert outcomes == {(200, ""): 1, (409, "refresh_in_progress"): 49}


def test_control_reading_first_and_writing_later_has_two_winners() -> None:
    """The attack of the test above works when the one conditional update is taken apart."""
    token = signed_in(factories.customer()).refresh_token
    digest = sessions._digest(token)
    both_have_read = Barrier(2)

    def careless() -> bool:
        row = RefreshToken.objects.get(token_hash=digest)
        both_have_read.wait()
        if row.used_at is not None:
            return False
        row.used_at = clock.now()
        row.save(update_fields=["used_at"])
        sessions._issue(row.family_id, None, row.expires_at, clock.now())  # parent: see the next test
        return True

    assert at_once(2, careless) == [True, True]


def test_one_parent_has_one_child_even_if_the_code_forgets() -> None:
    pair = signed_in(factories.customer())
    refresh(pair.refresh_token)
    parent = RefreshToken.objects.get(token_hash=sessions._digest(pair.refresh_token))

    with pytest.raises(IntegrityError):
        sessions._issue(parent.family_id, parent.id, parent.expires_at, clock.now())


def test_parallel_thieves_revoke_once_and_all_are_told() -> None:
    user = factories.customer()
    pair = signed_in(user)
    refresh(pair.refresh_token)

    def steal() -> str:
        try:
            refresh(pair.refresh_token, after=timedelta(seconds=30))
        except PlyrumError as error:
            return error.code
        return "won"

    codes = at_once(10, steal)

    assert set(codes) == {"refresh_reused"}
    events = AuditEvent.objects.filter(action="accounts.session.reuse_detected", target_user_id=user.id)
    assert events.count() == 1


def test_refresh_against_logout_leaves_no_live_session(client: Client) -> None:
    for _ in range(5):
        pair = signed_in(factories.customer())
        calls = iter([True, False])

        def act(pair: TokenPair = pair, calls: Any = calls) -> TokenPair | None:
            if next(calls):
                sessions.logout(refresh_token=pair.refresh_token, origin=ORIGIN, now=clock.now())
                return None
            try:
                return refresh(pair.refresh_token)
            except RefreshInvalid:
                return None

        fresh = [found for found in at_once(2, act) if found]

        assert not any(is_alive(client, found) for found in [pair, *fresh])


# --- pruning ---------------------------------------------------------------------------------------------


def test_long_ended_families_are_pruned_with_their_tokens() -> None:
    user = factories.customer()
    old, recent = signed_in(user), signed_in(user)
    refresh(old.refresh_token)
    ended = clock.now() - timedelta(days=31)
    first, second = RefreshFamily.objects.filter(user=user).order_by("id")
    RefreshFamily.objects.filter(pk=first.pk).update(absolute_expires_at=ended)
    slot = uuid7().hex

    outcomes = [tasks.prune_refresh_tokens(slot=slot), tasks.prune_refresh_tokens(slot=slot)]

    assert outcomes == ["done", "skipped"]
    assert list(RefreshFamily.objects.filter(user=user)) == [second]
    assert RefreshToken.objects.filter(family_id=first.pk).count() == 0
    assert refresh(recent.refresh_token)
