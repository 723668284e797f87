"""What watches over money: the roots of closed days, and who wants a letter when little is left."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from billing.admin.base import MoneyAdmin
from billing.models import DailyRoot
from billing.templatetags.money import money_exact
from billing.watch_models import BalanceAlert


@admin.register(DailyRoot)
class DailyRootAdmin(MoneyAdmin):
    list_display = ["day", "digest", "wallets", "entries", "created_at"]
    list_filter = ["day"]
    ordering = ["-day"]
    nothing_yet = _("Дни закрываются каждую ночь после проверки книг.")
    fields = ["day", "digest", "wallets", "entries", "created_at"]

    @display(description=_("Корень, SHA-256"))  # type: ignore[untyped-decorator]
    def digest(self, root: DailyRoot) -> str:
        """As `daily_root` prints it, so that it can be compared with what is stored outside."""
        return bytes(root.root).hex()


@admin.register(BalanceAlert)
class BalanceAlertAdmin(MoneyAdmin):
    list_display = ["customer", "threshold", "is_low", "letters", "created_at"]
    list_filter = ["is_low"]
    search_fields = ["customer_id__exact"]
    ordering = ["-created_at", "customer_id"]
    nothing_yet = _("Клиенты просят о таких письмах на странице кошелька.")
    fields = ["customer", "threshold", "is_low", "letters", "created_at"]

    @display(description=_("Писать, когда меньше"), ordering="threshold_micro_rub")  # type: ignore[untyped-decorator]
    def threshold(self, alert: BalanceAlert) -> str:
        return "-" if alert.threshold_micro_rub is None else money_exact(alert.threshold_micro_rub)

    @display(description=_("Писем"), ordering="number")  # type: ignore[untyped-decorator]
    def letters(self, alert: BalanceAlert) -> int:
        return alert.number
