"""The usage page: where the money goes, by day and line by line."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import DatabaseError
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import api_keys
from accounts.models import User
from accounts.requests import actor_of
from billing import exports, request_rates
from billing import queries as money_queries
from billing.errors import ExportTooLarge
from billing.models import UsageEvent
from billing.templatetags.money import money
from orchestration import catalogue, daily
from plyrum import clock, downloads, paging
from plyrum.errors import InvalidRequest, TooManyRequests

log = structlog.get_logger(__name__)

PAGE_ROWS = 20
CHART_DAYS = 30
MOST_CHART_DAYS = 366


class Narrowed(TypedDict):
    model: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class Filters:
    """What was asked for: days of Moscow, both included. `error` says what was wrong with it."""

    first: date | None
    last: date | None
    model: str
    error: str

    def query(self) -> dict[str, str]:
        """The same filters as parameters of an address."""
        found = {"from": _iso(self.first), "to": _iso(self.last), "model": self.model}
        return {name: value for name, value in found.items() if value}

    def narrowed(self) -> Narrowed:
        """The same filters for a query of usage rows."""
        return {
            "model": self.model or None,
            "since": clock.start_of(self.first) if self.first else None,
            "until": clock.start_of(self.last + timedelta(days=1)) if self.last else None,
        }


@never_cache
@login_required
@require_safe
def usage(request: HttpRequest) -> HttpResponse:
    """The customer's charges; `from`, `to`, `model` and `cursor` choose which."""
    filters = _filters(request)
    try:
        context = _context(_customer(request), filters, request.GET.get("cursor") or None)
    except InvalidRequest:  # a cut or foreign cursor
        return redirect(_address(filters))
    except DatabaseError as error:
        log.warning("usage_not_read", error=type(error).__name__)
        context = {"rows": None, "models": []}
    typed = {name: request.GET.get(name, "") for name in ("from", "to", "model")}
    shown = typed if filters.error else {"from": "", "to": "", "model": "", **filters.query()}
    context |= {"filters": shown, "error": filters.error}
    return render(request, "orchestration/usage.html", context, status=422 if filters.error else 200)


@never_cache
@login_required
@require_safe
def export_usage(request: HttpRequest) -> HttpResponseBase:
    """The customer's charges as a file: `format`, and the filters of the page."""
    filters = _filters(request)
    form = downloads.form_of(request.GET.get("format", ""))
    if filters.error or form is None:
        return redirect(_address(filters))
    try:
        request_rates.admit(_customer(request).id, now=clock.now())
        found = exports.usage(
            customer_id=_customer(request).id, form=form, actor=actor_of(request), **filters.narrowed()
        )
    except (ExportTooLarge, TooManyRequests) as error:
        messages.error(request, exports.refused(error))
        return redirect(_address(filters))
    return downloads.answer(found, form)


def _context(user: User, filters: Filters, cursor: str | None) -> dict[str, Any]:
    rows = money_queries.usage(user.id, **filters.narrowed())
    page = paging.follow(rows, cursor, size=PAGE_ROWS, key="id")
    days = _days(user.id, filters)
    labels = {offer.id: offer.label for offer in catalogue.refresh().offers.values()}
    keys = api_keys.names(row.api_key_id for row in page.rows)
    used = money_queries.usage(user.id).order_by("model").values_list("model", flat=True).distinct()
    return {
        "models": [{"value": model, "label": labels.get(model, model)} for model in used],
        "days": days,
        "summary": _summary(days),
        "total": _total(rows),
        "rows": [_row(row, labels, keys) for row in page.rows],
        "exports": downloads.links(reverse("export_usage"), filters.query()),
        "first_url": _address(filters) if cursor else "",
        "next_url": _address(filters, cursor=page.next_cursor) if page.next_cursor else "",
    }


def _days(customer_id: UUID, filters: Filters) -> list[dict[str, Any]]:
    last = min(filters.last or timezone.localdate(), timezone.localdate())
    first = max(
        filters.first or last - timedelta(days=CHART_DAYS - 1), last - timedelta(days=MOST_CHART_DAYS - 1)
    )
    if first > last:
        return []
    return daily.days(customer_id, first=first, last=last, model=filters.model or None)


def _summary(days: list[dict[str, Any]]) -> str:
    if not days:
        return ""
    total = sum(day["cost_micro_rub"] for day in days)
    most = max(days, key=lambda day: int(day["cost_micro_rub"]))
    facts = {
        "sum": money(total),
        "most": money(most["cost_micro_rub"]),
        "day": date_format(most["date"], "j E Y"),
    }
    return _("За эти дни %(sum)s, больше всего %(day)s: %(most)s") % facts


def _total(rows: QuerySet[UsageEvent]) -> dict[str, int]:
    sums = rows.aggregate(
        cost_micro_rub=Sum("charged_micro_rub"),
        input_tokens=Sum("input_tokens"),
        output_tokens=Sum("output_tokens"),
        runs=Count("run_id", distinct=True),
    )
    return {name: int(value or 0) for name, value in sums.items()}


def _row(row: UsageEvent, labels: dict[str, str], keys: dict[UUID, str]) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "created_at": row.created_at,
        "model": labels.get(row.model, row.model),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_micro_rub": row.charged_micro_rub,
        "estimated": row.estimated,
        "key": keys.get(row.api_key_id, "") if row.api_key_id else "",
    }


def _filters(request: HttpRequest) -> Filters:
    model = request.GET.get("model", "")[:100].replace("\0", "")
    try:
        first, last = _day(request.GET.get("from", "")), _day(request.GET.get("to", ""))
    except ValueError:
        return Filters(None, None, model, _("Введите дату в виде ГГГГ-ММ-ДД."))
    if first is not None and last is not None and first > last:
        return Filters(None, None, model, _("Начало позже конца. Поменяйте даты местами."))
    return Filters(first, last, model, "")


def _day(text: str) -> date | None:
    """Raises ValueError for what is not a day that a calendar of the database can hold."""
    if not text:
        return None
    day = date.fromisoformat(text)
    if not 2000 <= day.year <= 9000:
        raise ValueError("far from any charge")
    return day


def _iso(day: date | None) -> str:
    return day.isoformat() if day is not None else ""


def _address(filters: Filters, **more: str) -> str:
    query = filters.query() | more
    return f"{reverse('usage')}?{urlencode(query)}" if query else reverse("usage")


def _customer(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise Http404
    return request.user
