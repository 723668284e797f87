"""Input and output of the customer API about plans. Unknown fields are refused.

The image quota leaves only as a bucket. Source: docs/decisions/0023-quota-in-buckets.md.
"""

from typing import Annotated, Literal

from ninja import Field, Schema
from pydantic import AwareDatetime, BeforeValidator, ConfigDict, StringConstraints

from plans.models import Pack, PlanVersion
from plans.shapes import Standing
from plyrum.clock import rfc3339

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PRINTABLE)]
PlanCode = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[-a-zA-Z0-9_]+$")]
Price = Annotated[
    int | None,
    Field(strict=True, ge=0, description="The price you saw; 409 `price_changed` when it is another."),
]


def _text(value: object) -> object:
    """Pydantic would take a number for a time."""
    if not isinstance(value, str):
        raise ValueError("A time is written as text.")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_text)]


class Input(Schema):
    model_config = ConfigDict(extra="forbid")

    idempotency_key: IdempotencyKey | None = None


class ActivateIn(Input):
    plan: PlanCode
    renewal: Annotated[
        Literal["manual", "automatic"],
        Field(description="`automatic` takes the price from the wallet at the end of each period."),
    ] = "manual"
    price_micro_rub: Price = None


class RenewIn(Input):
    price_micro_rub: Price = None
    period_start: Annotated[
        Moment | None,
        Field(description="`next_period_start` as you saw it; 409 `period_changed` if another is due."),
    ] = None


class ChangeIn(Input):
    plan: PlanCode
    price_micro_rub: Annotated[
        int | None, Field(strict=True, ge=0, description="The most that an upgrade may cost now.")
    ] = None


class RenewalIn(Input):
    renewal: Literal["manual", "automatic"]


class CancelIn(Input):
    """Nothing but a key."""


class RedeemIn(Input):
    code: Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=PRINTABLE)]


class PlanOut(Schema):
    code: str
    name: str
    price_micro_rub: Annotated[int, Field(description="Of one period, paid with purchased money.")]
    member_price_micro_rub: Annotated[int | None, Field(description="For members of organisations.")]
    period_months: int
    grant_micro_rub: Annotated[int, Field(description="Comes at the start of a period, ends with it.")]
    rollover_cap_micro_rub: Annotated[int, Field(description="The most that lives on for one more period.")]
    has_images: bool


class PackOut(Schema):
    amount_micro_rub: Annotated[int, Field(description="A top-up of exactly this sum ...")]
    bonus_micro_rub: Annotated[int, Field(description="... brings this bonus.")]
    bonus_days: int | None


class PlansOut(Schema):
    items: list[PlanOut]
    packs: list[PackOut]


class SubscriptionBody(Schema):
    id: str
    plan: str
    next_plan: Annotated[str | None, Field(description="The plan from the next period on, when another.")]
    state: Literal["active", "past_due", "suspended", "expired", "canceled"]
    renewal: Literal["manual", "automatic"]
    cancel_at_period_end: bool
    period_start: str
    period_end: str
    paid_until: Annotated[str, Field(description="The end of the last paid period.")]
    next_price_micro_rub: Annotated[int, Field(description="What the next period costs.")]
    next_period_start: Annotated[str, Field(description="The start of the period that a payment now buys.")]


class SubscriptionOut(Schema):
    subscription: Annotated[SubscriptionBody | None, Field(description="null: there is none now.")]


class QuotaOut(Schema):
    bucket: Annotated[
        Literal[0, 20, 40, 60, 80, 100], Field(description="Images left in this period, in per cent.")
    ]
    renews_at: Annotated[str | None, Field(description="When the running period ends; null without one.")]


class RedemptionOut(Schema):
    amount_micro_rub: int
    expires_at: str


def plan_out(version: PlanVersion) -> PlanOut:
    return PlanOut(
        code=version.plan_id,
        name=version.plan.name,
        price_micro_rub=version.price_micro_rub,
        member_price_micro_rub=version.member_price_micro_rub,
        period_months=version.period_months,
        grant_micro_rub=version.grant_micro_rub,
        rollover_cap_micro_rub=version.rollover_cap_micro_rub,
        has_images=version.image_quota > 0,
    )


def pack_out(pack: Pack) -> PackOut:
    return PackOut(
        amount_micro_rub=pack.amount_micro_rub,
        bonus_micro_rub=pack.bonus_micro_rub,
        bonus_days=pack.bonus_days,
    )


def subscription_out(standing: Standing) -> SubscriptionOut:
    found = standing.subscription
    body = SubscriptionBody(
        id=str(found.id),
        plan=found.plan_id,
        next_plan=found.next_plan_id,
        state=standing.state,  # type: ignore[arg-type]
        renewal=found.renewal,  # type: ignore[arg-type]
        cancel_at_period_end=found.cancel_at_period_end,
        period_start=rfc3339(found.period_start),
        period_end=rfc3339(found.period_end),
        paid_until=rfc3339(standing.paid_until),
        next_price_micro_rub=standing.next_price_micro_rub,
        next_period_start=rfc3339(standing.next_period_start),
    )
    return SubscriptionOut(subscription=body)
