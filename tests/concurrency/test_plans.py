"""Purchases, renewals, codes and images at once: each happens once. The controls leave the defence out."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import transaction
from django.db.models import F

from accounts.models import User
from auditlog.actors import Actor
from billing import ledger
from plans import campaigns, lifecycle, offers, quota, subscriptions
from plans.errors import AlreadySubscribed, PeriodPaidAhead, PromoCodeOver, PromoCodeUsed, QuotaSpent
from plans.models import Campaign, PlanVersion, QuotaUse, SubscriptionPeriod
from plans.shapes import CampaignTerms, Redeemed
from plans.subscriptions import Asked
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.payments.shop import at_once
from tests.plans import world
from tests.plans.world import withdrawn

__all__ = ["withdrawn"]

CALLERS = 20
NOW = datetime(2032, 8, 1, tzinfo=UTC)


@pytest.fixture
def user() -> User:
    return world.customer(100_000)


@pytest.fixture
def version() -> PlanVersion:
    return world.plan(300, 200, images=5)


def faults(found: list[object], *expected: type[Exception]) -> list[object]:
    return [one for one in found if isinstance(one, Exception) and not isinstance(one, expected)]


def money(user: User) -> Counter[str]:
    return Counter(world.kinds(user.id))


@pytest.mark.parametrize("one_key", [True, False])
def test_activations_at_once_are_one_grant(user: User, version: PlanVersion, one_key: bool) -> None:
    def activate() -> Asked:
        asking = world.asking(user, NOW, key="click" if one_key else str(uuid7()))
        return subscriptions.activate(
            customer_id=user.id, plan_code=version.plan_id, renewal=world.MANUAL, asking=asking
        )

    found = at_once([activate] * CALLERS)

    assert not faults(found, AlreadySubscribed)
    assert sum(isinstance(one, Asked) and not one.is_replay for one in found) == 1
    assert sum(isinstance(one, AlreadySubscribed) for one in found) == (0 if one_key else CALLERS - 1)
    assert money(user) == {"topup": 1, "plan_purchase": 1, "plan_grant": 1}
    books.assert_right(user.id)


def test_renewals_of_beat_customer_and_operator_at_once_are_one_grant(
    user: User, version: PlanVersion
) -> None:
    subscription = world.activate(user, version, NOW, world.AUTOMATIC)
    end = subscription.period_end

    def beat() -> None:
        lifecycle.advance(subscription_id=subscription.id, now=end)

    def by(actor: Actor) -> Callable[[], Asked]:
        asking = subscriptions.Asking(key="", now=end, actor=actor, reason="Просьба клиента")
        return lambda: subscriptions.resume(customer_id=user.id, asking=asking)

    works = [beat] * 8 + [by(Actor.customer(user.id))] * 6 + [by(world.OPERATOR)] * 6
    found = at_once(works)

    assert not faults(found)
    assert money(user) == {"topup": 1, "plan_purchase": 2, "plan_grant": 2, "rollover": 2}
    assert subscription.periods.count() == 2
    books.expire_lots(user.id)
    books.assert_right(user.id)


def test_payments_ahead_at_once_are_one_period(user: User, version: PlanVersion) -> None:
    subscription = world.activate(user, version, NOW)

    def renew() -> Asked:
        return subscriptions.renew(customer_id=user.id, asking=world.asking(user, NOW, key=str(uuid7())))

    found = at_once([renew] * CALLERS)

    assert not faults(found, PeriodPaidAhead)
    assert money(user) == {"topup": 1, "plan_purchase": 2, "plan_grant": 2}
    assert subscription.periods.count() == 2


def test_without_lock_and_natural_key_a_period_is_paid_twice(user: User, version: PlanVersion) -> None:
    """The control: look whether the next period is paid, then pay it, under a key of the attempt."""
    subscription = world.activate(user, version, NOW)
    both_have_looked = threading.Barrier(2)

    def careless() -> None:
        with transaction.atomic():
            is_paid = subscription.periods.filter(starts_at=subscription.period_end).exists()
            both_have_looked.wait(60)
            if not is_paid:  # a correction stands for the price: the books of the suite stay provable
                ledger.adjust(
                    entry_id=uuid7(),
                    customer_id=user.id,
                    amount_micro_rub=-300 * RUB,
                    key=f"control:{uuid7()}",
                    source_id="control",
                )

    assert not faults(at_once([careless, careless]))

    assert money(user)["admin_adjustment"] == 2


def test_images_at_once_never_exceed_the_quota(user: User, version: PlanVersion) -> None:
    subscription = world.activate(user, version, NOW)

    def take() -> bool:
        with transaction.atomic():
            return quota.take(customer_id=user.id, key=f"run:{uuid7()}", now=NOW)

    found = at_once([take] * CALLERS)

    assert not faults(found, QuotaSpent)
    assert Counter(one is True for one in found) == {True: 5, False: CALLERS - 5}
    assert subscription.periods.get().images_used == 5
    key = QuotaUse.objects.filter(period__subscription=subscription).values_list("key", flat=True)[0]

    def give_back() -> bool:
        with transaction.atomic():
            return quota.give_back(key=key)

    assert sum(at_once([give_back] * 8)) == 1
    assert subscription.periods.get().images_used == 4
    books.assert_right(user.id)


def test_without_the_lock_the_last_image_is_taken_twice(user: User) -> None:
    """The control: look what is left, then take. The database refuses the second one, with a fault."""
    subscription = world.activate(user, world.plan(images=1), NOW)
    both_have_looked = threading.Barrier(2)

    def careless() -> bool:
        with transaction.atomic():
            period = SubscriptionPeriod.objects.get(subscription=subscription)
            both_have_looked.wait(60)
            if period.images_used >= period.image_quota:
                return False
            QuotaUse.objects.create(key=f"run:{uuid7()}", period=period, created_at=NOW)
            SubscriptionPeriod.objects.filter(pk=period.pk).update(images_used=F("images_used") + 1)
            return True

    found = at_once([careless, careless])

    assert Counter(type(one).__name__ for one in found) == {"bool": 1, "IntegrityError": 1}


def _campaign(limit: int) -> Campaign:
    terms = CampaignTerms(
        amount_micro_rub=RUB, bonus_days=30, valid_from=NOW, valid_until=None, uses_limit=limit
    )
    return offers.open_campaign(
        name="Гонка",
        code=uuid7().hex[-12:],
        terms=terms,
        reason="Гонка за кодом",
        now=NOW,
        actor=world.boss(),
    )


def test_code_redeemed_by_many_at_once_keeps_its_limit_and_is_one_for_each() -> None:
    campaign = _campaign(limit=3)
    people = [world.customer(0).id for _ in range(6)]

    def redeem(customer_id: UUID) -> Callable[[], Redeemed]:
        actor = world.somebody(customer_id)
        return lambda: campaigns.redeem(customer_id=customer_id, code=campaign.code, now=NOW, actor=actor)

    found = at_once([redeem(people[number % 6]) for number in range(18)])

    assert not faults(found, PromoCodeOver, PromoCodeUsed)
    given = [one.redemption.customer_id for one in found if isinstance(one, Redeemed)]
    assert len(given) == len(set(given)) == 3
    campaign.refresh_from_db()
    assert campaign.uses == 3
    assert sum(books.wallet(one).balance_micro_rub for one in people) == 3 * RUB
    books.assert_right(*people)


def test_without_the_lock_the_last_use_of_a_code_is_given_twice() -> None:
    """The control: count the uses, then give."""
    campaign = _campaign(limit=1)
    people = [world.customer(0).id for _ in range(2)]
    both_have_looked = threading.Barrier(2)

    def careless(customer_id: UUID) -> Callable[[], None]:
        def give() -> None:
            with transaction.atomic():
                found = Campaign.objects.get(pk=campaign.pk)
                both_have_looked.wait(60)
                if found.uses == 0:
                    ledger.bonus(
                        entry_id=uuid7(),
                        customer_id=customer_id,
                        amount_micro_rub=RUB,
                        key=f"control:{uuid7()}",
                        expires_at=None,
                    )

        return give

    assert not faults(at_once([careless(one) for one in people]))

    assert sum(books.wallet(one).balance_micro_rub for one in people) == 2 * RUB
