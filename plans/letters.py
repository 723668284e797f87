"""Which letters a subscription writes, each once by its key. Sent by the outbox of accounts."""

from datetime import datetime
from zoneinfo import ZoneInfo

from accounts import notices
from plans import periods, queries
from plans.models import Subscription, SubscriptionPeriod


def ending(subscription: Subscription, *, days: int, now: datetime) -> None:
    """The period is nearly over: what will happen then, and what it costs."""
    version = queries.renewal_terms(subscription)
    renews = subscription.renewal == Subscription.Renewal.AUTOMATIC and not subscription.cancel_at_period_end
    facts = {
        "ends_at": moscow(subscription.period_end),
        "renews": renews,
        "next_plan": version.plan.name,
        "price_micro_rub": queries.price_for(version, subscription.customer_id),
    }
    end = int(subscription.period_end.timestamp())  # an extension moves it, and what was told is told anew
    _write(subscription, "plan_ending", f"{end}:{days}", facts, now)


def renewed(subscription: Subscription, period: SubscriptionPeriod, *, now: datetime) -> None:
    facts = {"price_micro_rub": period.price_micro_rub, "ends_at": moscow(period.ends_at)}
    _write(subscription, "plan_renewed", str(int(period.starts_at.timestamp())), facts, now)


def past_due(subscription: Subscription, *, price_micro_rub: int, days: int, now: datetime) -> None:
    """An attempt found too little paid money; `days` is how many have passed since the first one."""
    facts = {
        "price_micro_rub": price_micro_rub,
        "is_suspended": subscription.state == Subscription.State.SUSPENDED,
        "next_at": moscow(subscription.due_at or now),
    }
    _write(subscription, "plan_past_due", f"{_start(subscription)}:{days}", facts, now)


def ended(subscription: Subscription, *, now: datetime) -> None:
    _write(subscription, "plan_ended", "", {}, now)


def moscow(moment: datetime, zone: ZoneInfo = periods.ZONE) -> str:
    """A moment as letters show it, the same in both languages."""
    return f"{moment.astimezone(zone):%d.%m.%Y %H:%M}"


def _start(subscription: Subscription) -> int:
    return int(subscription.period_start.timestamp())


def _write(subscription: Subscription, letter: str, of: str, facts: dict[str, object], now: datetime) -> None:
    notices.write(
        user_id=subscription.customer_id,
        letter=letter,
        key=f"{letter}:{subscription.id}:{of}",
        facts={"plan": subscription.plan.name, **facts},
        now=now,
    )
