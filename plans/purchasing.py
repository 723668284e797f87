"""The money of a subscription: buy a period, raise it to a dearer plan, close it and carry its rest over.

Called by `subscriptions` and `clockwork`, inside their transactions and behind the lock of the subscription.
Purchase and grant of a period are one transaction; the period of every entry is its source.
"""

from datetime import datetime
from typing import Any

from billing import ledger, policies
from billing.errors import InsufficientBalance, ReservedInFlight
from billing.models import CreditLot, LotKind
from plans import periods, queries
from plans.models import PlanVersion, Purchase, Subscription, SubscriptionPeriod
from plyrum.transactions import require_transaction


def buy(
    subscription: Subscription, version: PlanVersion, *, starts: datetime, ends: datetime, now: datetime
) -> SubscriptionPeriod:
    """Pay a period and give what it includes; a second call for one start breaks on the unique row.

    Raises InsufficientBalance, ReservedInFlight, SpendingBlocked, DebtOutstanding.
    """
    require_transaction()
    price = queries.price_for(version, subscription.customer_id)
    period = SubscriptionPeriod.objects.create(
        subscription=subscription,
        customer_id=subscription.customer_id,
        version=version,
        starts_at=starts,
        ends_at=ends,
        price_micro_rub=price,
        image_quota=version.image_quota,
        created_at=now,
    )
    _pay(period, version, number=0, price=price, grant=version.grant_micro_rub, now=now)
    return period


def upgrade(period: SubscriptionPeriod, version: PlanVersion, *, now: datetime) -> Purchase:
    """Raise the rest of a period to dearer terms: pay and get the difference for the time that is left.

    Both sums are floored parts of whole prices, so what was used and what is left of each make it exactly.
    Raises InsufficientBalance, ReservedInFlight, SpendingBlocked, DebtOutstanding.
    """
    require_transaction()
    price = queries.price_for(version, period.customer_id)
    bought = period.version
    purchase = _pay(
        period,
        version,
        number=period.purchases.count(),
        price=difference(period, price, period.price_micro_rub, now),
        grant=difference(period, version.grant_micro_rub, bought.grant_micro_rub, now),
        now=now,
    )
    period.image_quota += difference(period, version.image_quota, bought.image_quota, now)
    period.price_micro_rub = price
    period.version = version
    period.save(update_fields=["image_quota", "price_micro_rub", "version"])
    return purchase


def difference(period: SubscriptionPeriod, new: int, old: int, now: datetime) -> int:
    """What the rest of the period is worth more by `new` than by `old`; never below zero."""
    new_rest, old_rest = (
        periods.rest_of(amount, begins=period.starts_at, ends=period.ends_at, at=now) for amount in (new, old)
    )
    return max(0, new_rest - old_rest)


def close(period: SubscriptionPeriod, *, into: SubscriptionPeriod | None, now: datetime) -> int:
    """End a period: what its grant left free goes to the next one up to the cap, the rest to the sweep.

    Without a next period nothing is carried. What a running request holds stays for it. Answers micro-RUB.
    """
    require_transaction()
    if into is not None and (cap := into.version.rollover_cap_micro_rub) > 0:
        period.carried_micro_rub = ledger.carry_over(
            customer_id=period.customer_id,
            lot_ids=queries.lots(period, LotKind.MONTHLY),
            at_most=cap,
            lot_kind=LotKind.ROLLOVER,
            key=f"rollover:{_natural(period)}",
            period_id=period.id,
            expires_at=into.ends_at,
            effective_at=period.ends_at,
        )
    period.closed_at = now
    period.save(update_fields=["carried_micro_rub", "closed_at"])
    return period.carried_micro_rub


def prolong(period: SubscriptionPeriod, *, ends: datetime, now: datetime) -> None:
    """Give a period a later end; its grant and what was carried over into it move to lots with that end.

    Raises ReservedInFlight while running requests hold a part of it, which would be left behind.
    """
    require_transaction()
    ledger.lock([period.customer_id])
    for kind in (LotKind.MONTHLY, LotKind.ROLLOVER):
        lots = CreditLot.objects.filter(pk__in=queries.lots(period, kind))
        if lots.filter(reserved_micro_rub__gt=0).exists():
            raise ReservedInFlight("Running requests hold a part of the plan's money. Try again in a minute.")
        ledger.carry_over(
            customer_id=period.customer_id,
            lot_ids=[lot.pk for lot in lots.order_by("pk")],
            at_most=sum(lot.remaining_micro_rub for lot in lots),
            lot_kind=kind,
            key=f"extend:{period.id}:{int(ends.timestamp())}:{kind}",
            period_id=period.id,
            expires_at=ends,
            effective_at=now,
        )
    period.ends_at = ends
    period.save(update_fields=["ends_at"])


def _pay(
    period: SubscriptionPeriod, version: PlanVersion, *, number: int, price: int, grant: int, now: datetime
) -> Purchase:
    # Before the grant too: a debt would take what the period gives.
    policies.of(period.customer_id, now=now).require_spending_allowed()
    suffix = f":{number}" if number else ""
    facts: dict[str, Any] = {"customer_id": period.customer_id, "period_id": period.id, "effective_at": now}
    paid = given = None
    if price:
        key = f"plan:{_natural(period)}{suffix}"
        try:
            paid = ledger.buy_plan(amount_micro_rub=price, key=key, **facts).entry_id
        except InsufficientBalance as short:
            raise InsufficientBalance(
                "A plan is bought with money that was paid in, and there is not enough of it.",
                needed_micro_rub=price,
                balance_micro_rub=queries.purchased(period.customer_id),
            ) from short
    if grant:
        key = f"grant:{_natural(period)}{suffix}"
        given = ledger.grant(amount_micro_rub=grant, key=key, expires_at=period.ends_at, **facts).entry_id
    return Purchase.objects.create(
        period=period,
        number=number,
        customer_id=period.customer_id,
        version=version,
        price_micro_rub=price,
        grant_micro_rub=grant,
        purchase_entry_id=paid,
        grant_entry_id=given,
        created_at=now,
    )


def _natural(period: SubscriptionPeriod) -> str:
    """What makes a period one: its subscription and the second it starts in."""
    return f"{period.subscription_id}:{int(period.starts_at.timestamp())}"
