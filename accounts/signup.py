"""The act of becoming a customer by API: a user, the accepted offer and a first session, or nothing at all.

The site does the same through allauth's form (`allauth_forms`), with the same acceptance and the same journal
entry. What upper apps add to a new customer (a wallet) is named in the setting WHEN_SOMEBODY_JOINS.
"""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils.module_loading import import_string

from accounts import emails, passwords, sessions, throttling
from accounts.errors import EmailTaken
from accounts.models import User
from accounts.shapes import Origin, TokenPair
from auditlog import journal
from legal import acceptances, documents
from plyrum.errors import InvalidRequest, TooManyRequests
from plyrum.transactions import require_transaction


def register(*, email: str, password: str, locale: str, origin: Origin, now: datetime) -> TokenPair:
    """Make a customer who has just accepted the offer in force, and open their first session.

    Raises InvalidRequest (no address), WeakPassword, EmailTaken, DocumentNotPublished, TooManyRequests.
    """
    address = _address(email)
    passwords.require_strong(password, email=address)
    taken = throttling.take(throttling.SIGNUP_PER_ADDRESS, origin.ip or "unknown")
    if not taken.is_allowed:
        raise TooManyRequests(
            "Too many sign-ups.",
            retry_after_seconds=taken.retry_after_seconds,
            limit=throttling.SIGNUP_PER_ADDRESS.count,
        )
    if User.objects.filter(email=address).exists():  # spares the hash; the unique column decides races
        raise EmailTaken
    return _store(address, make_password(password), locale, origin, now)


@transaction.atomic(durable=True)
def _store(address: str, password_hash: str, locale: str, origin: Origin, now: datetime) -> TokenPair:
    user = User(email=address, password=password_hash, locale=locale, created_at=now)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise EmailTaken from error
    EmailAddress.objects.create(user=user, email=address, primary=True, verified=False)
    welcome(user, origin=origin, now=now)
    return sessions.open_family(user, origin=origin, now=now)


def welcome(user: User, *, origin: Origin, now: datetime) -> None:
    """Record the accepted offer and the journal entry of a new customer. Needs the caller's transaction."""
    require_transaction()
    for name in settings.WHEN_SOMEBODY_JOINS:
        import_string(name)(customer_id=user.id)
    actor = origin.customer(user.id)
    acceptances.record(
        user_id=user.id,
        version=documents.current("offer", user.locale, at=now),
        act="registration",
        surface=origin.surface,
        locale=user.locale,
        user_agent=origin.user_agent,
        now=now,
        actor=actor,
    )
    journal.record(
        actor=actor,
        action="accounts.user.registered",
        subject=f"user:{user.id}",
        data={"surface": origin.surface, "locale": user.locale},
        target_user_id=user.id,
    )


def _address(email: str) -> str:
    try:
        return emails.normalise(email)
    except ValueError as error:
        row = {"loc": ["body", "email"], "msg": str(error), "type": "email"}
        raise InvalidRequest("This is not an e-mail address.", errors=[row]) from error
