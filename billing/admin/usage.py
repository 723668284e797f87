"""What the stages of runs consumed and cost."""

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from accounts import api_keys
from billing.admin.base import MoneyAdmin, link
from billing.models import (
    UsageEvent,
)
from billing.templatetags.money import money_exact


@admin.register(UsageEvent)
class UsageEventAdmin(MoneyAdmin):
    list_display = ["created_at", "model", "charged", "input_tokens", "output_tokens", "customer", "run"]
    list_filter = ["provider", "estimated", "created_at"]
    search_fields = ["id__exact", "run_id__exact", "customer_id__exact", "model__exact"]
    ordering = ["-id"]
    nothing_yet = _("Строка появляется за каждый ответ модели.")
    fields = [
        "id",
        "customer",
        "run",
        "model",
        "provider",
        "kind",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "images",
        "estimated",
        "cost",
        "charged",
        "price_version",
        "fx_rate",
        "ledger_entry",
        "key",
        "created_at",
    ]

    @display(description=_("По цене"), ordering="cost_micro_rub")  # type: ignore[untyped-decorator]
    def cost(self, usage: UsageEvent) -> str:
        return money_exact(usage.cost_micro_rub)

    @display(description=_("Списано"), ordering="charged_micro_rub")  # type: ignore[untyped-decorator]
    def charged(self, usage: UsageEvent) -> str:
        return money_exact(usage.charged_micro_rub)

    @display(description=_("Запуск"), ordering="run_id")  # type: ignore[untyped-decorator]
    def run(self, usage: UsageEvent) -> SafeString | str:
        return link("orchestration_run", usage.run_id)

    @display(description=_("Версия цены"))  # type: ignore[untyped-decorator]
    def price_version(self, usage: UsageEvent) -> SafeString | str:
        return link("billing_priceversion", usage.price_version_id)

    @display(description=_("Курс"))  # type: ignore[untyped-decorator]
    def fx_rate(self, usage: UsageEvent) -> SafeString | str:
        return link("billing_fxrate", usage.fx_rate_id) if usage.fx_rate_id else "-"

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def ledger_entry(self, usage: UsageEvent) -> SafeString | str:
        return link("billing_ledgerentry", usage.ledger_entry_id) if usage.ledger_entry_id else "-"

    @display(description=_("Ключ API"))  # type: ignore[untyped-decorator]
    def key(self, usage: UsageEvent) -> SafeString | str:
        if usage.api_key_id is None:
            return "-"
        name = api_keys.names([usage.api_key_id]).get(usage.api_key_id, "")
        return link("accounts_apikey", usage.api_key_id, name)
