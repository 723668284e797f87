"""What time does to a subscription: its period ends, it is renewed, it waits for money, it ends.

`catch_up` brings a locked subscription to `now`. Every act calls it first and beat calls it every minute, so
what counts is the clock, not who came when. Nothing here is taken twice: a period has one row for each start.
Source: ledger guide 14; docs/decisions/0022-the-end-of-a-period.md.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from accounts.models import User
from auditlog.actors import Actor
from billing.errors import DebtOutstanding, InsufficientBalance, ReservedInFlight, SpendingBlocked
from plans import letters, moves, periods, purchasing, queries
from plans.models import Subscription, SubscriptionMove, SubscriptionPeriod
from plyrum.transactions import require_transaction

State = Subscription.State
Kind = SubscriptionMove.Kind

# Days after the first failed attempt. The last one suspends; much later the subscription ends.
ATTEMPT_DAYS = (0, 1, 3, 5, 7)
CANCELED_AFTER = timedelta(days=30)
WARNING_DAYS = (7, 1)
# Money that a running request holds is asked for again this often, for as long as a hold may live.
ASKED_AGAIN_AFTER = timedelta(minutes=1)
LONGEST_HOLD = timedelta(seconds=settings.PLYRUM_RUN_SECONDS + settings.HOLD_SECONDS)
# What a period that begins writes.
BEGUN = (
    "plan",
    "next_plan",
    "state",
    "anchor_months",
    "period_start",
    "period_end",
    "due_at",
    "waits_until",
    "past_due_at",
    "warned_days",
)


def catch_up(subscription: Subscription, *, now: datetime, actor: Actor) -> None:
    """Do everything that has become due by `now`. The row must be locked; its open periods are, from here on.

    In one order everywhere: subscription, periods, wallet; an image request takes its period and wallet so.
    """
    require_transaction()
    list(subscription.periods.select_for_update(no_key=True).filter(closed_at=None).order_by("starts_at"))
    steps = {
        State.ACTIVE: _end_period,
        State.PAST_DUE: _try_again,
        State.SUSPENDED: _give_up,
    }
    while subscription.due_at is not None and subscription.due_at <= now:
        steps[State(subscription.state)](subscription, now, actor)


def begin(subscription: Subscription, period: SubscriptionPeriod) -> None:
    """Make `period` the current one and the state active; saves. The anchor stays."""
    version = period.version
    months = subscription.anchor_months
    while periods.boundary(subscription.anchor, months) < period.ends_at:
        months += version.period_months
    subscription.anchor_months = months
    subscription.plan = version.plan
    if subscription.next_plan_id == version.plan_id:
        subscription.next_plan = None
    subscription.state = State.ACTIVE
    subscription.period_start, subscription.period_end = period.starts_at, period.ends_at
    subscription.due_at = period.ends_at
    subscription.waits_until = subscription.past_due_at = subscription.warned_days = None
    subscription.save(update_fields=BEGUN)


def renew(subscription: Subscription, *, now: datetime) -> SubscriptionPeriod:
    """Buy the period after the last one that `now` falls into, begin it and close the one that is over.

    Raises as `purchasing.buy`.
    """
    over = subscription.periods.filter(ends_at=subscription.period_end, closed_at=None).first()
    starts, ends = queries.following(subscription, at=now)
    version = queries.renewal_terms(subscription)
    period = purchasing.buy(subscription, version, starts=starts, ends=ends, now=now)
    begin(subscription, period)
    if over is not None:
        purchasing.close(over, into=period, now=now)
    return period


def warn(subscription: Subscription, *, now: datetime) -> bool:
    """Tell once at each warning day that the period is nearly over. The row must be locked."""
    due = [days for days in WARNING_DAYS if subscription.period_end - timedelta(days=days) <= now]
    if subscription.state != State.ACTIVE or not due or subscription.period_end <= now:
        return False
    days = min(due)
    if subscription.warned_days is not None and subscription.warned_days <= days:
        return False
    subscription.warned_days = days
    subscription.save(update_fields=["warned_days"])
    if queries.paid_ahead(subscription) is None:
        letters.ending(subscription, days=days, now=now)
    return True


def finish(subscription: Subscription, state: Subscription.State, *, now: datetime, actor: Actor) -> None:
    subscription.state = state
    subscription.due_at = None
    subscription.save(update_fields=["state", "due_at"])
    moves.record(subscription, Kind.ENDED, now=now, actor=actor)
    letters.ended(subscription, now=now)


def _end_period(subscription: Subscription, now: datetime, actor: Actor) -> None:
    """At the boundary: begin what was paid ahead, end, or take the price of the next period."""
    over = subscription.periods.get(ends_at=subscription.period_end)
    ahead = queries.paid_ahead(subscription)
    if ahead is not None:
        begin(subscription, ahead)
        purchasing.close(over, into=ahead, now=now)
    elif subscription.cancel_at_period_end or not _is_wanted(subscription):
        purchasing.close(over, into=None, now=now)
        finish(subscription, State.CANCELED, now=now, actor=actor)
    elif subscription.renewal == Subscription.Renewal.MANUAL:
        purchasing.close(over, into=None, now=now)
        finish(subscription, State.EXPIRED, now=now, actor=actor)
    elif not _pay_next(subscription, now, actor):
        purchasing.close(over, into=None, now=now)
        subscription.past_due_at = now
        _fail(subscription, now, actor)


def _try_again(subscription: Subscription, now: datetime, actor: Actor) -> None:
    if not _is_wanted(subscription):
        finish(subscription, State.CANCELED, now=now, actor=actor)
    elif not _pay_next(subscription, now, actor):
        _fail(subscription, now, actor)


def _give_up(subscription: Subscription, now: datetime, actor: Actor) -> None:
    finish(subscription, State.CANCELED, now=now, actor=actor)


def _is_wanted(subscription: Subscription) -> bool:
    """Whoever is blocked or gone is not charged for what they cannot use."""
    return User.objects.filter(pk=subscription.customer_id, is_active=True).exists()


def _pay_next(subscription: Subscription, now: datetime, actor: Actor) -> bool:
    """Take the price from the wallet, or wait while running requests hold it; False when neither can be.

    That is: there is too little paid money, or none may be spent (a stop of spending, a debt).
    """
    try:
        with transaction.atomic():
            period = renew(subscription, now=now)
    except ReservedInFlight:
        return _wait(subscription, now)
    except (InsufficientBalance, SpendingBlocked, DebtOutstanding):
        return False
    moves.record(subscription, Kind.RENEWED, now=now, actor=actor, price_micro_rub=period.price_micro_rub)
    letters.renewed(subscription, period, now=now)
    return True


def _wait(subscription: Subscription, now: datetime) -> bool:
    """Ask again soon; False when every hold that was there at the first attempt is over by now."""
    subscription.waits_until = subscription.waits_until or now + LONGEST_HOLD
    if now >= subscription.waits_until:
        return False
    subscription.due_at = min(now + ASKED_AGAIN_AFTER, subscription.waits_until)
    subscription.save(update_fields=["due_at", "waits_until"])
    return True


def _fail(subscription: Subscription, now: datetime, actor: Actor) -> None:
    """Set the next attempt, or suspend after the last; one attempt however many days were slept through."""
    since = subscription.past_due_at or now
    later = [since + timedelta(days=days) for days in ATTEMPT_DAYS if since + timedelta(days=days) > now]
    subscription.state = State.PAST_DUE if later else State.SUSPENDED
    subscription.due_at = later[0] if later else since + CANCELED_AFTER
    subscription.past_due_at = since
    subscription.waits_until = None
    subscription.save(update_fields=["state", "due_at", "past_due_at", "waits_until"])
    moves.record(subscription, Kind(subscription.state), now=now, actor=actor)
    version = queries.renewal_terms(subscription)
    price = queries.price_for(version, subscription.customer_id)
    letters.past_due(subscription, price_micro_rub=price, days=(now - since).days, now=now)
