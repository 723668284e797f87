"""The wallet's page: what is there, what it consists of, and the statement."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.credentials import is_superaccount
from accounts.models import User
from accounts.requests import actor_of
from billing import alerts, exports, limits, policies, queries, request_rates, statement
from billing.errors import ExportTooLarge
from billing.limit_forms import OwnLimitsForm
from billing.limit_models import Window
from billing.models import EntryType, LotKind
from billing.money import from_rub
from billing.shapes import MOST_MICRO_RUB, LotView
from billing.statement import Line
from billing.templatetags.money import money
from plyrum import clock, downloads, paging
from plyrum.errors import InvalidRequest, TooManyRequests

log = structlog.get_logger(__name__)

FORECAST_DAYS = 7
ENTRIES_ON_PAGE = 20
SPACES = str.maketrans("", "", " \u00a0\u202f\u2009")


class SignedInRequest(HttpRequest):
    """What login_required lets through."""

    user: User


@never_cache
@login_required
@require_safe
def wallet(request: SignedInRequest) -> HttpResponse:
    """The customer's own wallet; `type` and `cursor` choose the part of the statement."""
    return _page(request)


@never_cache
@login_required
@require_POST
def set_limits(request: SignedInRequest) -> HttpResponse:
    """Make what the form says the customer's own limits; what is wrong comes back on the page."""
    form = OwnLimitsForm(request.POST)
    if not form.is_valid():
        return _page(request, form=form, status=422)
    wanted = form.wanted()
    limits.set_own(customer_id=request.user.id, limits=wanted, now=clock.now(), actor=actor_of(request))
    messages.success(request, _said(wanted))
    return redirect(reverse("wallet") + "#limits")


def _said(wanted: dict[Window, int]) -> str:
    if not wanted:
        return _("Лимитов больше нет.")
    named = {
        Window.REQUEST: _("%(amount)s на запрос"),
        Window.HOUR: _("%(amount)s в час"),
        Window.DAY: _("%(amount)s в день"),
        Window.MONTH: _("%(amount)s в месяц"),
    }
    parts = [named[window] % {"amount": money(amount)} for window, amount in wanted.items()]
    return _("Лимиты сохранены: %(limits)s.") % {"limits": ", ".join(parts)}


@never_cache
@login_required
@require_POST
def set_alert(request: SignedInRequest) -> HttpResponse:
    """`below_rub`: whole roubles, nothing to have no letter."""
    text = request.POST.get("below_rub", "").translate(SPACES)
    most = MOST_MICRO_RUB // from_rub(1)
    if text and not (
        text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most
    ):
        error = _("Укажите сумму целым числом рублей или оставьте поле пустым.")
        return _page(request, typed=text, alert_error=error, status=422)
    micro_rub = from_rub(int(text)) if text else None
    alerts.set_threshold(
        customer_id=request.user.id, micro_rub=micro_rub, now=clock.now(), actor=actor_of(request)
    )
    messages.success(request, _("Предупредим письмом.") if text else _("Письма об остатке отключены."))
    return redirect("wallet")


