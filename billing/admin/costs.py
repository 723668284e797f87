"""What answers bring and cost, as a report with filters; the risk of customers."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from auditlog.admin import ReadOnlyAdmin
from billing import costs
from billing.admin.base import MoneyAdmin, link, shown
from billing.cost_models import CostDay, CustomerRisk
from billing.costs import Line
from billing.limit_buttons import SpendingActs
from billing.templatetags.money import money_exact
from plyrum import clock

DAYS_SHOWN = 30
MOST_DAYS = 366
EARLIEST = date(2020, 1, 1)  # nothing was sold before
BY: dict[str, Promise | str] = {
    "day": _("по дням"),
    "model": _("по моделям"),
    "customer_id": _("по клиентам"),
}


@admin.register(CostDay)
class CostDayAdmin(ReadOnlyAdmin):
    """One page: filters, sums, a chart, and the table of the same numbers."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """`from` and `to` (days of Moscow), `by`, `model`, `customer`; what cannot be read is not given."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "title": _("Себестоимость"), **_report(request)}
        return TemplateResponse(request, "admin/costs.html", context)


def _report(request: HttpRequest) -> dict[str, Any]:
    first, last = _days(request)
    by = request.GET.get("by", "day")
    by = by if by in BY else "day"
    model = request.GET.get("model", "")
    customer = _uuid(request.GET.get("customer", ""))
    rows: QuerySet[CostDay] = CostDay.objects.filter(day__gte=first, day__lte=last)
    models = list(rows.order_by("model").values_list("model", flat=True).distinct())
    if model:
        rows = rows.filter(model=model)
    if customer is not None:
        rows = rows.filter(customer_id=customer)
    days = costs.report(rows, "day")
    return {
        "first": first,
        "last": last,
        "by": by,
        "groups": BY.items(),
        "models": models,
        "model": model,
        "customer": str(customer or ""),
        "lines": [(_name(line, by), line) for line in costs.report(rows, by)],
        "total": Line(
            "",
            sum(line.requests for line in days),
            sum(line.revenue_micro_rub for line in days),
            sum(line.cost_micro_rub for line in days),
        ),
        "revenue_days": _bars(days, first, last, "revenue_micro_rub"),
        "cost_days": _bars(days, first, last, "cost_micro_rub"),
    }


def _days(request: HttpRequest) -> tuple[date, date]:
    today = timezone.localdate(clock.now(), timezone.get_default_timezone())
    last = _date(request.GET.get("to", "")) or today
    first = _date(request.GET.get("from", "")) or last - timedelta(days=DAYS_SHOWN - 1)
    return max(min(first, last), last - timedelta(days=MOST_DAYS)), last


def _date(text: str) -> date | None:
    try:
        found = parse_date(text)
    except ValueError:
        return None
    return found if found is not None and found >= EARLIEST else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _name(line: Line, by: str) -> str:
    if by == "customer_id":
        return link("billing_customerrisk", line.key)
    return shown(date.fromisoformat(line.key)) if by == "day" else line.key


def _bars(days: list[Line], first: date, last: date, name: str) -> list[dict[str, Any]]:
    """For the chart: every day, also one without sales; more taken back than sold shows as none."""
    known = {line.key: max(0, getattr(line, name)) for line in days}
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [{"date": day, "cost_micro_rub": known.get(day.isoformat(), 0)} for day in dates]


@admin.register(CustomerRisk)
class CustomerRiskAdmin(SpendingActs, MoneyAdmin):
    list_display = ["danger", "why", "customer", "revenue", "cost", "margin", "requests"]
    list_filter = ["level", "computed_at"]
    search_fields = ["customer_id__exact"]
    ordering = ["level", "-cost_micro_rub", "customer_id"]  # high, low, medium: the filter is what is used
    nothing_yet = _("Риск считается раз в час по расходу и движениям денег клиентов.")
    fields = [
        "customer",
        "level",
        "why",
        "requests",
        "revenue",
        "cost",
        "margin",
        "topped_up",
        "refunded",
        "computed_at",
    ]

    @display(  # type: ignore[untyped-decorator]
        description=_("Риск"),
        ordering="level",
        label={"high": "danger", "medium": "warning", "low": "success"},
    )
    def danger(self, row: CustomerRisk) -> tuple[str, str]:
        return row.level, row.get_level_display()

    @display(description=_("Почему"))  # type: ignore[untyped-decorator]
    def why(self, row: CustomerRisk) -> str:
        return ", ".join(str(CustomerRisk.Reason(reason).label) for reason in row.reasons) or "-"

    @display(description=_("Выручка"), ordering="revenue_micro_rub")  # type: ignore[untyped-decorator]
    def revenue(self, row: CustomerRisk) -> str:
        return money_exact(row.revenue_micro_rub)

    @display(description=_("Себестоимость"), ordering="cost_micro_rub")  # type: ignore[untyped-decorator]
    def cost(self, row: CustomerRisk) -> str:
        return money_exact(row.cost_micro_rub)

    @display(description=_("Маржа"))  # type: ignore[untyped-decorator]
    def margin(self, row: CustomerRisk) -> str:
        return money_exact(row.revenue_micro_rub - row.cost_micro_rub)

    @display(description=_("Пополнено"))  # type: ignore[untyped-decorator]
    def topped_up(self, row: CustomerRisk) -> str:
        return money_exact(row.topped_up_micro_rub)

    @display(description=_("Возвращено и опротестовано"))  # type: ignore[untyped-decorator]
    def refunded(self, row: CustomerRisk) -> str:
        return money_exact(row.refunded_micro_rub)
