"""The acts on a subscription: activate, renew, change, cancel, resume, extend.

Called by the API, the site and the back office; a repeated key is one act. Each act takes the lock of the
customer's row, brings the subscription to the present (`clockwork`), and only then does its own work. What it
raises takes everything back: the key stays free.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID

import orjson
from django.db import transaction

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog import reasons
from auditlog.actors import Actor
from billing.errors import IdempotencyMismatch, OwnWallet
from plans import clockwork, moves, periods, purchasing, queries
from plans.errors import (
    AlreadySubscribed,
    NotPaidUp,
    NotSubscribed,
    PeriodChanged,
    PeriodPaidAhead,
    PlanUnchanged,
    PriceChanged,
)
from plans.models import PlanVersion, Subscription, SubscriptionMove, SubscriptionPeriod
from plyrum.clock import rfc3339

State: TypeAlias = Subscription.State
Renewal: TypeAlias = Subscription.Renewal
Kind: TypeAlias = SubscriptionMove.Kind

Body: TypeAlias = Mapping[str, object]  # what was asked for: a key stands for one of these

LONGEST_EXTENSION = timedelta(days=365)


@dataclass(frozen=True)
class Asking:
    """How every act is asked for. A repeated `key` with the same content is the same act; "" is no key.

    `price_micro_rub` and `period_start` (of the period to be paid) are what the customer was shown, None when
    they named none; `reason` is an operator's.
    """

    key: str
    now: datetime
    actor: Actor
    price_micro_rub: int | None = None
    period_start: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Asked:
    """The subscription as it is now; `is_replay` when the key was seen before with the same content."""

    subscription: Subscription
    is_replay: bool


@transaction.atomic(durable=True)
def activate(*, customer_id: UUID, plan_code: str, renewal: Renewal, asking: Asking) -> Asked:
    """Buy the first period of a plan; it begins now, and every later one is counted from this moment.

    Raises PlanNotFound, AlreadySubscribed, PriceChanged, InsufficientBalance, ReservedInFlight,
    SpendingBlocked, DebtOutstanding, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "activate", "plan": plan_code, "renewal": renewal}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    if going is not None:
        raise AlreadySubscribed
    now = asking.now
    version = queries.on_offer(plan_code, at=now)
    _require_price(queries.price_for(version, customer_id), asking)
    ends = periods.boundary(now, version.period_months)
    subscription = Subscription.objects.create(
        customer_id=customer_id,
        plan=version.plan,
        renewal=renewal,
        anchor=now,
        anchor_months=version.period_months,
        period_start=now,
        period_end=ends,
        due_at=ends,
        created_at=now,
    )
    period = purchasing.buy(subscription, version, starts=now, ends=ends, now=now)
    return _done(subscription, Kind.ACTIVATED, body, asking, price_micro_rub=period.price_micro_rub)


@transaction.atomic(durable=True)
def renew(*, customer_id: UUID, asking: Asking) -> Asked:
    """Pay the next period: ahead while the current one runs, at once when the price is due.

    A cancellation is taken back with it. What is paid while past due or suspended begins the period of the
    anchor that is running. A renewal that fell due and was paid on entering is what was asked for. Raises
    NotSubscribed, PeriodPaidAhead, PeriodChanged, PriceChanged, InsufficientBalance, ReservedInFlight,
    SpendingBlocked, DebtOutstanding, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "renew", "period_start": asking.period_start}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    subscription = _require_going(going)
    paid = _paid_on_entering(subscription, asking)
    if paid is not None:
        _require_price(paid.price_micro_rub, asking)
        _require_period(paid.starts_at, asking)
        return _done(subscription, Kind.RENEWED, body, asking, price_micro_rub=paid.price_micro_rub)
    _require_period(queries.following(subscription, at=asking.now)[0], asking)
    version = queries.renewal_terms(subscription)
    _require_price(queries.price_for(version, customer_id), asking)
    if _is_paid(subscription):
        if queries.paid_ahead(subscription) is not None:
            raise PeriodPaidAhead
        starts, ends = queries.following(subscription, at=asking.now)
        period = purchasing.buy(subscription, version, starts=starts, ends=ends, now=asking.now)
        subscription.cancel_at_period_end = False
        subscription.save(update_fields=["cancel_at_period_end"])
    else:
        period = clockwork.renew(subscription, now=asking.now)
    return _done(subscription, Kind.RENEWED, body, asking, price_micro_rub=period.price_micro_rub)


@transaction.atomic(durable=True)
def change(*, customer_id: UUID, plan_code: str, asking: Asking) -> Asked:
    """Take another plan: a dearer one of the same length at once, for the rest of the period; others later.

    Raises NotSubscribed, NotPaidUp, PlanNotFound, PlanUnchanged, PeriodPaidAhead, PriceChanged,
    InsufficientBalance, ReservedInFlight, SpendingBlocked, DebtOutstanding, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "change", "plan": plan_code}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    subscription = _require_paid(going)
    version = queries.on_offer(plan_code, at=asking.now)
    if queries.paid_ahead(subscription) is not None:
        raise PeriodPaidAhead
    chosen = subscription.next_plan_id or subscription.plan_id
    if plan_code == chosen:
        raise PlanUnchanged
    if is_upgrade(subscription, version):
        return _upgrade(subscription, version, body, asking)
    subscription.next_plan = version.plan if plan_code != subscription.plan_id else None
    subscription.save(update_fields=["next_plan"])
    return _done(subscription, Kind.PLAN_CHOSEN, body, asking, next_plan=plan_code)


