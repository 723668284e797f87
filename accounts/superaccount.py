"""The development superaccount: one fixed owner with unlimited balance, only on request.

Made at its first sign-in and by `manage.py up`. Settings PLYRUM_DEV_SUPERACCOUNT_*; refused in production.
"""

from datetime import datetime
from uuid import UUID

import structlog
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction

from accounts import emails
from accounts.models import User
from auditlog import journal
from auditlog.actors import SYSTEM
from legal import acceptances, documents
from plyrum import clock

log = structlog.get_logger(__name__)


def ensure_dev_superaccount(*, now: datetime | None = None) -> User | None:
    """Make the superaccount as the settings describe it, or bring it in line with them.

    None when it is off, in production, or has no password in the settings (then nobody could sign in).
    """
    if settings.IS_PRODUCTION or not settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED:
        return None
    if not settings.PLYRUM_DEV_SUPERACCOUNT_PASSWORD:
        log.warning("superaccount_without_password", hint="Set PLYRUM_DEV_SUPERACCOUNT_PASSWORD.")
        return None
    return _ensure(
        UUID(settings.PLYRUM_DEV_SUPERACCOUNT_USER_ID),
        emails.normalise(settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL),
        settings.PLYRUM_DEV_SUPERACCOUNT_PASSWORD,
        now or clock.now(),
    )


def ensure_for_login(address: str, *, now: datetime) -> None:
    """Called before a sign-in: does something only for the superaccount's own e-mail."""
    if address == settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL.strip().lower():
        ensure_dev_superaccount(now=now)


@transaction.atomic(durable=True)
def _ensure(user_id: UUID, email: str, password: str, now: datetime) -> User | None:
    if User.objects.filter(email=email).exclude(pk=user_id).exists():
        log.warning("superaccount_email_is_taken", hint="Set another PLYRUM_DEV_SUPERACCOUNT_EMAIL.")
        return None
    facts = {"email": email, "email_verified": True, "is_staff": True, "role": User.Role.OWNER}
    user, is_new = User.objects.get_or_create(
        pk=user_id, defaults={**facts, "password": make_password(password), "created_at": now}
    )
    if not is_new:
        kept = check_password(password, user.password)
        changes = facts if kept else {**facts, "password": make_password(password)}
        User.objects.filter(pk=user_id).update(**changes)
        user.refresh_from_db()
    EmailAddress.objects.update_or_create(
        user=user, primary=True, defaults={"email": email, "verified": True}
    )
    _accept_offer(user, now)
    if is_new:
        journal.record(
            actor=SYSTEM,
            action="accounts.user.superaccount_made",
            subject=f"user:{user_id}",
            target_user_id=user_id,
        )
    return user


def _accept_offer(user: User, now: datetime) -> None:
    acceptances.record(
        user_id=user.id,
        version=documents.current("offer", user.locale, at=now),
        act="registration",
        surface="system",
        locale=user.locale,
        user_agent="",
        now=now,
        actor=SYSTEM,
    )
