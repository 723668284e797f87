"""The pages of API keys: all of them, one, a new one. A key is shown by the answer that made it only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import api_keys
from accounts.errors import KeyEnded, KeyNotFound, TooManyKeys
from accounts.models import ApiKey
from accounts.requests import actor_of
from billing import keys, windows
from billing.errors import IdempotencyMismatch
from billing.key_forms import KeyForm, NewKeyForm
from billing.keys import KeyView
from billing.limit_forms import typed_in_rub
from billing.limit_models import Window
from billing.views import SignedInRequest
from plyrum import clock
from plyrum.ids import uuid7

MOST_ENDED = 50  # of those that are over, the newest


@never_cache
@login_required
@require_safe
def key_list(request: SignedInRequest) -> HttpResponse:
    """Keys that work, then those that are over."""
    now = clock.now()
    own = ApiKey.objects.filter(user=request.user).order_by("-id")
    alive = ApiKey.objects.alive(now)
    ended = own.exclude(pk__in=alive.filter(user=request.user))[:MOST_ENDED]
    context = {
        "keys": _shown(keys.views(own & alive, now=now), now),
        "ended": _shown(keys.views(ended, now=now), now),
        "site_url": settings.SITE_URL,
    }
    return render(request, "billing/keys.html", context)


# Whoever found an open session may not take a key away from it (security S4).
@never_cache
@login_required
@reauthentication_required  # type: ignore[untyped-decorator]
@require_http_methods(["GET", "HEAD", "POST"])
def new_key(request: SignedInRequest) -> HttpResponse:
    """The form, and after it the key, this once: the answer of a POST that is kept nowhere."""
    if request.method != "POST":
        return _form(request, NewKeyForm(initial={"idempotency_key": uuid7()}))
    form = NewKeyForm(request.POST)
    if not form.is_valid():
        return _form(request, form, status=422)
    now = clock.now()
    try:
        issued = keys.issue(
            customer_id=request.user.id,
            wish=form.wish(),
            month_limit_micro_rub=form.cleaned_data["month_limit"],
            idempotency_key=f"site:{form.cleaned_data['idempotency_key']}",
            now=now,
            actor=actor_of(request),
        )
    except TooManyKeys:
        most = {"most": api_keys.MOST_ALIVE}
        form.add_error(None, _("Ключей уже %(most)s. Отзовите ненужный и повторите.") % most)
        return _form(request, form, status=409)
    except IdempotencyMismatch:  # the page was sent again with other fields
        messages.info(request, _("Этот ключ уже создан. Чтобы сделать другой, начните заново."))
        return redirect("keys")
    if issued.is_replay:
        messages.info(request, _("Ключ уже создан и был показан один раз. Если он потерян, отзовите его."))
        return redirect("key", issued.key.row.pk)
    (key,) = _shown([issued.key], now)
    context = {"key": key, "text": issued.text, "site_url": settings.SITE_URL}
    return render(request, "billing/key_issued.html", context)


@never_cache
@login_required
@require_safe
def key_page(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    """One key: what it may do, what it spent, its name and limit to change, its end."""
    row = _own(request, key_id)
    return _one(request, row)


@never_cache
@login_required
@require_POST
def change_key(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    row = _own(request, key_id)
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _one(request, row, form=form, status=422)
    changes = {
        "name": form.cleaned_data["name"],
        "month_limit_micro_rub": form.cleaned_data["month_limit"],
    }
    try:
        keys.change(
            customer_id=request.user.id,
            key_id=row.pk,
            changes=changes,
            now=clock.now(),
            actor=actor_of(request),
        )
    except KeyEnded:
        messages.error(request, _("Ключ отозван, изменить его нельзя."))
    else:
        messages.success(request, _("Изменения сохранены."))
    return redirect("key", row.pk)


@never_cache
@login_required
@require_POST
def revoke_key(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    row = _own(request, key_id)
    api_keys.revoke(key_id=row.pk, now=clock.now(), actor=actor_of(request))
    messages.success(request, _("Ключ «%(name)s» отозван.") % {"name": row.name})
    return redirect("keys")


def _own(request: SignedInRequest, key_id: UUID) -> ApiKey:
    try:
        return api_keys.own(request.user.id, key_id)
    except KeyNotFound as error:
        raise Http404 from error


def _form(request: HttpRequest, form: NewKeyForm, *, status: int = 200) -> HttpResponse:
    is_wide = bool(form.is_bound and any(form[name].value() for name in ("expires_on", "models", "ip_allow")))
    return render(request, "billing/key_new.html", {"form": form, "is_wide": is_wide}, status=status)


def _one(
    request: SignedInRequest, row: ApiKey, *, form: KeyForm | None = None, status: int = 200
) -> HttpResponse:
    now = clock.now()
    found = keys.view(row, now=now)
    limit = found.month_limit_micro_rub
    initial = {"name": row.name, "month_limit": typed_in_rub(limit) if limit is not None else ""}
    (key,) = _shown([found], now)
    context = {"key": key, "form": form or KeyForm(initial=initial)}
    return render(request, "billing/key.html", context, status=status)


def _shown(found: list[KeyView], now: datetime) -> list[dict[str, Any]]:
    """Keys as templates show them; the catalogue is asked once for all."""
    labels = keys.models_on_offer() if any(view.row.models for view in found) else {}
    return [_facts(view, labels, now) for view in found]


def _facts(view: KeyView, labels: dict[str, str], now: datetime) -> dict[str, Any]:
    row, spent = view.row, view.month_spent_micro_rub
    limit = view.month_limit_in_force_micro_rub
    return {
        "id": row.pk,
        "name": row.name,
        "prefix": row.prefix,
        "state": row.state(now),
        "created_at": row.created_at,
        "valid_through": row.valid_through,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
        "models": [labels.get(model, model) for model in row.models],
        "ip_allow": row.ip_allow,
        "month_limit_micro_rub": view.month_limit_micro_rub,
        "month_limit_in_force_micro_rub": limit,
        "month_spent_micro_rub": spent,
        "percent": min(100, spent * 100 // max(1, limit)) if limit is not None else 0,
        "resets_at": windows.end_of(Window.MONTH, now),
    }
