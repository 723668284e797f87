"""Back office of money: everything may be read, nothing can be added, changed or deleted here.

Rows of these tables come from the ledger's functions; a correction is a new entry made by an act.
"""

from datetime import date, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import BooleanField, Model, QuerySet, Subquery, Sum
from django.db.models.expressions import OuterRef
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import localize
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from auditlog.admin import ReadOnlyAdmin
from billing import prices, queries, words
from billing.act_buttons import HoldActs, RequestActs, WalletActs
from billing.models import (
    CreditLot,
    FxRate,
    Hold,
    LedgerEntry,
    OperatorRequest,
    PriceVersion,
    UsageEvent,
    Wallet,
)
from billing.templatetags.money import money_exact
from plyrum import clock

# Pages of what moved the money, by name: they belong to apps above this one.
SOURCE_PAGES = {
    "payment": "payments_payment",
    "run": "orchestration_run",
    "operator": "billing_operatorrequest",
    "entry": "billing_ledgerentry",
    "lot": "billing_creditlot",
}
LOTS_SHOWN = 100
LINK = '<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>'
CELL = '<td class="px-3 py-2">{}</td>'


# The tables' own names are for programs; these are for operators.
LABELS: dict[str, Promise | str] = {
    "id": _("Номер"),
    "customer_id": _("Кошелёк"),
    "seq": _("№ в кошельке"),
    "created_at": _("Записано"),
    "effective_at": _("Произошло"),
    "expires_at": _("До"),
    "resolved_at": _("Закрыт"),
    "valid_from": _("Действует с"),
    "rate_date": _("Дата курса"),
    "debit_account": _("Откуда"),
    "credit_account": _("Куда"),
    "key": _("Ключ"),
    "type": _("Вид"),
    "kind": _("Вид"),
    "state": _("Состояние"),
    "status": _("Состояние"),
    "spend_class": _("Очередь трат"),
    "is_spent": _("Израсходован"),
    "is_free": _("Бесплатно"),
    "model": _("Модель"),
    "provider": _("Провайдер"),
    "input_tokens": _("Вход, токенов"),
    "cached_input_tokens": _("из них из кэша"),
    "cache_write_tokens": _("из них в кэш"),
    "output_tokens": _("Выход, токенов"),
    "reasoning_tokens": _("из них рассуждения"),
    "images": _("Изображений"),
    "estimated": _("По оценке"),
    "api_key_id": _("Ключ API"),
    "sku": _("Артикул"),
    "number": _("Версия"),
    "currency": _("Валюта"),
    "source": _("Источник"),
    "reason": _("Причина"),
    "ticket": _("Обращение"),
    "decided_at": _("Решено"),
    "refusal_reason": _("Почему отклонён"),
    "sha256": _("Хеш запроса"),
}


class OlderThan(admin.SimpleListFilter):
    """Holds that are still open after this time: a run that long is rare, a forgotten hold is a fault."""

    title = _("открыт дольше")
    parameter_name = "older_than"
    AGES = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("5m", gettext("5 минут")), ("1h", gettext("часа")), ("1d", gettext("суток"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Hold]) -> QuerySet[Hold]:
        age = self.AGES.get(self.value() or "")
        if age is None:
            return queryset
        return queryset.filter(status=Hold.Status.OPEN, created_at__lt=clock.now() - age)


class MoneyAdmin(ReadOnlyAdmin):
    """Columns under their labels; the customer as a link."""

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self._labelled(name) for name in self.list_display]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [self._labelled(name) for name in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    def _labelled(self, name: str) -> Any:
        """A plain column under its label; a method of this class has its own."""
        return name if hasattr(type(self), name) else _column(self.model, name)

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, row: Any) -> SafeString | str:
        return "" if row.customer_id is None else _link("accounts_user", row.customer_id)


