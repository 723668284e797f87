"""Limits of spending, what was lifted, whose spending is stopped, how often one may ask."""

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from billing.admin.base import MoneyAdmin, link
from billing.limit_buttons import LimitActs, RateActs
from billing.limit_forms import whose
from billing.limit_models import LimitLift, RequestRate, SpendingBlock, SpendLimit
from billing.templatetags.money import money_exact


class SubjectAdmin(MoneyAdmin):
    """Rows about somebody's spending, set by somebody."""

    @display(description=_("Кому"), ordering="subject")  # type: ignore[untyped-decorator]
    def whose(self, row: SpendLimit | LimitLift) -> str:
        return whose(row.subject)

    @display(description=_("Автор"), ordering="author_id")  # type: ignore[untyped-decorator]
    def author(self, row: SpendLimit | LimitLift) -> SafeString:
        return link("accounts_user", row.author_id)


@admin.register(SpendLimit)
class SpendLimitAdmin(LimitActs, SubjectAdmin):
    list_display = ["created_at", "whose", "window", "amount", "set_by", "reason"]
    list_filter = ["set_by", "window", "created_at"]
    search_fields = ["subject__endswith"]
    ordering = ["-created_at", "-id"]
    nothing_yet = _("Лимит ставит клиент в кошельке или оператор: общий здесь, личный на странице кошелька.")
    fields = ["whose", "window", "amount", "set_by", "author", "reason", "created_at"]

    @display(description=_("Не больше"), ordering="limit_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, row: SpendLimit) -> str:
        return money_exact(row.limit_micro_rub)


@admin.register(LimitLift)
class LimitLiftAdmin(SubjectAdmin):
    list_display = ["created_at", "whose", "window", "ends_at", "author", "reason"]
    list_filter = ["window", "created_at"]
    search_fields = ["subject__endswith"]
    ordering = ["-created_at", "-id"]
    nothing_yet = _("Лимит снимают на время на странице кошелька.")
    fields = ["whose", "window", "ends_at", "author", "reason", "created_at"]


@admin.register(SpendingBlock)
class SpendingBlockAdmin(MoneyAdmin):
    list_display = ["created_at", "customer", "reason", "lifted_at", "lift_reason"]
    list_filter = [("lifted_at", admin.EmptyFieldListFilter), "created_at"]
    search_fields = ["customer_id__exact"]
    ordering = ["-created_at", "-id"]
    nothing_yet = _("Траты запрещают на странице кошелька.")
    fields = ["customer", "author_id", "reason", "created_at", "lifted_by_id", "lift_reason", "lifted_at"]


@admin.register(RequestRate)
class RequestRateAdmin(RateActs, MoneyAdmin):
    list_display = ["tier", "per_minute", "per_hour"]
    ordering = ["per_minute"]
    fields = ["tier", "per_minute", "per_hour"]
