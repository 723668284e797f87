"""The customer API of plans: what is offered, one's own subscription, promo codes, the bucket of images."""

from dataclasses import replace
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from ninja import Router, Status

from accounts.credentials import Credential
from accounts.requests import actor_of
from plans import campaigns, queries, quota, subscriptions
from plans.models import Subscription
from plans.schemas import (
    ActivateIn,
    CancelIn,
    ChangeIn,
    Input,
    PlansOut,
    QuotaOut,
    RedeemIn,
    RedemptionOut,
    RenewalIn,
    RenewIn,
    SubscriptionOut,
    pack_out,
    plan_out,
    subscription_out,
)
from plans.subscriptions import Asked, Asking
from plyrum import clock, idempotency
from plyrum.clock import rfc3339

SCHEMA_VERSION = 1
CREATED = HTTPStatus.CREATED.value
# Where every field may be left out, the body may be.
NO_WISHES, NO_FIELDS = RenewIn(), CancelIn()

router = Router(tags=["plans"])


@router.get("/plans", response=PlansOut, auth=None, summary="Plans and packs on offer")
def list_plans(request: HttpRequest, response: HttpResponse) -> PlansOut:
    """Open to everybody. The cheapest first."""
    response["X-Schema-Version"] = str(SCHEMA_VERSION)
    now = clock.now()
    return PlansOut(
        items=[plan_out(version) for version in queries.offered(at=now)],
        packs=[pack_out(pack) for pack in queries.packs()],
    )


@router.get("/subscription", response=SubscriptionOut, summary="Own subscription")
def show_subscription(request: HttpRequest) -> SubscriptionOut:
    """The one that goes on; null when there is none. `state` is by the clock."""
    found = queries.going(_caller(request).user_id)
    return _shown(found) if found is not None else SubscriptionOut(subscription=None)


@router.post("/subscription/activate", response={201: SubscriptionOut}, summary="Buy a plan")
def activate(request: HttpRequest, response: HttpResponse, data: ActivateIn) -> Status[SubscriptionOut]:
    """Takes the price from purchased money and gives the period's grant at once.

    `Idempotency-Key` (header or `idempotency_key`): a repeat answers how the subscription stands now, with
    `Idempotent-Replayed: true`. 402 `insufficient_balance`, `reserved_in_flight` or `debt_outstanding`, 403
    `spending_blocked`, 404 `plan_not_found`, 409 `already_subscribed`, `price_changed`. A refusal takes
    nothing, and its key stays free.
    """
    asked = subscriptions.activate(
        customer_id=_caller(request).user_id,
        plan_code=data.plan,
        renewal=Subscription.Renewal(data.renewal),
        asking=_asking(request, data, data.price_micro_rub),
    )
    return Status(CREATED, _answer(response, asked))


@router.post("/subscription/renew", response=SubscriptionOut, summary="Pay the next period")
def renew(request: HttpRequest, response: HttpResponse, data: RenewIn = NO_WISHES) -> SubscriptionOut:
    """Ahead while a period runs (once), at once when the price is due. Key and refusals as for buying; 409
    `not_subscribed`, `period_paid_ahead`, `period_changed`.
    """
    asking = replace(_asking(request, data, data.price_micro_rub), period_start=data.period_start)
    return _answer(response, subscriptions.renew(customer_id=_caller(request).user_id, asking=asking))


@router.post("/subscription/change", response=SubscriptionOut, summary="Take another plan")
def change(request: HttpRequest, response: HttpResponse, data: ChangeIn) -> SubscriptionOut:
    """A dearer plan begins at once: its price, grant and images for the rest of the period, less those of the
    old one. Any other begins with the next period. Key and refusals as for buying; 409 `plan_unchanged`,
    `subscription_not_paid`.
    """
    asked = subscriptions.change(
        customer_id=_caller(request).user_id,
        plan_code=data.plan,
        asking=_asking(request, data, data.price_micro_rub),
    )
    return _answer(response, asked)


