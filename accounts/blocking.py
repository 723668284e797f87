"""Blocking a person and letting them back in: operator's acts with a reason; every session ends at once."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import sessions
from accounts.errors import UserNotFound
from accounts.models import RefreshFamily, User
from auditlog import journal
from auditlog.actors import Actor
from plyrum.errors import Conflict, InvalidRequest

REASON_CHARS = 300


@transaction.atomic(durable=True)
def block(*, user_id: UUID, reason: str, now: datetime, actor: Actor) -> None:
    """Close the account for its owner; money, refunds and documents stay. Blocking twice changes nothing.

    Raises InvalidRequest without a reason, Conflict for one's own account, UserNotFound.
    """
    if not reason.strip():
        raise InvalidRequest("Say why.")
    if str(user_id) == actor.id:
        raise Conflict("Nobody blocks their own account.")
    user = _locked(user_id)
    if user.blocked_at is not None:
        return
    user.is_active = False
    user.blocked_at = now
    user.blocked_reason = reason.strip()[:REASON_CHARS]
    user.save(update_fields=["is_active", "blocked_at", "blocked_reason"])
    sessions.end_all(user_id=user_id, reason=RefreshFamily.RevokeReason.BLOCKED, now=now)
    _journal(user, "accounts.user.blocked", actor, reason)


@transaction.atomic(durable=True)
def unblock(*, user_id: UUID, reason: str, now: datetime, actor: Actor) -> None:
    """Open a blocked account again; its old sessions stay ended."""
    if not reason.strip():
        raise InvalidRequest("Say why.")
    user = _locked(user_id)
    if user.blocked_at is None:
        return
    user.is_active = True
    user.blocked_at = None
    user.blocked_reason = ""
    user.save(update_fields=["is_active", "blocked_at", "blocked_reason"])
    _journal(user, "accounts.user.unblocked", actor, reason)


def _locked(user_id: UUID) -> User:
    user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
    if user is None:
        raise UserNotFound
    return user


def _journal(user: User, action: str, actor: Actor, reason: str) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=f"user:{user.id}",
        data={"reason": reason.strip()[:REASON_CHARS]},
        target_user_id=user.id,
    )
