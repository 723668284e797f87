"""Making an operator: a new person or a customer who joins the staff. Called by `create_operator`."""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts import emails, passwords, roles
from accounts.models import User
from auditlog import journal
from auditlog.actors import Actor
from plyrum.errors import InvalidRequest


def create(*, email: str, role: str, password: str, now: datetime, actor: Actor) -> tuple[User, bool]:
    """Give `email` the role and the password; True when the person is new.

    Raises InvalidRequest for a wrong address or role, WeakPassword.
    """
    if role not in roles.Role.values or not role:
        raise InvalidRequest(f"A role is one of {', '.join(filter(None, roles.Role.values))}.")
    try:
        address = emails.normalise(email)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    passwords.require_strong(password, email=address)
    return _store(address, role, make_password(password), now, actor)


@transaction.atomic(durable=True)
def _store(address: str, role: str, password_hash: str, now: datetime, actor: Actor) -> tuple[User, bool]:
    """Whoever has the shell vouches for the address, so it counts as verified."""
    facts = {"is_staff": True, "role": role, "password": password_hash, "email_verified": True}
    user, is_new = User.objects.get_or_create(email=address, defaults={**facts, "created_at": now})
    if not is_new:
        User.objects.filter(pk=user.pk).update(**facts)
        user.refresh_from_db()
    EmailAddress.objects.update_or_create(
        user=user, primary=True, defaults={"email": address, "verified": True}
    )
    journal.record(
        actor=actor,
        action="accounts.operator.made",
        subject=f"user:{user.id}",
        data={"role": role, "is_new": is_new},
        target_user_id=user.id,
    )
    return user, is_new
