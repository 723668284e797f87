import pytest
from django.test import Client

from accounts import blocking, credentials
from accounts.errors import SessionEnded, UserNotFound
from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from plyrum import clock
from plyrum.errors import Conflict, InvalidRequest
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.conftest import Post
from tests.accounts.test_refresh import is_alive, signed_in
from tests.factories import PASSWORD


@pytest.fixture
def actor() -> Actor:
    return Actor.operator(factories.operator("security").id)


def test_blocking_ends_every_session_and_closes_the_door(actor: Actor, client: Client, post: Post) -> None:
    user = factories.customer()
    pair, site = signed_in(user), Client()
    site.force_login(user)

    blocking.block(user_id=user.id, reason="Чужая карта", now=clock.now(), actor=actor)

    assert not is_alive(client, pair)
    assert site.get("/email").status_code == 302
    assert post("/api/auth/refresh", {"refresh_token": pair.refresh_token}).status_code == 401
    assert post("/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code == 401
    with pytest.raises(SessionEnded):
        credentials.for_site_session(user.id)


def test_blocking_is_journalled_with_its_reason(actor: Actor) -> None:
    user = factories.customer()

    for _ in range(2):
        blocking.block(user_id=user.id, reason=" Чужая карта ", now=clock.now(), actor=actor)

    event = AuditEvent.objects.get(action="accounts.user.blocked", target_user_id=user.id)
    assert (event.actor_kind, event.actor_id, event.data) == ("operator", actor.id, {"reason": "Чужая карта"})


def test_unblocking_lets_in_again_but_revives_no_session(actor: Actor, client: Client, post: Post) -> None:
    user = factories.customer()
    pair = signed_in(user)
    blocking.block(user_id=user.id, reason="Проверка", now=clock.now(), actor=actor)

    for _ in range(2):
        blocking.unblock(user_id=user.id, reason="Проверено", now=clock.now(), actor=actor)

    assert not is_alive(client, pair)
    assert post("/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code == 200
    user.refresh_from_db()
    assert (user.blocked_at, user.blocked_reason) == (None, "")
    assert AuditEvent.objects.filter(action="accounts.user.unblocked", target_user_id=user.id).count() == 1


@pytest.mark.parametrize("act", [blocking.block, blocking.unblock])
def test_reason_is_required(actor: Actor, act: object) -> None:
    user = factories.customer()

    with pytest.raises(InvalidRequest):
        act(user_id=user.id, reason="  ", now=clock.now(), actor=actor)  # type: ignore[operator]

    assert User.objects.get(pk=user.pk).is_active


def test_nobody_blocks_themselves() -> None:
    operator = factories.operator()

    with pytest.raises(Conflict):
        blocking.block(user_id=operator.id, reason="x", now=clock.now(), actor=Actor.operator(operator.id))


def test_unknown_person_is_not_found(actor: Actor) -> None:
    with pytest.raises(UserNotFound):
        blocking.block(user_id=uuid7(), reason="x", now=clock.now(), actor=actor)
