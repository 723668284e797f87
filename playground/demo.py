"""Demo people and plans for development. Called by `up`; safe to repeat."""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import User
from accounts.roles import Role
from auditlog.actors import SYSTEM
from billing import ledger
from legal import acceptances, documents
from legal.models import LegalDocument
from plans import offers, queries
from plans.shapes import Terms
from plyrum import clock
from plyrum.ids import uuid7

PASSWORD = "plyrum-demo-2026"  # noqa: S105 - printed on the screen of a developer
CUSTOMER = "customer@plyrum.local"
OPERATOR = "operator@plyrum.local"
DEMO_BONUS_MICRO_RUB = 50_000_000
RUB = 1_000_000
DEMO_PLANS = (
    ("start", "Start", Terms(490 * RUB, None, 1, 550 * RUB, 200 * RUB, 0)),
    ("studio", "Studio", Terms(1490 * RUB, 1190 * RUB, 1, 1700 * RUB, 600 * RUB, 100)),
)


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
    _sell_plans(now)
    return [("Customer", CUSTOMER, PASSWORD), ("Operator", OPERATOR, PASSWORD)]


def _sell_plans(now: datetime) -> None:
    """Two plans to look at, unless an operator has put others on offer."""
    if queries.offered(at=now):
        return
    for code, name, terms in DEMO_PLANS:
        offers.publish(
            code=code,
            name=name,
            terms=terms,
            valid_from=now,
            reason="A plan of the demo",
            now=now,
            actor=SYSTEM,
        )


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
