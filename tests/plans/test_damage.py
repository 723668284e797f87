"""Each kind of damage to plans is told by its own check of `verify_ledger`, and by no other."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing import verification
from plans import campaigns, offers, quota
from plans.shapes import CampaignTerms
from plans.verification import checks
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.damaging import Damage, damage
from tests.billing.fixtures import LedgerClock
from tests.plans import world

__all__ = ["damage"]

NOW = datetime(2035, 1, 1, tzinfo=UTC)
PURCHASE = "UPDATE plans_purchase SET {} WHERE customer_id = %(customer)s"
PERIOD = "UPDATE plans_subscriptionperiod SET {} WHERE customer_id = %(customer)s AND closed_at IS NULL"

DAMAGE = {
    "price of a purchase changed": (PURCHASE.format("price_micro_rub = price_micro_rub + 1"), "V26"),
    "grant of a purchase changed": (PURCHASE.format("grant_micro_rub = grant_micro_rub - 1"), "V26"),
    "purchase without its entry": (PURCHASE.format("purchase_entry_id = NULL"), "V26"),
    "purchase with somebody's entry": (PURCHASE.format("grant_entry_id = %(stranger)s"), "V26"),
    "purchase of another period": (
        "UPDATE plans_purchase SET period_id = (SELECT id FROM plans_subscriptionperiod"
        " WHERE customer_id = %(customer)s AND closed_at IS NOT NULL), number = 7"
        " WHERE period_id = (SELECT id FROM plans_subscriptionperiod WHERE customer_id = %(customer)s"
        " AND closed_at IS NULL)",
        "V26 V60",
    ),
    "period that nobody opened": (PURCHASE.format("number = number + 1"), "V60"),
    "image not counted": (PERIOD.format("images_used = 0"), "V61"),
    "image without a row": (PERIOD.format("images_used = 2"), "V61"),
    "carried sum changed": (
        "UPDATE plans_subscriptionperiod SET carried_micro_rub = 1 WHERE customer_id = %(customer)s"
        " AND closed_at IS NOT NULL",
        "V62",
    ),
    "gift of another amount": (
        "UPDATE plans_redemption SET amount_micro_rub = 1 WHERE customer_id = %(customer)s",
        "V63",
    ),
    "use of a code not counted": (
        "UPDATE plans_campaign SET uses = 0 WHERE id IN (SELECT campaign_id FROM plans_redemption"
        " WHERE customer_id = %(customer)s)",
        "V63",
    ),
}  # fmt: skip


@pytest.fixture
def kept(clock: LedgerClock) -> UUID:
    """A customer whose subscription was renewed with a rollover, with an image taken and a code redeemed."""
    clock.stand_at(NOW)
    user = world.customer(1000)
    subscription = world.activate(user, world.plan(300, 200, images=5), NOW, world.AUTOMATIC)
    end = subscription.period_end
    clock.stand_at(end)
    world.advance(subscription, end)
    books.expire_lots(user.id)
    with transaction.atomic():
        quota.take(customer_id=user.id, key=f"run:{uuid7()}", now=end)
    code = uuid7().hex[-12:]
    terms = CampaignTerms(
        amount_micro_rub=RUB, bonus_days=900, valid_from=NOW, valid_until=None, uses_limit=100
    )
    offers.open_campaign(
        name="Проба", code=code, terms=terms, reason="Для проверки", now=NOW, actor=world.boss()
    )
    campaigns.redeem(customer_id=user.id, code=code, now=end, actor=world.somebody(user.id))
    return user.id


def found(customer: UUID) -> set[str]:
    return {finding.check for finding in verification.examine(wallets=[customer]).findings}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_by_its_check(kept: UUID, damage: Damage, name: str) -> None:
    statements, expected = DAMAGE[name]
    assert found(kept) == set()

    for state in ("DISABLE", "ENABLE ALWAYS"):
        with connection.cursor() as cursor:
            for table in ("plans_purchase", "plans_redemption"):
                cursor.execute(f"ALTER TABLE {table} {state} TRIGGER {table}_is_append_only")
        if state == "DISABLE":
            damage(statements, {"customer": kept, "stranger": uuid7()})

    assert found(kept) == set(expected.split())


def test_every_check_has_its_damage() -> None:
    told = {check for _, expected in DAMAGE.values() for check in expected.split()}
    assert {check.id for check in checks()} == told
