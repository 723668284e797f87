"""Wallets, their entries, lots and holds, and what operators asked to do with them."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Subquery, Sum
from django.db.models.expressions import OuterRef
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from auditlog.admin import table
from billing import queries, words
from billing.act_buttons import HoldActs, RequestActs, WalletActs
from billing.admin.base import MoneyAdmin, link, list_link, shown
from billing.limit_buttons import SpendingActs
from billing.models import (
    CreditLot,
    Hold,
    LedgerEntry,
    OpenHold,
    OperatorRequest,
    Wallet,
)
from billing.templatetags.money import money_exact
from plyrum import clock

# Pages of what moved the money, by name: they belong to apps above this one.
SOURCE_PAGES = {
    "payment": "payments_payment",
    "bank_line": "payments_bankline",
    "run": "orchestration_run",
    "operator": "billing_operatorrequest",
    "entry": "billing_ledgerentry",
    "lot": "billing_creditlot",
}
SOURCE_WORDS: dict[str, Promise | str] = {
    "payment": _("платёж"),
    "bank_line": _("банковская строка"),
    "run": _("запуск"),
    "operator": _("запрос оператора"),
    "entry": _("проводка"),
    "lot": _("лот"),
    "period": _("период"),
    "bonus": _("бонус"),
    "refund": _("возврат"),
    "debt": _("долг"),
}
LOTS_SHOWN = 100


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
        found = OpenHold.objects.filter(created_at__lt=clock.now() - age)
        return queryset.filter(pk__in=found.values("pk"))


@admin.register(Wallet)
class WalletAdmin(WalletActs, SpendingActs, MoneyAdmin):
    actions_detail = [
        *WalletActs.actions_detail,
        {  # type: ignore[list-item] # a button that opens a list, as unfold writes it
            "title": _("Лимиты и траты"),
            "icon": "speed",
            "items": SpendingActs.actions_detail,
        },
    ]
    list_display = ["customer_id", "customer", "balance", "held", "seq", "created_at"]
    search_fields = ["customer_id__exact"]
    ordering = ["-customer_id"]
    nothing_yet = _("Кошелёк появляется у каждого клиента при регистрации.")
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
        rows = [
            (
                link("billing_creditlot", lot.pk),
                lot.get_kind_display(),
                money_exact(lot.remaining_micro_rub),
                money_exact(lot.reserved_micro_rub),
                shown(lot.expires_at),
            )
            for lot in queries.open_lots(wallet.customer_id)[:LOTS_SHOWN]
        ]
        if not rows:
            return "-"
        return table(
            _("Лоты в порядке трат"), [_("Лот"), _("Вид"), _("Осталось"), _("В резерве"), _("До")], rows
        )

    @display(description=_("Проводки"))  # type: ignore[untyped-decorator]
    def entries(self, wallet: Wallet) -> SafeString:
        return list_link("billing_ledgerentry", gettext("Все проводки кошелька"), q=str(wallet.customer_id))

    @display(description=_("Резервы"))  # type: ignore[untyped-decorator]
    def holds(self, wallet: Wallet) -> SafeString:
        return list_link("billing_hold", gettext("Все резервы кошелька"), q=str(wallet.customer_id))

    @display(description=_("Запросы операторов"))  # type: ignore[untyped-decorator]
    def requests(self, wallet: Wallet) -> SafeString:
        return list_link(
            "billing_operatorrequest", gettext("Что делали операторы"), q=str(wallet.customer_id)
        )

    @display(description=_("Хеш последней проводки"))  # type: ignore[untyped-decorator]
    def head(self, wallet: Wallet) -> str:
        return bytes(wallet.head_hash).hex() or "-"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(MoneyAdmin):
    list_display = ["created_at", "type", "amount", "balance_after", "customer", "basis", "seq"]
    list_filter = ["type", "created_at"]
    search_fields = ["id__exact", "key__exact", "source_id__exact", "customer_id__exact"]
    ordering = ["-id"]
    nothing_yet = _("Проводка появляется с каждым движением денег.")
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
        words = f"{SOURCE_WORDS.get(entry.source_type, entry.source_type)} {entry.source_id}"
        return link(page, entry.source_id, words) if page else words

    @display(description=_("Основание"), ordering="source_id")  # type: ignore[untyped-decorator]
    def basis(self, entry: LedgerEntry) -> SafeString | str:
        """As `source`, without its number: a list is read across."""
        page = SOURCE_PAGES.get(entry.source_type)
        words = str(SOURCE_WORDS.get(entry.source_type, entry.source_type))
        return link(page, entry.source_id, words) if page else words

    @display(description=_("Резерв"))  # type: ignore[untyped-decorator]
    def hold(self, entry: LedgerEntry) -> SafeString | str:
        return link("billing_hold", entry.hold_id) if entry.hold_id else "-"

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
    nothing_yet = _("Лот появляется с каждым поступлением денег или бонусов.")
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
        return link("billing_ledgerentry", lot.source_entry_id)


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
    nothing_yet = _("Резерв появляется, когда начинается запуск, и закрывается с его концом.")
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
        return link("orchestration_run", hold.id)

    @display(description=_("Из лотов"))  # type: ignore[untyped-decorator]
    def shares(self, hold: Hold) -> SafeString | str:
        return _shares(hold.lot_ids, hold.lot_amounts)


@admin.register(OperatorRequest)
class OperatorRequestAdmin(RequestActs, MoneyAdmin):
    list_display = ["created_at", "condition", "kind", "amount", "customer", "reason", "maker", "checker"]
    list_filter = ["state", "kind", "created_at"]
    search_fields = ["id__exact", "customer_id__exact", "ledger_entry_id__exact", "ticket", "key__exact"]
    ordering = ["-id"]
    nothing_yet = _("Запрос появляется, когда оператор меняет деньги на странице кошелька.")
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
        return link("accounts_user", request.maker_id)

    @display(description=_("Решил"), ordering="checker_id")  # type: ignore[untyped-decorator]
    def checker(self, request: OperatorRequest) -> SafeString | str:
        return link("accounts_user", request.checker_id) if request.checker_id else "-"

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def ledger_entry(self, request: OperatorRequest) -> SafeString | str:
        return link("billing_ledgerentry", request.ledger_entry_id) if request.ledger_entry_id else "-"


def _shares(lot_ids: list[int], amounts: list[int]) -> SafeString | str:
    rows = format_html_join(
        ", ",
        "{}: {}",
        (
            (link("billing_creditlot", lot_id), money_exact(amount))
            for lot_id, amount in zip(lot_ids, amounts, strict=True)
        ),
    )
    return rows or "-"