@transaction.atomic(durable=True)
def choose_renewal(*, customer_id: UUID, renewal: Renewal, asking: Asking) -> Asked:
    """Renew by hand or automatically from the next period on.

    Raises NotSubscribed, NotPaidUp, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "choose_renewal", "renewal": renewal}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    subscription = _require_paid(going)
    subscription.renewal = renewal
    subscription.save(update_fields=["renewal"])
    return _done(subscription, Kind.RENEWAL_CHOSEN, body, asking, renewal=str(renewal))


@transaction.atomic(durable=True)
def cancel(*, customer_id: UUID, asking: Asking) -> Asked:
    """End the subscription with what is paid; one that waits for money ends at once.

    Raises NotSubscribed, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "cancel"}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    subscription = _require_going(going)
    if subscription.state == State.ACTIVE:
        subscription.cancel_at_period_end = True
        subscription.save(update_fields=["cancel_at_period_end"])
    else:
        clockwork.finish(subscription, State.CANCELED, now=asking.now, actor=asking.actor)
    return _done(subscription, Kind.CANCELED, body, asking)


@transaction.atomic(durable=True)
def resume(*, customer_id: UUID, asking: Asking) -> Asked:
    """Take a cancellation back while the period runs.

    Raises NotSubscribed, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "resume"}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    subscription = _require_going(going)
    subscription.cancel_at_period_end = False
    subscription.save(update_fields=["cancel_at_period_end"])
    return _done(subscription, Kind.RESUMED, body, asking)


@transaction.atomic(durable=True)
def extend(*, customer_id: UUID, days: int, asking: Asking) -> Asked:
    """Let the current period last longer, for free; later ones are counted from its new end.

    Raises NotSubscribed, NotPaidUp, PeriodPaidAhead, ReservedInFlight, IdempotencyMismatch, OwnWallet.
    """
    body = {"act": "extend", "days": days}
    known, going = _enter(customer_id, body, asking)
    if known is not None:
        return known
    if not 0 < days <= LONGEST_EXTENSION.days:
        raise ValueError("An extension is one day to a year.")
    subscription = _require_paid(going)
    if queries.paid_ahead(subscription) is not None:
        raise PeriodPaidAhead
    period = subscription.periods.get(ends_at=subscription.period_end)
    ends = subscription.period_end + timedelta(days=days)
    purchasing.prolong(period, ends=ends, now=asking.now)
    subscription.anchor, subscription.anchor_months = ends, 0
    subscription.period_end = subscription.due_at = ends
    subscription.warned_days = None
    fields = ["anchor", "anchor_months", "period_end", "due_at", "warned_days"]
    subscription.save(update_fields=fields)
    return _done(subscription, Kind.EXTENDED, body, asking, days=days)


def is_upgrade(subscription: Subscription, version: PlanVersion) -> bool:
    """Whether a plan is taken at once: dearer than the current period, and of its length."""
    period = subscription.periods.select_related("version").get(ends_at=subscription.period_end)
    price = queries.price_for(version, subscription.customer_id)
    is_same_length = version.period_months == period.version.period_months
    return is_same_length and price > period.price_micro_rub


def upgrade_price(subscription: Subscription, version: PlanVersion, *, now: datetime) -> int:
    """What an upgrade costs at `now`, in micro-RUB."""
    period = subscription.periods.get(ends_at=subscription.period_end)
    price = queries.price_for(version, period.customer_id)
    return purchasing.difference(period, price, period.price_micro_rub, now)


def _upgrade(subscription: Subscription, version: PlanVersion, body: Body, asking: Asking) -> Asked:
    period = subscription.periods.select_related("version").get(ends_at=subscription.period_end)
    purchase = purchasing.upgrade(period, version, now=asking.now)
    # The rest of a period costs less each second: what was shown is the most.
    if asking.price_micro_rub is not None and purchase.price_micro_rub > asking.price_micro_rub:
        raise PriceChanged(price_micro_rub=purchase.price_micro_rub)
    subscription.plan, subscription.next_plan = version.plan, None
    subscription.save(update_fields=["plan", "next_plan"])
    return _done(subscription, Kind.UPGRADED, body, asking, price_micro_rub=purchase.price_micro_rub)


def _enter(customer_id: UUID, body: Body, asking: Asking) -> tuple[Asked | None, Subscription | None]:
    """Lock the customer, answer a known key, else bring their subscription to the present."""
    if asking.actor.kind == "operator" and str(customer_id) == asking.actor.id:
        raise OwnWallet
    if User.objects.select_for_update(no_key=True).filter(pk=customer_id).first() is None:
        raise UserNotFound
    if asking.key:
        move = SubscriptionMove.objects.filter(customer_id=customer_id, client_key=asking.key).first()
        if move is not None and move.fingerprint != _fingerprint(body, asking):
            raise IdempotencyMismatch
        if move is not None:
            return Asked(move.subscription, is_replay=True), None
    going = Subscription.objects.going().locked().filter(customer_id=customer_id).first()
    if going is not None:
        clockwork.catch_up(going, now=asking.now, actor=asking.actor)
        if going.due_at is None:
            going = None
    return None, going


def _require_going(going: Subscription | None) -> Subscription:
    if going is None:
        raise NotSubscribed
    return going


def _require_paid(going: Subscription | None) -> Subscription:
    subscription = _require_going(going)
    if not _is_paid(subscription):
        raise NotPaidUp
    return subscription


def _is_paid(subscription: Subscription) -> bool:
    """Whether the current period goes on; one that waits for held money is over."""
    return subscription.state == State.ACTIVE and subscription.waits_until is None


def _paid_on_entering(subscription: Subscription, asking: Asking) -> SubscriptionPeriod | None:
    """The current period, if it fell due and was paid in this very act."""
    period = subscription.periods.filter(starts_at=subscription.period_start).first()
    is_fresh = period is not None and subscription.created_at < period.created_at == asking.now
    return period if is_fresh and _is_paid(subscription) else None


def _require_period(starts_at: datetime, asking: Asking) -> None:
    if asking.period_start not in (None, starts_at):
        raise PeriodChanged(next_period_start=rfc3339(starts_at))


def _require_price(price: int, asking: Asking) -> None:
    if asking.price_micro_rub not in (None, price):
        raise PriceChanged(price_micro_rub=price)


def _done(
    subscription: Subscription,
    kind: Kind,
    body: Body,
    asking: Asking,
    **facts: object,
) -> Asked:
    moves.record(
        subscription,
        kind,
        now=asking.now,
        actor=asking.actor,
        client_key=asking.key,
        fingerprint=_fingerprint(body, asking) if asking.key else "",
        reason=reasons.required(asking.reason) if asking.actor.kind == "operator" else asking.reason,
        **facts,
    )
    return Asked(subscription, is_replay=False)


def _fingerprint(body: Body, asking: Asking) -> str:
    """The same for the same act, so that one key cannot stand for two."""
    facts = {**body, "price_micro_rub": asking.price_micro_rub}
    return sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
