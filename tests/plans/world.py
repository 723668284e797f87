"""The tests of plans in one word each: a plan, a customer with money, an act at a moment, what is then."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import Any
from uuid import UUID

import pytest

from accounts.models import Notice, User
from auditlog.actors import Actor
from billing.models import CreditLot, LedgerEntry, LotKind
from plans import lifecycle, offers, subscriptions
from plans.models import Plan, PlanVersion, Subscription, SubscriptionPeriod
from plans.shapes import Terms
from plans.subscriptions import Asked, Asking
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OPERATOR = Actor.operator(uuid7())
MANUAL, AUTOMATIC = Subscription.Renewal.MANUAL, Subscription.Renewal.AUTOMATIC


def plan(price: int = 300, grant: int = 200, *, cap: int = 50, images: int = 0, **terms: Any) -> PlanVersion:
    """A plan that only one test knows; sums in roubles."""
    member = terms.pop("member", None)
    return offers.publish(
        code=terms.pop("code", f"plan-{uuid7().hex[-12:]}"),
        name="Probe",
        terms=Terms(
            price_micro_rub=price * RUB,
            member_price_micro_rub=member * RUB if member is not None else None,
            period_months=terms.pop("months", 1),
            grant_micro_rub=grant * RUB,
            rollover_cap_micro_rub=cap * RUB,
            image_quota=images,
        ),
        valid_from=terms.pop("valid_from", LONG_AGO),
        reason="Новый тариф для проверки",
        now=terms.pop("now", LONG_AGO),
        actor=OPERATOR,
    )


@pytest.fixture(autouse=True, scope="module")
def withdrawn(_database_for_all: None) -> Iterator[None]:
    """The plans of a module leave the shop window with it: pages of other tests show what is on offer."""
    yield
    Plan.objects.update(is_offered=False)


def boss(role: str = User.Role.OWNER) -> Actor:
    """An operator who has moved nothing yet."""
    return Actor.operator(factories.operator(role).id)


def customer(rub: int = 1000) -> User:
    user = factories.customer()
    if rub:
        books.topped_up(user.id, rub * RUB)
    return user


def somebody(customer_id: UUID) -> Actor:
    """The customer at an address of their own, so that counters against guessing never meet."""
    return Actor.customer(customer_id, ip=str(IPv6Address((0x20010DB8 << 96) | secrets.randbits(96))))


def asking(user: User, now: datetime, *, key: str = "", **facts: Any) -> Asking:
    return Asking(key=key, now=now, actor=Actor.customer(user.id), **facts)


def activate(
    user: User, version: PlanVersion, now: datetime, renewal: Subscription.Renewal = MANUAL, **facts: Any
) -> Subscription:
    asked = subscriptions.activate(
        customer_id=user.id, plan_code=version.plan_id, renewal=renewal, asking=asking(user, now, **facts)
    )
    return asked.subscription


def act(
    call: Callable[..., Asked], user: User, now: datetime, *, key: str = "", **facts: Any
) -> Subscription:
    return call(customer_id=user.id, asking=asking(user, now, key=key), **facts).subscription


def advance(subscription: Subscription, now: datetime) -> Subscription:
    """What beat does for this subscription at `now`."""
    lifecycle.advance(subscription_id=subscription.id, now=now)
    subscription.refresh_from_db()
    return subscription


def periods(subscription: Subscription) -> list[SubscriptionPeriod]:
    return list(subscription.periods.order_by("starts_at"))


def kinds(customer_id: UUID) -> list[str]:
    """Types of the wallet's entries, in order."""
    rows = LedgerEntry.objects.filter(customer_id=customer_id).order_by("seq")
    return list(rows.values_list("type", flat=True))


def left(customer_id: UUID) -> dict[str, int]:
    """What remains by kind of lot, in whole roubles; expired lots too."""
    found: dict[str, int] = {}
    for lot in CreditLot.objects.filter(customer_id=customer_id, is_spent=False).order_by("id"):
        kind = str(LotKind(lot.kind).value)
        found[kind] = found.get(kind, 0) + lot.remaining_micro_rub // RUB
    return found


def letters(user: User) -> list[str]:
    rows = Notice.objects.filter(user_id=user.id).order_by("created_at", "id")
    return list(rows.values_list("letter", flat=True))