@router.post("/subscription/renewal", response=SubscriptionOut, summary="Renew by hand or automatically")
def choose_renewal(request: HttpRequest, response: HttpResponse, data: RenewalIn) -> SubscriptionOut:
    """Counts from the next period on. A repeated key answers how the subscription stands now."""
    asked = subscriptions.choose_renewal(
        customer_id=_caller(request).user_id,
        renewal=Subscription.Renewal(data.renewal),
        asking=_asking(request, data),
    )
    return _answer(response, asked)


@router.post("/subscription/cancel", response=SubscriptionOut, summary="Cancel at the end of the period")
def cancel(request: HttpRequest, response: HttpResponse, data: CancelIn = NO_FIELDS) -> SubscriptionOut:
    """What is paid stays usable until `paid_until`. One that waits for money ends at once.

    A repeated key answers how the subscription stands now.
    """
    asking = _asking(request, data)
    return _answer(response, subscriptions.cancel(customer_id=_caller(request).user_id, asking=asking))


@router.post("/subscription/resume", response=SubscriptionOut, summary="Take a cancellation back")
def resume(request: HttpRequest, response: HttpResponse, data: CancelIn = NO_FIELDS) -> SubscriptionOut:
    """While the period runs; afterwards 409 `not_subscribed`.

    A repeated key answers how the subscription stands now.
    """
    asking = _asking(request, data)
    return _answer(response, subscriptions.resume(customer_id=_caller(request).user_id, asking=asking))


@router.post("/promo/redeem", response={201: RedemptionOut}, summary="Redeem a promo code")
def redeem(request: HttpRequest, response: HttpResponse, data: RedeemIn) -> Status[RedemptionOut]:
    """Once for each customer: 409 `promo_code_used`. 404 `promo_code_unknown`, 409 `promo_code_over`, 429
    after too many codes that are none, 403 `own_wallet` for operators. Letter case,
    spaces and dashes do not matter.

    `Idempotency-Key` (header or `idempotency_key`): a repeat answers what the code gave, with
    `Idempotent-Replayed: true`. A refusal gives nothing, and its key stays free.
    """
    redeemed = campaigns.redeem(
        customer_id=_caller(request).user_id,
        code=data.code,
        key=idempotency.key_of(request, data.idempotency_key),
        now=clock.now(),
        actor=actor_of(request),
    )
    if redeemed.is_replay:
        response["Idempotent-Replayed"] = "true"
    given = redeemed.redemption
    return Status(
        CREATED,
        RedemptionOut(amount_micro_rub=given.amount_micro_rub, expires_at=rfc3339(given.expires_at)),
    )


@router.get("/quota", response=QuotaOut, summary="Images left, roughly")
def show_quota(request: HttpRequest) -> QuotaOut:
    """In steps of 20 per cent: 81 to 100 is 100, and so on; 0 is none."""
    period = queries.current_period(_caller(request).user_id, at=clock.now())
    return QuotaOut(
        bucket=quota.bucket(period),  # type: ignore[arg-type]
        renews_at=rfc3339(period.ends_at) if period is not None else None,
    )


def _caller(request: HttpRequest) -> Credential:
    found: Credential = request.credential  # type: ignore[attr-defined]
    return found


def _answer(response: HttpResponse, asked: Asked) -> SubscriptionOut:
    if asked.is_replay:
        response["Idempotent-Replayed"] = "true"
    return _shown(asked.subscription)


def _shown(found: Subscription) -> SubscriptionOut:
    return subscription_out(queries.standing(found, at=clock.now()))


def _asking(request: HttpRequest, data: Input, price_micro_rub: int | None = None) -> Asking:
    return Asking(
        key=idempotency.key_of(request, data.idempotency_key),
        now=clock.now(),
        actor=actor_of(request),
        price_micro_rub=price_micro_rub,
    )
