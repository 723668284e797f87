"""Pages that need no engine: the front page, the overview, why a run went the way it went."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from django.contrib.auth.decorators import login_required
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.credentials import is_superaccount
from accounts.models import User
from billing import queries as money_queries
from billing.models import EntryType
from billing.shapes import Balance
from billing.templatetags.money import money
from orchestration import catalogue, daily
from orchestration.errors import RunNotFound
from orchestration.queries import run_of, runs_of
from playground import offers, queries, why
from plyrum import clock

log = structlog.get_logger(__name__)

RECENT_RUNS = 5
SPEND_DAYS = 30

Part = TypeVar("Part")


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """The front page; when the catalogue cannot be read, the rest of it stays."""
    models = _part("price_list", lambda: offers.price_list(catalogue.refresh()))
    return render(request, "playground/landing.html", {"models": models})


@never_cache
@login_required
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """The day at a glance; each part is read by itself."""
    user = _customer(request)
    balance = _part("balance", lambda: _balance(user))
    days = _part("spend", lambda: _spend(user))
    context = {
        "balance": balance,
        "runs": _part("runs", lambda: _recent_runs(user)),
        "steps": _part("steps", lambda: _steps(user)),
        "spend_days": days,
        "spend_summary": _spend_summary(days) if days else "",
    }
    return render(request, "playground/overview.html", context)


@never_cache
@login_required
@require_safe
def run_why(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """One run, explained from what was stored with it; `fragment=1` gives the panel only."""
    try:
        run = run_of(_customer(request).id, run_id)
    except RunNotFound as error:
        raise Http404 from error
    is_fragment = request.GET.get("fragment") == "1"
    context = why.explanation(run, catalogue.refresh()) | {"fragment": is_fragment}
    return render(request, "playground/run_why.html", context)


def _balance(user: User) -> Balance:
    return money_queries.balance(user.id, now=clock.now(), unlimited=is_superaccount(user.id))


def _recent_runs(user: User) -> list[dict[str, Any]]:
    runs = list(runs_of(user.id).order_by("-id")[:RECENT_RUNS])
    snapshot = catalogue.refresh()
    previews = queries.previews(user.id, [run.id for run in runs])
    return [
        {
            "id": run.id,
            "created_at": run.created_at,
            "model": offers.label(run.model, snapshot),
            "state": run.state,
            "cost_micro_rub": run.cost_micro_rub if run.finished_at else None,
            "prompt_preview": previews.get(run.id, ""),
        }
        for run in runs
    ]


def _steps(user: User) -> list[dict[str, Any]]:
    """What a new customer does first; nothing once all of it is done."""
    steps = [
        {
            "title": _("Подтвердить почту"),
            "text": _("На неё придут чеки и вход, если забудете пароль."),
            "url": reverse("account_email"),
            "done": user.email_verified,
        },
        {
            "title": _("Пополнить баланс"),
            "text": _("Картой или через СБП; остаток можно вернуть."),
            "url": reverse("topup"),
            "done": money_queries.statement(user.id, type=EntryType.TOPUP).exists(),
        },
        {
            "title": _("Задать первый вопрос"),
            "text": _("Под ответом будут модель, маршрут и цена."),
            "url": reverse("chat"),
            "done": runs_of(user.id).exists(),
        },
    ]
    return [] if all(step["done"] for step in steps) else steps


def _spend(user: User) -> list[dict[str, Any]]:
    """Thirty days up to today; nothing when nothing was spent in them."""
    today = timezone.localdate()
    return daily.days(user.id, first=today - timedelta(days=SPEND_DAYS - 1), last=today)


def _spend_summary(days: list[dict[str, Any]]) -> str:
    return _("За 30 дней — %(sum)s") % {"sum": money(sum(day["cost_micro_rub"] for day in days))}


def _part(name: str, read: Callable[[], Part]) -> Part | None:
    """A part of a page; None, and a line in the log, when the database does not answer for it."""
    try:
        return read()
    except DatabaseError as error:
        log.warning("page_part_not_read", part=name, error=type(error).__name__)
        return None


def _customer(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise Http404
    return request.user
