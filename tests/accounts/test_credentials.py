from datetime import timedelta

import pytest
from django.db import connection
from django.test import RequestFactory
from pytest_django import DjangoAssertNumQueries

from accounts import credentials
from accounts.credentials import CREDENTIAL_SQL, Credential
from accounts.errors import SessionEnded
from accounts.models import RefreshFamily, User
from accounts.requests import actor_of, origin_of
from legal import documents
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.test_refresh import signed_in


@pytest.fixture
def user() -> User:
    """A customer with one API session."""
    user = factories.customer()
    signed_in(user)
    return user


def load(user: User, *, token_version: int = 1, after: timedelta = timedelta()) -> Credential:
    family = RefreshFamily.objects.get(user=user)
    return credentials.load(
        user_id=user.id, session_id=family.id, token_version=token_version, now=clock.now() + after
    )


def test_live_session_tells_who_calls_and_what_was_accepted(user: User) -> None:
    found = load(user)

    offer = documents.current("offer", at=clock.now())
    assert (found.user_id, found.kind, found.role, found.locale) == (user.id, "access_token", "", "ru")
    assert (found.is_operator, found.is_unlimited) == (False, False)
    assert found.accepted_offer_version_ids == (offer.pk,)


def test_one_row_answers_everything(user: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    family = RefreshFamily.objects.get(user=user)

    with django_assert_num_queries(1):
        credentials.load(user_id=user.id, session_id=family.id, token_version=1, now=clock.now())


def test_query_and_judge_work_apart(user: User) -> None:
    """The engine's lean path runs the query on a connection of its own."""
    family = RefreshFamily.objects.get(user=user)
    with connection.cursor() as cursor:
        cursor.execute(CREDENTIAL_SQL, {"user_id": user.id, "session_id": family.id})
        row = dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))

    assert credentials.from_row(row, token_version=1, now=clock.now()) == load(user)


@pytest.mark.parametrize("name", ["is_active", "token_version", "revoked_at", "absolute_expires_at"])
def test_session_that_ended_is_refused(user: User, name: str) -> None:
    family = RefreshFamily.objects.filter(user=user)
    match name:
        case "is_active":
            User.objects.filter(pk=user.pk).update(is_active=False)
        case "token_version":
            User.objects.filter(pk=user.pk).update(token_version=2)
        case "revoked_at":
            family.update(revoked_at=clock.now())
        case _:
            family.update(absolute_expires_at=clock.now())

    with pytest.raises(SessionEnded):
        load(user)


def test_person_who_is_not_there_is_refused() -> None:
    with pytest.raises(SessionEnded):
        credentials.load(user_id=uuid7(), session_id=uuid7(), token_version=1, now=clock.now())
    with pytest.raises(SessionEnded):
        credentials.for_site_session(uuid7())


def test_session_of_the_site_needs_no_family() -> None:
    operator = factories.operator("finance")

    found = credentials.for_site_session(operator.id)

    assert (found.kind, found.session_id, found.role) == ("site_session", None, "finance")


def test_person_who_accepted_nothing_has_no_version() -> None:
    user = User.objects.create(email=factories.unique_email(), password="!")

    assert credentials.for_site_session(user.id).accepted_offer_version_ids == ()


def test_actor_of_a_request_is_its_caller(user: User) -> None:
    request = RequestFactory().get("/", headers={"User-Agent": "tests/1"})
    request.client_ip, request.request_id = "192.0.2.5", "request-5"  # type: ignore[attr-defined]
    request.user = factories.stranger()
    by_session = actor_of(request)
    request.credential = load(user)  # type: ignore[attr-defined]
    by_token = actor_of(request)

    assert (by_session.kind, by_session.id) == ("customer", str(request.user.pk))
    assert (by_token.id, by_token.ip, by_token.request_id) == (str(user.id), "192.0.2.5", "request-5")
    assert origin_of(request, "site").user_agent == "tests/1"
