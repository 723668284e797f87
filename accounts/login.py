"""Signing in by e-mail and password on the API: throttled, journalled, the same answer for every failure.

Called by the API's door. The site signs in through allauth, the back office through Django admin's form.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import emails, passwords, sessions, superaccount, throttling
from accounts.errors import InvalidCredentials
from accounts.models import User
from accounts.shapes import Origin, TokenPair
from accounts.throttling import Limit
from auditlog import journal
from plyrum.errors import TooManyRequests


def login(*, email: str, password: str, origin: Origin, now: datetime) -> TokenPair:
    """Open a session for the right password.

    Raises InvalidCredentials (unknown e-mail, wrong password, blocked: same answer, same time),
    TooManyRequests.
    """
    address = _address(email)
    superaccount.ensure_for_login(address, now=now)
    spend_attempt(address, origin=origin)
    user = User.objects.filter(email=address).first()
    if user is None:
        passwords.spend_the_time_of_a_check(password)
        return _refuse(None, "unknown", origin)
    if not user.check_password(password):
        return _refuse(user.id, "password", origin)
    if not user.is_active:
        return _refuse(user.id, "inactive", origin)
    pair = _open(user, origin, now)
    give_attempt_back(address, origin=origin)
    return pair


def spend_attempt(address: str, *, origin: Origin) -> None:
    """Count an attempt on this account and from this address. Raises TooManyRequests beyond a limit."""
    for limit, key in _limits(address, origin):
        taken = throttling.take(limit, key)
        if taken.is_allowed:
            continue
        if taken.is_first_refusal:  # of a window; the rest is noise
            _journal_refusal(None, f"throttled:{limit.name}", origin)
        raise TooManyRequests(
            "Too many failed attempts. Try again later.",
            retry_after_seconds=taken.retry_after_seconds,
            limit=limit.count,
        )


def give_attempt_back(address: str, *, origin: Origin) -> None:
    for limit, key in _limits(address, origin):
        throttling.give_back(limit, key)


def _limits(address: str, origin: Origin) -> list[tuple[Limit, str]]:
    # An unknown address shares one counter: the strictest reading of "trusted client address".
    return [
        (throttling.LOGIN_PER_ADDRESS, origin.ip or "unknown"),
        (throttling.LOGIN_PER_ACCOUNT, address),
    ]


@transaction.atomic(durable=True)
def _open(user: User, origin: Origin, now: datetime) -> TokenPair:
    """The password was checked before the lock; a block or a password change in between wins."""
    locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not locked.is_active or locked.token_version != user.token_version:
        raise InvalidCredentials
    pair = sessions.open_family(locked, origin=origin, now=now)
    journal.record(
        actor=origin.customer(locked.id),
        action="accounts.session.opened",
        subject=f"user:{locked.id}",
        data={"surface": origin.surface},
        target_user_id=locked.id,
    )
    return pair


def _refuse(user_id: UUID | None, reason: str, origin: Origin) -> TokenPair:
    _journal_refusal(user_id, reason, origin)
    raise InvalidCredentials


@transaction.atomic(durable=True)
def _journal_refusal(user_id: UUID | None, reason: str, origin: Origin) -> None:
    journal.record(
        actor=origin.somebody(),
        action="accounts.session.refused",
        subject=f"user:{user_id}" if user_id else "user:unknown",
        status="denied",
        data={"reason": reason, "surface": origin.surface},
        target_user_id=user_id,
    )


def _address(email: str) -> str:
    """The stored form; what is no address at all stays a text that nobody has."""
    try:
        return emails.normalise(email)
    except ValueError:
        return email.strip().lower()
