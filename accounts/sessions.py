"""API sessions: sign in, rotate, sign out. A family is one sign-in; its refresh tokens are used once each.

Called by the API's door and by `signup`, `blocking` and the site's password change. A refresh token exists in
clear only in the answer that hands it out.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from accounts import tokens
from accounts.errors import RefreshExpired, RefreshInProgress, RefreshInvalid, RefreshReused
from accounts.models import RefreshFamily, RefreshToken, User
from accounts.shapes import Origin, Profile, TokenPair
from auditlog import journal
from auditlog.actors import Actor
from plyrum.errors import PlyrumError
from plyrum.nudges import nudge
from plyrum.transactions import require_transaction

SECRET_BYTES = 32  # 256 bits
# Two calls of one honest client that race (two tabs, a repeated request) are told so; later it is a theft.
REUSE_GRACE = timedelta(seconds=10)


def open_family(user: User, *, origin: Origin, now: datetime) -> TokenPair:
    """Start a session of `user` and hand out its first pair. Must run inside the caller's transaction."""
    require_transaction()
    ends = now + timedelta(seconds=settings.REFRESH_TOKEN_TTL)
    family = RefreshFamily.objects.create(
        user=user,
        created_at=now,
        absolute_expires_at=ends,
        ip=origin.ip or None,
        user_agent=origin.user_agent,
    )
    return _pair(user, family.id, _issue(family.id, None, ends, now), now)


def refresh(*, refresh_token: str, origin: Origin, now: datetime) -> TokenPair:
    """Exchange a refresh token for a new pair; the old one is spent.

    Raises RefreshInvalid, RefreshExpired, RefreshInProgress (spent within 10 s by a parallel call),
    RefreshReused (spent earlier: somebody has a copy; the family is revoked and journalled, its owner gets a
    letter).
    """
    outcome = _rotate(_digest(refresh_token), origin, now)
    if isinstance(outcome, PlyrumError):
        raise outcome
    return outcome


@transaction.atomic(durable=True)
def _rotate(digest: str, origin: Origin, now: datetime) -> TokenPair | PlyrumError:
    """A refusal is returned, not raised: what it revokes and journals must be committed."""
    # One conditional update picks the winner: under a row lock the losers see `used_at` set. The conditions
    # on other tables stand in EXISTS, because a join would move all of them into a subquery that is not
    # re-judged.
    alive = RefreshFamily.objects.alive(now).filter(pk=OuterRef("family_id"), user__is_active=True)
    won = RefreshToken.objects.filter(
        Exists(alive), token_hash=digest, used_at__isnull=True, expires_at__gt=now
    ).update(used_at=now)
    token = RefreshToken.objects.select_related("family__user").filter(token_hash=digest).first()
    if token is None:
        return RefreshInvalid()
    if won:
        fresh = _issue(token.family_id, token.id, token.family.absolute_expires_at, now)
        return _pair(token.family.user, token.family_id, fresh, now)
    return _refusal(token, origin, now)


def _refusal(token: RefreshToken, origin: Origin, now: datetime) -> PlyrumError:
    family = token.family
    if family.revoked_at is not None:
        was_stolen = family.revoke_reason == RefreshFamily.RevokeReason.REUSE
        return RefreshReused() if was_stolen else RefreshInvalid()
    if family.absolute_expires_at <= now:
        return RefreshExpired()
    if not family.user.is_active:
        return RefreshInvalid()
    if token.used_at is None:
        return RefreshExpired()
    if now - token.used_at <= REUSE_GRACE:
        return RefreshInProgress()
    _revoke_for_reuse(family, origin, now)
    return RefreshReused()


def _revoke_for_reuse(family: RefreshFamily, origin: Origin, now: datetime) -> None:
    revoked = _revoke(RefreshFamily.objects.filter(pk=family.pk), RefreshFamily.RevokeReason.REUSE, now)
    if not revoked:
        return
    journal.record(
        actor=origin.somebody(),
        action="accounts.session.reuse_detected",
        subject=f"refresh_family:{family.pk}",
        status="denied",
        target_user_id=family.user_id,
    )
    nudge("accounts.tasks.warn_of_reuse", user_id=str(family.user_id), at=now.isoformat())


@transaction.atomic(durable=True)
def logout(*, refresh_token: str, origin: Origin, now: datetime) -> None:
    """End the session of this refresh token; a token that means nothing (any more) is no error."""
    token = RefreshToken.objects.select_related("family").filter(token_hash=_digest(refresh_token)).first()
    if token is None:
        return
    ended = _revoke(RefreshFamily.objects.filter(pk=token.family_id), RefreshFamily.RevokeReason.LOGOUT, now)
    if ended:
        journal.record(
            actor=origin.customer(token.family.user_id),
            action="accounts.session.closed",
            subject=f"refresh_family:{token.family_id}",
            target_user_id=token.family.user_id,
        )


@transaction.atomic(durable=True)
def logout_everywhere(*, user_id: UUID, now: datetime, actor: Actor) -> None:
    """End every session of a person, on the API and on the site."""
    count = end_all(user_id=user_id, reason=RefreshFamily.RevokeReason.LOGOUT_ALL, now=now)
    journal.record(
        actor=actor,
        action="accounts.session.all_closed",
        subject=f"user:{user_id}",
        data={"count": count},
        target_user_id=user_id,
    )


def owner_of(refresh_token: str, *, now: datetime) -> UUID | None:
    """Whose live, unspent refresh token this is; None for any other text."""
    token = (
        RefreshToken.objects.select_related("family")
        .filter(token_hash=_digest(refresh_token), used_at__isnull=True, expires_at__gt=now)
        .filter(family__revoked_at__isnull=True)
        .first()
    )
    return token.family.user_id if token else None


def end_all(*, user_id: UUID, reason: RefreshFamily.RevokeReason, now: datetime) -> int:
    """Revoke all families and raise the token version, which ends access tokens and site sessions too.

    Answers how many families lived. Must run inside the caller's transaction.
    """
    require_transaction()
    User.objects.filter(pk=user_id).update(token_version=F("token_version") + 1)
    return _revoke(RefreshFamily.objects.filter(user_id=user_id), reason, now)


def profile(user: User) -> Profile:
    return Profile(
        id=user.id,
        email=user.email,
        email_verified=user.email_verified,
        is_operator=user.is_operator,
        created_at=user.created_at,
    )


def _revoke(families: QuerySet[RefreshFamily], reason: str, now: datetime) -> int:
    return families.filter(revoked_at__isnull=True).update(revoked_at=now, revoke_reason=reason)


def _issue(family_id: UUID, parent_id: UUID | None, expires_at: datetime, now: datetime) -> str:
    secret = secrets.token_urlsafe(SECRET_BYTES)
    RefreshToken.objects.create(
        family_id=family_id,
        parent_id=parent_id,
        token_hash=_digest(secret),
        issued_at=now,
        expires_at=expires_at,
    )
    return secret


def _pair(user: User, family_id: UUID, refresh_token: str, now: datetime) -> TokenPair:
    access = tokens.issue(user_id=user.id, session_id=family_id, token_version=user.token_version, now=now)
    return TokenPair(access, refresh_token, settings.ACCESS_TOKEN_TTL, profile(user))


def _digest(secret: str) -> str:
    """A plain SHA-256 is right for 256 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()