def _page(
    request: SignedInRequest,
    *,
    form: OwnLimitsForm | None = None,
    typed: str | None = None,
    alert_error: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page with the customer's own limits and sum for a letter, or with what was typed and is wrong."""
    customer_id = request.user.id
    cursor = request.GET.get("cursor") or None
    entry_type = request.GET.get("type") or None
    if entry_type is not None and entry_type not in EntryType.values:
        return redirect("wallet")
    try:
        entries, next_cursor = _entries(customer_id, entry_type, cursor)
    except InvalidRequest:  # a cut or foreign cursor
        return redirect(_address(type=entry_type))
    balance = queries.balance(customer_id, now=clock.now(), unlimited=is_superaccount(customer_id))
    below = alerts.threshold(customer_id)
    context = {
        "balance": balance,
        "days_left": _days_left(customer_id, balance.balance_micro_rub),
        "alert": {
            "below_rub": _in_rub(below) if typed is None else typed,
            "below_micro_rub": below,
            "error": alert_error,
        },
        "lots": [_lot(lot) for lot in balance.lots],
        "form": form or OwnLimitsForm(initial=OwnLimitsForm.typed(limits.own(customer_id))),
        **_limits(customer_id),
        "entries": entries,
        "types": [{"value": value, "label": str(label)} for value, label in statement.LABELS.items()],
        "filters": {"type": entry_type or ""},
        "first_url": _address(type=entry_type) if cursor else "",
        "next_url": _address(type=entry_type, cursor=next_cursor) if next_cursor else "",
        "exports": downloads.links(reverse("export_wallet"), _given(type=entry_type)),
    }
    return render(request, "billing/wallet.html", context, status=status)


@never_cache
@login_required
@require_safe
def export_wallet(request: SignedInRequest) -> HttpResponseBase:
    """The statement as a file: `format`, and `type` as on the page."""
    entry_type = request.GET.get("type") or None
    form = downloads.form_of(request.GET.get("format", ""))
    if form is None or (entry_type is not None and entry_type not in EntryType.values):
        return redirect("wallet")
    try:
        request_rates.admit(request.user.id, now=clock.now())
        found = exports.ledger(
            customer_id=request.user.id,
            form=form,
            locale=get_language() or "ru",
            actor=actor_of(request),
            type=entry_type,
        )
    except (ExportTooLarge, TooManyRequests) as error:
        messages.error(request, exports.refused(error))
        return redirect(_address(type=entry_type))
    return downloads.answer(found, form)


def _limits(customer_id: UUID) -> dict[str, Any]:
    """{meters, spending_blocked, debt_micro_rub}: what bounds spending, how much of it is used."""
    now = clock.now()
    policy = policies.of(customer_id, now=now)
    labels = {
        ("user", Window.HOUR): _("За час"),
        ("user", Window.DAY): _("За день"),
        ("user", Window.MONTH): _("За месяц"),
        ("organisation", Window.HOUR): _("Организация за час"),
        ("organisation", Window.DAY): _("Организация за день"),
        ("organisation", Window.MONTH): _("Организация за месяц"),
        ("gift", Window.HOUR): _("Подарки за час"),
        ("gift", Window.DAY): _("Подарки за день"),
        ("gift", Window.MONTH): _("Подарки за месяц"),
    }
    meters = [
        {
            "label": labels[meter.limit.kind, meter.limit.window],
            "used_micro_rub": meter.used_micro_rub,
            "limit_micro_rub": meter.limit.limit_micro_rub,
            "percent": min(100, meter.used_micro_rub * 100 // max(1, meter.limit.limit_micro_rub)),
            "resets_at": meter.resets_at,
            "lifted": meter.limit.is_lifted,
        }
        for meter in policies.meters(policy, now=now)
        if meter.resets_at is not None
    ]
    return {
        "meters": meters,
        "spending_blocked": policy.is_blocked,
        "debt_micro_rub": policy.debt_micro_rub,
    }


def _in_rub(below: int | None) -> str:
    """The customer's sum for a letter in whole roubles, rounded up."""
    return str(-(-below // from_rub(1))) if below else ""


def _entries(
    customer_id: UUID, entry_type: str | None, cursor: str | None
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """One page of the statement, None while it cannot be read, and the cursor of the next."""
    try:
        page = paging.follow(
            queries.statement(customer_id, type=entry_type), cursor, size=ENTRIES_ON_PAGE, key="seq"
        )
        return [_line(line) for line in statement.lines(page.rows)], page.next_cursor
    except OperationalError:
        log.exception("statement_unreadable", customer_id=str(customer_id))
        return None, None


def _days_left(customer_id: UUID, spendable: int) -> int | None:
    """For how long the money lasts if it goes as in the last seven whole days; None without any spending."""
    today = clock.day_of(clock.now())
    rows = queries.usage_summary(
        customer_id,
        group_by="day",
        since=clock.start_of(today - timedelta(days=FORECAST_DAYS)),
        until=clock.start_of(today),
    )
    spent = sum(row["cost_micro_rub"] for row in rows)
    return spendable * FORECAST_DAYS // spent if spent else None


def _line(line: Line) -> dict[str, Any]:
    entry = line.entry
    return {
        "id": entry.id,
        "created_at": entry.created_at,
        "type": entry.type,
        "label": line.label,
        "description": ", ".join(line.models),
        "amount_micro_rub": entry.signed_micro_rub,
        "balance_after_micro_rub": entry.balance_after_micro_rub,
        "url": _url(line),
    }


def _url(line: Line) -> str:
    """The page of what moved the money, by name, for it belongs to an app above; "" when there is none."""
    if line.run_id:
        return reverse("run_why", args=[line.run_id])
    is_payment = line.entry.source_type == "payment"
    return reverse("payment", args=[line.entry.source_id]) if is_payment else ""


def _lot(lot: LotView) -> dict[str, Any]:
    words = {
        LotKind.PURCHASED: _("Пополнение"),
        LotKind.BONUS: _("Бонус"),
        LotKind.MONTHLY: _("Начисление по тарифу"),
        LotKind.ROLLOVER: _("Перенос с прошлого месяца"),
    }
    return {
        "label": words[LotKind(lot.kind)],
        "remaining_micro_rub": lot.remaining_micro_rub,
        "expires_at": lot.expires_at,
        "created_at": lot.created_at,
    }


def _given(**query: str | None) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}


def _address(**query: str | None) -> str:
    given = _given(**query)
    return reverse("wallet") + (f"?{urlencode(given)}" if given else "")
