"""Demo people for development: a customer with some money, an operator. Called by `up`; safe to repeat."""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import User
from accounts.roles import Role
from auditlog.actors import SYSTEM
from billing import ledger
from legal import acceptances, documents
from legal.models import LegalDocument
from plyrum import clock
from plyrum.ids import uuid7

PASSWORD = "plyrum-demo-2026"  # noqa: S105 - printed on the screen of a developer
CUSTOMER = "customer@plyrum.local"
OPERATOR = "operator@plyrum.local"
DEMO_BONUS_MICRO_RUB = 50_000_000


def seed() -> list[tuple[str, str, str]]:
    """Make the demo people unless they are there; returns (who, e-mail, password) for the screen."""
    now = clock.now()
    customer = _person(CUSTOMER, now)
    _person(OPERATOR, now, is_staff=True, role=Role.OWNER)
    with transaction.atomic():
        ledger.open_wallet(customer_id=customer.id)
        ledger.bonus(
            entry_id=uuid7(),
            customer_id=customer.id,
            amount_micro_rub=DEMO_BONUS_MICRO_RUB,
            key=f"demo:{customer.id}",
            expires_at=None,
        )
    return [("Customer", CUSTOMER, PASSWORD), ("Operator", OPERATOR, PASSWORD)]


def _person(email: str, now: datetime, **facts: object) -> User:
    found = User.objects.filter(email=email).first()
    if found is not None:
        return found
    with transaction.atomic():
        user = User(email=email, email_verified=True, created_at=now, **facts)
        user.set_password(PASSWORD)
        user.save()
        EmailAddress.objects.create(user=user, email=email, primary=True, verified=True)
        acceptances.record(
            user_id=user.id,
            version=documents.current(LegalDocument.Kind.OFFER, at=now),
            act="registration",
            surface="site",
            locale="ru",
            user_agent="",
            now=now,
            actor=SYSTEM,
        )
    return user
