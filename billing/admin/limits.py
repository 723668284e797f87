"""Limits of spending, what was lifted, whose spending is stopped, how often one may ask."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from billing.admin.base import MoneyAdmin
from billing.limit_buttons import LimitActs, RateActs
from billing.limit_models import LimitLift, RequestRate, SpendingBlock, SpendLimit
from billing.templatetags.money import money_exact


@admin.register(SpendLimit)
class SpendLimitAdmin(LimitActs, MoneyAdmin):
    list_display = ["subject", "window", "amount", "set_by", "created_at", "reason"]
    list_filter = ["set_by", "window", "created_at"]
    search_fields = ["subject__endswith"]
    ordering = ["-created_at", "-id"]
    fields = ["subject", "window", "amount", "set_by", "author_id", "reason", "created_at"]

    @display(description=_("Не больше"), ordering="limit_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, row: SpendLimit) -> str:
        return money_exact(row.limit_micro_rub)


@admin.register(LimitLift)
class LimitLiftAdmin(MoneyAdmin):
    list_display = ["subject", "window", "ends_at", "created_at", "author_id", "reason"]
    list_filter = ["window", "created_at"]
    search_fields = ["subject__endswith"]
    ordering = ["-created_at", "-id"]
    fields = ["subject", "window", "ends_at", "author_id", "reason", "created_at"]


@admin.register(SpendingBlock)
class SpendingBlockAdmin(MoneyAdmin):
    list_display = ["customer_id", "customer", "created_at", "reason", "lifted_at", "lift_reason"]
    list_filter = [("lifted_at", admin.EmptyFieldListFilter), "created_at"]
    search_fields = ["customer_id__exact"]
    ordering = ["-created_at", "-id"]
    fields = ["customer", "author_id", "reason", "created_at", "lifted_by_id", "lift_reason", "lifted_at"]


@admin.register(RequestRate)
class RequestRateAdmin(RateActs, MoneyAdmin):
    list_display = ["tier", "per_minute", "per_hour"]
    ordering = ["per_minute"]
    fields = ["tier", "per_minute", "per_hour"]