@admin.register(Wallet)
class WalletAdmin(WalletActs, MoneyAdmin):
    list_display = ["customer_id", "customer", "balance", "held", "seq", "created_at"]
    search_fields = ["customer_id__exact"]
    ordering = ["-customer_id"]
    fields = [
        "customer",
        "balance",
        "held",
        "lots",
        "seq",
        "entries",
        "holds",
        "requests",
        "head",
        "created_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Wallet]:
        lots = CreditLot.objects.filter(customer_id=OuterRef("customer_id"), is_spent=False).values(
            "customer_id"
        )
        rows: QuerySet[Wallet] = super().get_queryset(request)
        return rows.annotate(
            held_micro_rub=Coalesce(Subquery(lots.annotate(sum=Sum("reserved_micro_rub")).values("sum")), 0)
        )

    @display(description=_("Баланс"), ordering="balance_micro_rub")  # type: ignore[untyped-decorator]
    def balance(self, wallet: Wallet) -> str:
        return money_exact(wallet.balance_micro_rub)

    @display(description=_("В резерве"))  # type: ignore[untyped-decorator]
    def held(self, wallet: Any) -> str:
        return money_exact(int(wallet.held_micro_rub))

    @display(description=_("Лоты в порядке трат"))  # type: ignore[untyped-decorator]
    def lots(self, wallet: Wallet) -> SafeString | str:
        rows = format_html_join(
            "",
            f"<tr>{CELL * 5}</tr>",
            (
                (
                    _link("billing_creditlot", lot.pk),
                    lot.get_kind_display(),
                    money_exact(lot.remaining_micro_rub),
                    money_exact(lot.reserved_micro_rub),
                    _shown(lot.expires_at),
                )
                for lot in queries.open_lots(wallet.customer_id)[:LOTS_SHOWN]
            ),
        )
        if not rows:
            return "-"
        heads = format_html_join(
            "",
            '<th class="px-3 py-2 text-left font-semibold">{}</th>',
            ((word,) for word in (_("Лот"), _("Вид"), _("Осталось"), _("В резерве"), _("До"))),
        )
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", heads, rows)

    @display(description=_("Проводки"))  # type: ignore[untyped-decorator]
    def entries(self, wallet: Wallet) -> SafeString:
        return _list_link("billing_ledgerentry", gettext("Все проводки кошелька"), q=str(wallet.customer_id))

    @display(description=_("Резервы"))  # type: ignore[untyped-decorator]
    def holds(self, wallet: Wallet) -> SafeString:
        return _list_link("billing_hold", gettext("Все резервы кошелька"), q=str(wallet.customer_id))

    @display(description=_("Запросы операторов"))  # type: ignore[untyped-decorator]
    def requests(self, wallet: Wallet) -> SafeString:
        return _list_link(
            "billing_operatorrequest", gettext("Что делали операторы"), q=str(wallet.customer_id)
        )

    @display(description=_("Хеш последней проводки"))  # type: ignore[untyped-decorator]
    def head(self, wallet: Wallet) -> str:
        return bytes(wallet.head_hash).hex() or "-"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(MoneyAdmin):
    list_display = ["created_at", "type", "amount", "balance_after", "customer", "source", "seq", "id"]
    list_filter = ["type", "created_at"]
    search_fields = ["id__exact", "key__exact", "source_id__exact", "customer_id__exact"]
    ordering = ["-id"]
    fields = [
        "id",
        "customer",
        "seq",
        "type",
        "debit_account",
        "credit_account",
        "amount",
        "balance_after",
        "key",
        "source",
        "hold",
        "taken",
        "effective_at",
        "created_at",
        "digest",
    ]

    @display(description=_("Сумма"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, entry: LedgerEntry) -> str:
        sign = "+" if entry.signed_micro_rub > 0 else ""
        return sign + money_exact(entry.signed_micro_rub)

    @display(description=_("Остаток после"))  # type: ignore[untyped-decorator]
    def balance_after(self, entry: LedgerEntry) -> str:
        return money_exact(entry.balance_after_micro_rub)

    @display(description=_("Основание"), ordering="source_id")  # type: ignore[untyped-decorator]
    def source(self, entry: LedgerEntry) -> SafeString | str:
        page = SOURCE_PAGES.get(entry.source_type)
        words = f"{entry.source_type} {entry.source_id}"
        return _link(page, entry.source_id, words) if page else words

    @display(description=_("Резерв"))  # type: ignore[untyped-decorator]
    def hold(self, entry: LedgerEntry) -> SafeString | str:
        return _link("billing_hold", entry.hold_id) if entry.hold_id else "-"

    @display(description=_("Взято из лотов"))  # type: ignore[untyped-decorator]
    def taken(self, entry: LedgerEntry) -> SafeString | str:
        return _shares(entry.lot_ids, entry.lot_amounts)

    @display(description=_("Хеш"))  # type: ignore[untyped-decorator]
    def digest(self, entry: LedgerEntry) -> str:
        return bytes(entry.hash).hex() if entry.hash is not None else "-"


@admin.register(CreditLot)
class CreditLotAdmin(MoneyAdmin):
    list_display = ["id", "customer", "kind", "amount", "remaining", "reserved", "expires_at", "created_at"]
    list_filter = ["kind", "is_spent", "created_at"]
    search_fields = ["id__exact", "customer_id__exact", "source_entry_id__exact"]
    ordering = ["-id"]
    fields = [
        "id",
        "customer",
        "kind",
        "spend_class",
        "amount",
        "remaining",
        "reserved",
        "is_spent",
        "expires_at",
        "source_entry",
        "created_at",
    ]

    @display(description=_("Сумма"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, lot: CreditLot) -> str:
        return money_exact(lot.amount_micro_rub)

    @display(description=_("Осталось"), ordering="remaining_micro_rub")  # type: ignore[untyped-decorator]
    def remaining(self, lot: CreditLot) -> str:
        return money_exact(lot.remaining_micro_rub)

    @display(description=_("В резерве"), ordering="reserved_micro_rub")  # type: ignore[untyped-decorator]
    def reserved(self, lot: CreditLot) -> str:
        return money_exact(lot.reserved_micro_rub)

    @display(description=_("Из проводки"))  # type: ignore[untyped-decorator]
    def source_entry(self, lot: CreditLot) -> SafeString | str:
        return _link("billing_ledgerentry", lot.source_entry_id)


@admin.register(Hold)
class HoldAdmin(HoldActs, MoneyAdmin):
    list_display = [
        "created_at",
        "state",
        "amount",
        "captured",
        "customer",
        "run",
        "expires_at",
        "resolved_at",
    ]
    list_filter = ["status", OlderThan, "created_at"]
    search_fields = ["id__exact", "customer_id__exact"]
    ordering = ["-id"]
    fields = [
        "run",
        "customer",
        "status",
        "amount",
        "captured",
        "shares",
        "expires_at",
        "created_at",
        "resolved_at",
    ]

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="status",
        label={"open": "warning", "captured": "success", "released": "info", "expired": "danger"},
    )
    def state(self, hold: Hold) -> tuple[str, str]:
        return hold.status, hold.get_status_display()

    @display(description=_("Сумма"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, hold: Hold) -> str:
        return money_exact(hold.amount_micro_rub)

    @display(description=_("Списано"), ordering="captured_micro_rub")  # type: ignore[untyped-decorator]
    def captured(self, hold: Hold) -> str:
        return money_exact(hold.captured_micro_rub)

    @display(description=_("Запуск"), ordering="id")  # type: ignore[untyped-decorator]
    def run(self, hold: Hold) -> SafeString | str:
        return _link("orchestration_run", hold.id)

    @display(description=_("Из лотов"))  # type: ignore[untyped-decorator]
    def shares(self, hold: Hold) -> SafeString | str:
        return _shares(hold.lot_ids, hold.lot_amounts)


@admin.register(OperatorRequest)
class OperatorRequestAdmin(RequestActs, MoneyAdmin):
    list_display = ["created_at", "condition", "kind", "amount", "customer", "reason", "maker", "checker"]
    list_filter = ["state", "kind", "created_at"]
    search_fields = ["id__exact", "customer_id__exact", "ledger_entry_id__exact", "ticket", "key__exact"]
    ordering = ["-id"]
    fields = [
        "state",
        "kind",
        "amount",
        "end",
        "customer",
        "reason",
        "ticket",
        "maker",
        "created_at",
        "checker",
        "decided_at",
        "refusal_reason",
        "ledger_entry",
        "key",
        "sha256",
    ]

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="state",
        label={"waiting": "warning", "done": "success", "refused": "danger", "expired": "info"},
    )
    def condition(self, request: OperatorRequest) -> tuple[str, str]:
        return request.state, request.get_state_display()

    @display(description=_("Сумма"))  # type: ignore[untyped-decorator]
    def amount(self, request: OperatorRequest) -> str:
        return words.amount(request)

    @display(description=_("Действует до"))  # type: ignore[untyped-decorator]
    def end(self, request: OperatorRequest) -> str:
        return words.end(request) or "-"

    @display(description=_("Просит"), ordering="maker_id")  # type: ignore[untyped-decorator]
    def maker(self, request: OperatorRequest) -> SafeString | str:
        return _link("accounts_user", request.maker_id)

    @display(description=_("Решил"), ordering="checker_id")  # type: ignore[untyped-decorator]
    def checker(self, request: OperatorRequest) -> SafeString | str:
        return _link("accounts_user", request.checker_id) if request.checker_id else "-"

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def ledger_entry(self, request: OperatorRequest) -> SafeString | str:
        return _link("billing_ledgerentry", request.ledger_entry_id) if request.ledger_entry_id else "-"


@admin.register(UsageEvent)
class UsageEventAdmin(MoneyAdmin):
    list_display = ["created_at", "model", "charged", "input_tokens", "output_tokens", "customer", "run"]
    list_filter = ["provider", "estimated", "created_at"]
    search_fields = ["id__exact", "run_id__exact", "customer_id__exact", "model__exact"]
    ordering = ["-id"]
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
        "api_key_id",
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
        return _link("orchestration_run", usage.run_id)

    @display(description=_("Версия цены"))  # type: ignore[untyped-decorator]
    def price_version(self, usage: UsageEvent) -> SafeString | str:
        return _link("billing_priceversion", usage.price_version_id)

    @display(description=_("Курс"))  # type: ignore[untyped-decorator]
    def fx_rate(self, usage: UsageEvent) -> SafeString | str:
        return _link("billing_fxrate", usage.fx_rate_id) if usage.fx_rate_id else "-"

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def ledger_entry(self, usage: UsageEvent) -> SafeString | str:
        return _link("billing_ledgerentry", usage.ledger_entry_id) if usage.ledger_entry_id else "-"


@admin.register(PriceVersion)
class PriceVersionAdmin(MoneyAdmin):
    list_display = ["sku", "number", "currency", "input_price", "output_price", "markup", "valid_from"]
    list_filter = ["currency", "is_free", "valid_from"]
    search_fields = ["sku"]
    ordering = ["sku", "-number"]
    fields = [
        "sku",
        "number",
        "currency",
        "input_price",
        "cached_price",
        "write_price",
        "output_price",
        "image_price",
        "tier",
        "markup",
        "minimum",
        "is_free",
        "valid_from",
        "created_at",
    ]

    @display(description=_("Вход, за млн"), ordering="input")  # type: ignore[untyped-decorator]
    def input_price(self, price: PriceVersion) -> str:
        return _units(price.input, price.currency)

    @display(description=_("Вход из кэша, за млн"))  # type: ignore[untyped-decorator]
    def cached_price(self, price: PriceVersion) -> str:
        return _units(price.cached_input, price.currency)

    @display(description=_("Запись в кэш, за млн"))  # type: ignore[untyped-decorator]
    def write_price(self, price: PriceVersion) -> str:
        return _units(price.cache_write, price.currency)

    @display(description=_("За изображение"))  # type: ignore[untyped-decorator]
    def image_price(self, price: PriceVersion) -> str:
        return _units(price.image, price.currency)

    @display(description=_("Выход, за млн"), ordering="output")  # type: ignore[untyped-decorator]
    def output_price(self, price: PriceVersion) -> str:
        return _units(price.output, price.currency)

    @display(description=_("На длинный запрос"))  # type: ignore[untyped-decorator]
    def tier(self, price: PriceVersion) -> str:
        tier = prices.price_of(price, None).tier
        if tier is None:
            return "-"
        words = gettext(
            "от %(tokens)s токенов: вход %(input)s, из кэша %(cached)s, в кэш %(write)s, выход %(output)s"
        )
        return words % {
            "tokens": localize(tier.above_tokens + 1),
            "input": _units(tier.input, price.currency),
            "cached": _units(tier.cached_input, price.currency),
            "write": _units(tier.cache_write, price.currency),
            "output": _units(tier.output, price.currency),
        }

    @display(description=_("Не меньше, за ответ"))  # type: ignore[untyped-decorator]
    def minimum(self, price: PriceVersion) -> str:
        return money_exact(price.minimum_micro_rub)

    @display(description=_("Наценка"), ordering="markup_bp")  # type: ignore[untyped-decorator]
    def markup(self, price: PriceVersion) -> str:
        return f"× {localize(price.markup_bp / 10_000)}"


@admin.register(FxRate)
class FxRateAdmin(MoneyAdmin):
    list_display = ["currency", "rate_date", "rate", "spread", "source", "created_at"]
    list_filter = ["currency", "source", "rate_date"]
    search_fields = ["currency", "source"]
    ordering = ["-rate_date", "currency", "-id"]
    fields = ["currency", "rate_date", "rate", "spread", "source", "created_at"]

    @display(description=_("Рублей за единицу"), ordering="micro_rub")  # type: ignore[untyped-decorator]
    def rate(self, rate: FxRate) -> str:
        return money_exact(rate.micro_rub)

    @display(description=_("Спред"), ordering="spread_bp")  # type: ignore[untyped-decorator]
    def spread(self, rate: FxRate) -> str:
        return f"{localize(rate.spread_bp / 100)} %"


@cache
def _column(model: type[Model], name: str) -> Any:
    field = model._meta.get_field(name)

    @display(description=LABELS[name], ordering=name, boolean=isinstance(field, BooleanField))  # type: ignore[untyped-decorator]
    def column(row: Any) -> Any:
        value, in_words = getattr(row, name), getattr(row, f"get_{name}_display", None)
        if isinstance(field, BooleanField):
            return value  # shown as a sign
        return in_words() if in_words else _shown(value)

    column.__name__ = name
    return column


def _units(price: int, currency: str) -> str:
    return money_exact(price) if currency == "RUB" else f"{money_exact(price)[:-1]}{currency}"


def _shares(lot_ids: list[int], amounts: list[int]) -> SafeString | str:
    rows = format_html_join(
        ", ",
        "{}: {}",
        (
            (_link("billing_creditlot", lot_id), money_exact(amount))
            for lot_id, amount in zip(lot_ids, amounts, strict=True)
        ),
    )
    return rows or "-"


def _link(page: str, key: UUID | int | str, words: str = "") -> SafeString:
    """A link to the admin page of one row."""
    address = reverse(f"admin:{page}_change", args=[key])
    return format_html(LINK, address, words or key)


def _list_link(page: str, words: str, **query: str) -> SafeString:
    address = reverse(f"admin:{page}_changelist")
    return format_html(LINK, f"{address}?{urlencode(query)}", words)


def _shown(value: Any) -> str:
    """A value in the operator's words; times in the zone of the site."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        value = localtime(value)
    return str(localize(value)) if isinstance(value, date) else str(value)
