import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from auditlog.models import AuditEvent
from tests import factories
from tests.accounts.conftest import Post
from tests.accounts.test_refresh import is_alive, signed_in


def test_logout_ends_this_session_only(post: Post, client: Client) -> None:
    user = factories.customer()
    ended, other = signed_in(user), signed_in(user)

    answer = post("/api/auth/logout", {"refresh_token": ended.refresh_token})

    assert (answer.status_code, answer.content) == (204, b"")
    assert not is_alive(client, ended)
    assert is_alive(client, other)
    assert AuditEvent.objects.filter(action="accounts.session.closed", target_user_id=user.id).count() == 1


def test_logout_twice_is_no_error(post: Post) -> None:
    pair = signed_in(factories.customer())

    answers = [post("/api/auth/logout", {"refresh_token": pair.refresh_token}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]


def test_logout_of_an_unknown_token_tells_nothing(post: Post) -> None:
    assert post("/api/auth/logout", {"refresh_token": "unknown"}).status_code == 204


@pytest.mark.parametrize("by", ["refresh", "bearer"])
def test_logout_everywhere_ends_every_session(post: Post, client: Client, by: str) -> None:
    user, stranger = factories.customer(), factories.stranger()
    first, second, foreign = signed_in(user), signed_in(user), signed_in(stranger)
    site = Client()
    site.force_login(user)

    if by == "refresh":
        answer = post("/api/auth/logout", {"refresh_token": first.refresh_token, "all": True})
    else:
        answer = post("/api/auth/logout", {"all": True}, Authorization=f"Bearer {first.access_token}")

    assert answer.status_code == 204
    assert not is_alive(client, first)
    assert not is_alive(client, second)
    assert is_alive(client, foreign)
    assert site.get("/email").status_code == 302  # to the sign-in page
    event = AuditEvent.objects.get(action="accounts.session.all_closed", target_user_id=user.id)
    assert event.data == {"count": 2}


def test_site_session_lives_before_logout_everywhere() -> None:
    """Control: the page of the test above opens for a live session."""
    user = factories.customer()
    EmailAddress.objects.get(user=user)
    site = Client()
    site.force_login(user)

    assert site.get("/email").status_code == 200


def test_spent_refresh_token_cannot_end_all_sessions(post: Post, client: Client) -> None:
    pair = signed_in(factories.customer())
    fresh = post("/api/auth/refresh", {"refresh_token": pair.refresh_token}).json()

    answer = post("/api/auth/logout", {"refresh_token": pair.refresh_token, "all": True})

    assert answer.status_code == 401
    headers = {"Authorization": f"Bearer {fresh['access_token']}"}
    assert client.get("/api/account", headers=headers).status_code == 200


def test_logout_everywhere_needs_somebody(post: Post) -> None:
    assert post("/api/auth/logout", {"all": True}).status_code == 401


def test_empty_logout_is_refused(post: Post) -> None:
    answer = post("/api/auth/logout", {})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["loc"][-1] == "refresh_token"
