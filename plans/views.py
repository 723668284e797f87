"""The plan's page: what one has, what comes next, what can be taken; and its acts."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.requests import actor_of
from billing.templatetags.money import money
from plans import campaigns, queries, quota, subscriptions, words
from plans.forms import ActForm, PromoForm
from plans.models import PlanVersion, Subscription
from plans.shapes import Standing
from plans.subscriptions import Asked, Asking
from plyrum import clock
from plyrum.errors import PlyrumError

Call = Callable[[UUID, dict[str, Any], Asking], Asked]

# The acts of the page by their name in its addresses.
ACTS: dict[str, Call] = {
    "activate": lambda customer_id, form, asking: subscriptions.activate(
        customer_id=customer_id, plan_code=form["plan"], renewal=_renewal(form), asking=asking
    ),
    "renew": lambda customer_id, _, asking: subscriptions.renew(customer_id=customer_id, asking=asking),
    "change": lambda customer_id, form, asking: subscriptions.change(
        customer_id=customer_id, plan_code=form["plan"], asking=asking
    ),
    "renewal": lambda customer_id, form, asking: subscriptions.choose_renewal(
        customer_id=customer_id, renewal=_renewal(form), asking=asking
    ),
    "cancel": lambda customer_id, _, asking: subscriptions.cancel(customer_id=customer_id, asking=asking),
    "resume": lambda customer_id, _, asking: subscriptions.resume(customer_id=customer_id, asking=asking),
}


class SignedInRequest(HttpRequest):
    """What login_required lets through."""

    user: User


@never_cache
@login_required
@require_safe
def plan(request: SignedInRequest) -> HttpResponse:
    now = clock.now()
    customer_id = request.user.id
    found = queries.going(customer_id)
    standing = queries.standing(found, at=now) if found is not None else None
    if standing is not None and standing.state in (Subscription.State.EXPIRED, Subscription.State.CANCELED):
        standing = None  # over by the clock; beat writes it down within a minute
    period = queries.current_period(customer_id, at=now)
    context = {
        "standing": standing,
        "what_then": words.what_then(standing) if standing is not None else "",
        "bucket": quota.bucket(period) if period is not None and period.image_quota else None,
        "plans": [_offered(version, standing, customer_id) for version in queries.offered(at=now)],
        "packs": queries.packs(),
        "key": uuid4(),
    }
    return render(request, "plans/plan.html", context)


@login_required
@require_POST
def act(request: SignedInRequest, name: str) -> HttpResponse:
    """One of ACTS; the answer is the page, with what happened on top."""
    if name not in ACTS:
        raise Http404
    form = ActForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Страница устарела. Проверьте и отправьте ещё раз."))
        return redirect("plan")
    data = form.cleaned_data
    asking = Asking(
        # What is asked for is part of the key: the same form sent twice is one act, a changed one another.
        key=f"site:{data['idempotency_key']}:{name}:{data['plan']}:{data['renewal']}",
        now=clock.now(),
        actor=actor_of(request),
        price_micro_rub=data["price_micro_rub"],
        period_start=data["period_start"],
    )
    try:
        ACTS[name](request.user.id, data, asking)
    except PlyrumError as error:
        messages.error(request, words.refusal(error))
    else:
        messages.success(request, str(words.DONE[name]))
    return redirect("plan")


@login_required
@require_POST
def redeem(request: SignedInRequest) -> HttpResponse:
    """Redeem a promo code; the answer is the page."""
    form = PromoForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Введите промокод."))
        return redirect("plan")
    code = form.cleaned_data["code"]
    try:
        given = campaigns.redeem(
            customer_id=request.user.id, code=code, now=clock.now(), actor=actor_of(request)
        )
    except PlyrumError as error:
        messages.error(request, words.refusal(error))
    else:
        amount = money(given.redemption.amount_micro_rub)
        messages.success(request, _("Бонус %(amount)s на балансе.") % {"amount": amount})
    return redirect("plan")


def _renewal(form: dict[str, Any]) -> Subscription.Renewal:
    return Subscription.Renewal(form["renewal"] or Subscription.Renewal.MANUAL)


def _offered(version: PlanVersion, standing: Standing | None, customer_id: UUID) -> dict[str, Any]:
    """A plan as the page shows it; `act` is what its button does, "" when it has none."""
    shown = {
        "version": version,
        "price_micro_rub": queries.price_for(version, customer_id),
        "is_current": False,
        "is_next": False,
        "act": "activate",
        "now_micro_rub": None,
    }
    if standing is None:
        return shown
    found = standing.subscription
    chosen = found.next_plan_id or found.plan_id
    shown["is_current"] = version.plan_id == found.plan_id
    shown["is_next"] = found.next_plan_id is not None and version.plan_id == chosen
    can_change = standing.state == Subscription.State.ACTIVE and not standing.is_paid_ahead
    shown["act"] = "change" if can_change and version.plan_id != chosen else ""
    if shown["act"] and subscriptions.is_upgrade(found, version):
        shown["now_micro_rub"] = subscriptions.upgrade_price(found, version, now=clock.now())
    return shown
