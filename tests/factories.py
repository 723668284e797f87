"""People for tests: real rows with an accepted offer and a wallet, each with an address nobody else has.

Every test makes its own; nothing is cleaned, so no test counts rows of others.
"""

from functools import cache
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts import sessions, signup
from accounts.api_keys import Wish
from accounts.models import ApiKey, User
from accounts.shapes import Origin
from auditlog.actors import Actor
from billing import keys, ledger
from plyrum import clock
from plyrum.ids import uuid7

PASSWORD = "correct horse battery staple"
ORIGIN = Origin(ip="127.0.0.1", request_id="test-request", user_agent="tests", surface="api")


def unique_email(name: str = "person") -> str:
    return f"{name}-{uuid7().hex}@example.test"


def customer(**facts: object) -> User:
    """A customer with a verified address who accepted the offer in force and has an empty wallet."""
    return _person("customer", **facts)


def stranger() -> User:
    """Another customer, who may see nothing of the first one's."""
    return _person("stranger")


def operator(role: str = User.Role.OWNER) -> User:
    """A member of the staff."""
    return _person("operator", is_staff=True, role=role)


def access_token(user: User) -> str:
    """An access token of a new API session of `user`."""
    with transaction.atomic():
        return sessions.open_family(user, origin=ORIGIN, now=clock.now()).access_token


def bearer(user: User) -> dict[str, str]:
    """Request headers of a new API session of `user`, for the test client's `headers=`."""
    return {"Authorization": f"Bearer {access_token(user)}"}


def api_key(
    user: User, *, month_limit_micro_rub: int | None = None, **wish: Any
) -> tuple[ApiKey, dict[str, str]]:
    """An API key of `user` and the request headers that present it."""
    issued = keys.issue(
        customer_id=user.pk,
        wish=Wish(**{"name": "Проба", **wish}),
        month_limit_micro_rub=month_limit_micro_rub,
        idempotency_key="",
        now=clock.now(),
        actor=Actor.customer(user.pk),
    )
    return issued.key.row, {"Authorization": f"Bearer {issued.text}"}


@transaction.atomic
def _person(kind: str, **facts: object) -> User:
    user = User(email=unique_email(kind), password=_hash(), email_verified=True)
    for name, value in facts.items():
        setattr(user, name, value)
    user.save(force_insert=True)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=user.email_verified)
    signup.welcome(user, origin=ORIGIN, now=clock.now())
    ledger.open_wallet(customer_id=user.id)
    return user


@cache
def _hash() -> str:
    """One slow hash for the whole run."""
    return make_password(PASSWORD)
