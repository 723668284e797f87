"""Reads of plans and subscriptions. What a customer is shown starts from their own rows."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, Sum

from billing.models import CreditLot, LotKind
from plans import periods
from plans.errors import PlanNotFound
from plans.models import OrganisationMember, Pack, Plan, PlanVersion, Subscription, SubscriptionPeriod
from plans.shapes import Standing

# A renewal goes by the terms in force this long before it, so that the first warning names its price.
TERMS_AHEAD = timedelta(days=7)
# Parameters: customer_id, now. The plan of the newest paid period that has begun and is not closed, and the
# organisation, as subjects of limits. Named in the setting LIMIT_SUBJECTS_SQL.
LIMIT_SUBJECTS = """
    (SELECT 'plan:' || v.plan_id
       FROM plans_subscriptionperiod p JOIN plans_planversion v ON v.id = p.version_id
      WHERE p.customer_id = %(customer_id)s::uuid AND p.starts_at <= %(now)s::timestamptz
        AND p.closed_at IS NULL
      ORDER BY p.starts_at DESC LIMIT 1)
    UNION ALL
    SELECT 'organisation:' || m.organisation_id
      FROM plans_organisationmember m WHERE m.customer_id = %(customer_id)s::uuid
"""


def offered(*, at: datetime) -> list[PlanVersion]:
    """The terms in force of every plan on offer, the cheapest first."""
    rows = PlanVersion.objects.filter(plan__is_offered=True, valid_from__lte=at).select_related("plan")
    newest = rows.order_by("plan_id", "-valid_from", "-number").distinct("plan_id")
    return sorted(newest, key=lambda version: (version.price_micro_rub, version.plan_id))


def on_offer(code: str, *, at: datetime) -> PlanVersion:
    """The terms by which a plan is sold. Raises PlanNotFound when it is not."""
    for version in offered(at=at):
        if version.plan_id == code:
            return version
    raise PlanNotFound


def terms(plan: Plan, *, at: datetime) -> PlanVersion:
    """The terms of a plan in force at `at`, else its first ones, offered or not."""
    rows = plan.versions.select_related("plan")
    found = rows.filter(valid_from__lte=at).order_by("-valid_from", "-number").first()
    return found or rows.earliest("number")


def renewal_terms(subscription: Subscription) -> PlanVersion:
    """The terms by which the period after the current one is paid."""
    plan = subscription.next_plan or subscription.plan
    return terms(plan, at=subscription.period_end - TERMS_AHEAD)


def price_for(version: PlanVersion, customer_id: UUID) -> int:
    """What this customer pays for a period, in micro-RUB."""
    if version.member_price_micro_rub is None:
        return version.price_micro_rub
    is_member = OrganisationMember.objects.filter(pk=customer_id).exists()
    return version.member_price_micro_rub if is_member else version.price_micro_rub


def packs() -> list[Pack]:
    return list(Pack.objects.filter(is_offered=True).order_by("amount_micro_rub"))


def going(customer_id: UUID) -> Subscription | None:
    """The customer's subscription that has not ended by its row; its period may be over by the clock."""
    rows = Subscription.objects.going().select_related("plan", "next_plan")
    return rows.filter(customer_id=customer_id).first()


def following(subscription: Subscription, *, at: datetime) -> tuple[datetime, datetime]:
    """The bounds of the first period after the current one that is not over at `at`.

    What passed unpaid is neither given nor charged; the anchor stays, so the days of the months do.
    """
    length = renewal_terms(subscription).period_months
    months = periods.months_until(subscription.anchor, length, at, first=subscription.anchor_months)
    return (
        periods.boundary(subscription.anchor, months),
        periods.boundary(subscription.anchor, months + length),
    )


def standing(subscription: Subscription, *, at: datetime) -> Standing:
    """How a subscription stands at `at`, also before beat has moved a period that is over."""
    ahead = paid_ahead(subscription)
    state = subscription.state
    if state == Subscription.State.ACTIVE and subscription.period_end <= at and ahead is None:
        is_automatic = subscription.renewal == Subscription.Renewal.AUTOMATIC
        waits = is_automatic and not subscription.cancel_at_period_end
        ended = (
            Subscription.State.CANCELED if subscription.cancel_at_period_end else Subscription.State.EXPIRED
        )
        state = Subscription.State.PAST_DUE if waits else ended
    return Standing(
        subscription=subscription,
        state=str(state),
        paid_until=ahead.ends_at if ahead is not None else subscription.period_end,
        is_paid_ahead=ahead is not None,
        next_price_micro_rub=price_for(renewal_terms(subscription), subscription.customer_id),
        next_period_start=following(subscription, at=at)[0],
    )


def current_period(customer_id: UUID, *, at: datetime) -> SubscriptionPeriod | None:
    """The paid period that `at` falls into."""
    rows = SubscriptionPeriod.objects.filter(customer_id=customer_id, starts_at__lte=at, ends_at__gt=at)
    return rows.select_related("version").order_by("-starts_at").first()


def paid_ahead(subscription: Subscription) -> SubscriptionPeriod | None:
    """The period after the current one, when it is paid already."""
    return subscription.periods.filter(starts_at=subscription.period_end).first()


def lots_to_roll_over() -> Q:
    """A condition on lots: grants of periods that are not closed yet. Named in the setting LOTS_THAT_WAIT."""
    periods = SubscriptionPeriod.objects.filter(
        customer_id=OuterRef("customer_id"), ends_at=OuterRef("expires_at"), closed_at=None
    )
    return Q(Exists(periods), kind=LotKind.MONTHLY)


def purchased(customer_id: UUID) -> int:
    """What is free of the money that was paid in, in micro-RUB: all that buys a plan."""
    rows = CreditLot.objects.filter(customer_id=customer_id, is_spent=False, kind=LotKind.PURCHASED)
    free = rows.aggregate(free=Sum(F("remaining_micro_rub") - F("reserved_micro_rub")))["free"]
    return int(free or 0)


def lots(period: SubscriptionPeriod, kind: LotKind) -> list[int]:
    """Ids of a period's unspent lots, the older first: of its grants (monthly), of what was carried into it.

    A customer's lots of these kinds come from plans alone and end with their period.
    """
    rows = CreditLot.objects.filter(
        customer_id=period.customer_id, is_spent=False, kind=kind, expires_at=period.ends_at
    )
    return list(rows.order_by("id").values_list("pk", flat=True))
