"""The tables of money. Written only by the database functions of `billing/sql/`, read by everybody.

One movement is one row of LedgerEntry with both sides; a system account has no balance row, its balance is
the sum of its entries. Source: docs/decisions/0002-one-row-per-movement.md.

Amounts that must not fall below zero are of the database's type `micro_rub` (see `billing/sql/`): a domain is
checked several times faster than a table's CHECK, which is compiled anew for every statement.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing import cost_models, limit_models, watch_models  # noqa: F401 - tables in files of their own
from plyrum.ids import uuid7

# The application role may read these; only the ledger's functions (as the owner) write them.
FUNCTION_ONLY_TABLES = (
    "billing_wallet",
    "billing_lot",
    "billing_hold",
    "billing_holdmark",
    "billing_ledgerentry",
    "billing_limitcounter",
)
READ_ONLY_VIEWS = ("billing_creditlot", "billing_openhold")
# Rows that are added and never changed.
PROTECTED_TABLES = (
    "billing_usageevent",
    "billing_priceversion",
    "billing_fxrate",
    "billing_vatrate",
    "billing_dailyroot",
)


class Wallet(models.Model):
    """One per customer, keyed by the customer: the lock of every money step, behind the hold it resolves.

    Its lots that are not spent lie here side by side, in spend order, so that a money step writes one row.
    """

    customer_id = models.UUIDField("клиент", primary_key=True)
    balance_micro_rub = models.BigIntegerField("остаток, мк₽", default=0)
    seq = models.BigIntegerField("номер", default=0)
    head_hash = models.BinaryField("хеш последней проводки", default=b"")
    lot_ids = ArrayField(models.BigIntegerField(), verbose_name="лоты", db_default=[])
    lot_remaining = ArrayField(models.BigIntegerField(), verbose_name="осталось в лотах", db_default=[])
    lot_reserved = ArrayField(models.BigIntegerField(), verbose_name="в резерве из лотов", db_default=[])
    lot_ends = ArrayField(models.DateTimeField(), verbose_name="концы лотов", db_default=[])
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "кошелёк"
        verbose_name_plural = "кошельки"

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.customer_id}"


class EntryType(models.TextChoices):
    TOPUP = "topup", "пополнение"
    USAGE_DEBIT = "usage_debit", "списание за ответ"
    REFUND = "refund", "возврат"
    ADMIN_ADJUSTMENT = "admin_adjustment", "корректировка"
    BONUS = "bonus", "бонус"
    PLAN_GRANT = "plan_grant", "начисление по тарифу"
    PLAN_PURCHASE = "plan_purchase", "покупка тарифа"
    ROLLOVER = "rollover", "перенос остатка"
    EXPIRY = "expiry", "сгорание"
    CHARGEBACK = "chargeback", "опротестование"
    REVERSAL = "reversal", "отмена списания"


class SystemEntryType(models.TextChoices):
    """Movements between system accounts: no customer's, never on a statement."""

    PROVIDER_FEE = "provider_fee", "комиссия платёжного сервиса"
    PAYOUT = "payout", "выплата платёжного сервиса"
    DEBT = "debt", "долг клиента"
    UNMATCHED = "unmatched", "невыясненное поступление"
    BANK_RETURN = "bank_return", "возврат плательщику"


class Account(models.TextChoices):
    """Sides of a movement. Only `wallet` has balance rows: a system balance is a sum (ledger guide 9)."""

    WALLET = "wallet", "кошелёк"
    PROVIDER_CLEARING = "provider_clearing", "деньги у платёжного сервиса"
    REVENUE = "revenue", "выручка"
    PROMO = "promo", "расходы на бонусы"
    BREAKAGE = "breakage", "сгоревшие средства"
    ADJUSTMENTS = "adjustments", "корректировки"
    PLAN_REVENUE = "plan_revenue", "выручка тарифов"
    PROVIDER_FEE = "provider_fee", "комиссии платёжного сервиса"
    BANK = "bank", "расчётный счёт"
    RECEIVABLE = "receivable", "долги клиентов"
    ROLLOVER_CLEARING = "rollover_clearing", "перенос между лотами"
    SUSPENSE = "suspense", "невыясненные поступления"


class LedgerEntry(models.Model):
    """One movement of money, immutable: debit side, credit side and a positive amount."""

    id = models.UUIDField("номер", primary_key=True)  # a charge for an answer: its hold's
    customer_id = models.UUIDField("клиент", null=True)
    seq = models.BigIntegerField("номер", null=True)  # per wallet, from 1, without gaps
    type = models.CharField("вид", max_length=20, choices=[*EntryType.choices, *SystemEntryType.choices])
    debit_account = models.CharField("дебет", max_length=20, choices=Account)
    credit_account = models.CharField("кредит", max_length=20, choices=Account)
    amount_micro_rub = models.BigIntegerField("сумма, мк₽")
    balance_after_micro_rub = models.BigIntegerField("остаток после, мк₽", null=True)
    key = models.TextField("ключ")  # the business fact, e.g. "topup:<payment>"
    source_type = models.CharField("вид основания", max_length=20)
    source_id = models.TextField("основание")
    hold_id = models.UUIDField("резерв", null=True)
    lot_ids = ArrayField(models.BigIntegerField(), verbose_name="лоты")  # a debit: the lots it took from ...
    lot_amounts = ArrayField(
        models.BigIntegerField(), verbose_name="суммы лотов"
    )  # ... and how much from each
    effective_at = models.DateTimeField("произошло")  # when it happened outside
    created_at = models.DateTimeField("создано")  # when it was written here
    hash = models.BinaryField("хеш", null=True)  # chain of the wallet, see ledger_hash()

    class Meta:
        verbose_name = "проводка"
        verbose_name_plural = "проводки"
        constraints = [
            models.UniqueConstraint(fields=["customer_id", "seq"], name="billing_entry_one_per_seq"),
            # Not of charges for answers: their key says what their id says. Not `unique=True`, which makes a
            # second index for LIKE.
            models.UniqueConstraint(
                fields=["key"], condition=Q(hold_id=None), name="billing_entry_one_per_key"
            ),
        ]
        indexes = [
            # What is asked by type, but for charges and adjustments, which come in bulk: a page of a wallet's
            # entries, what a refund or a dispute asks of it, reversals, debts (without customer or number;
            # `source_id` is the debtor). One index, because every charge weighs each.
            models.Index(
                fields=["type", "customer_id", "seq", "source_id"],
                name="billing_entry_by_type",
                condition=~Q(type__in=("usage_debit", "admin_adjustment")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_type_display()} {self.id}"

    @property
    def signed_micro_rub(self) -> int:
        """As the customer sees it: what comes in is positive."""
        return self.amount_micro_rub if self.credit_account == Account.WALLET else -self.amount_micro_rub


class LotKind(models.TextChoices):
    """In spend order: what a plan gave for a time, then paid money, bonuses last."""

    MONTHLY = "monthly", "месячные"
    ROLLOVER = "rollover", "перенесённые"
    PURCHASED = "purchased", "оплаченные"
    BONUS = "bonus", "бонусы"


class CreditLot(models.Model):
    """What one inflow left: how much of it remains and how much of that open holds reserve.

    A view: the facts of a lot are the table `billing_lot`, what remains is in the wallet's row.
    """

    customer_id = models.UUIDField("клиент")
    kind = models.CharField("вид", max_length=12, choices=LotKind)
    spend_class = models.SmallIntegerField("очередь")
    amount_micro_rub = models.BigIntegerField("сумма, мк₽")
    remaining_micro_rub = models.BigIntegerField("осталось, мк₽")
    reserved_micro_rub = models.BigIntegerField("в резерве, мк₽", default=0)
    is_spent = models.BooleanField("израсходован", default=False)
    expires_at = models.DateTimeField("действует до", null=True)
    source_entry_id = models.UUIDField("проводка", unique=True)
    created_at = models.DateTimeField("создано")

    class Meta:
        managed = False
        db_table = "billing_creditlot"
        verbose_name = "лот"
        verbose_name_plural = "лоты"

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


class Hold(models.Model):
    """Money set aside for a running request. open -> captured | released | expired, exactly once."""

    class Status(models.TextChoices):
        OPEN = "open", "открыт"
        CAPTURED = "captured", "списан"
        RELEASED = "released", "снят"
        EXPIRED = "expired", "истёк"

    id = models.UUIDField("номер", primary_key=True)  # the run's id
    customer_id = models.UUIDField("клиент")
    amount_micro_rub = models.BigIntegerField("сумма, мк₽")
    captured_micro_rub = models.BigIntegerField("списано, мк₽", default=0)
    status = models.CharField("состояние", max_length=8, choices=Status)
    lot_ids = ArrayField(models.BigIntegerField(), verbose_name="лоты")  # in spend order, decided once
    lot_amounts = ArrayField(models.BigIntegerField(), verbose_name="суммы лотов")
    counter_ids = ArrayField(models.BigIntegerField(), verbose_name="счётчики лимитов", db_default=[])
    expires_at = models.DateTimeField("действует до")
    created_at = models.DateTimeField("создано")
    resolved_at = models.DateTimeField("закрыт", null=True)

    class Meta:
        verbose_name = "резерв"
        verbose_name_plural = "резервы"

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class OpenHold(models.Model):
    """Holds that are open now, found without reading all: a view of `billing/sql/0005_open_holds.sql`."""

    id = models.UUIDField("номер", primary_key=True)
    customer_id = models.UUIDField("клиент")
    expires_at = models.DateTimeField("действует до")
    created_at = models.DateTimeField("создано")

    class Meta:
        managed = False
        db_table = "billing_openhold"
        verbose_name = "открытый резерв"
        verbose_name_plural = "открытые резервы"

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class LimitCounter(models.Model):
    """What was spent and what holds reserve in one window of one limit. A cache of holds (check V29)."""

    class Window(models.TextChoices):
        HOUR = "hour", _("час")
        DAY = "day", _("день")
        MONTH = "month", _("месяц")

    subject = models.CharField("чей", max_length=80)  # "user:<id>", "key:<id>", "plan:<id>", ...
    window = models.CharField("окно", max_length=5, choices=Window)
    window_start = models.DateTimeField("начало окна")  # in the zone of Moscow
    spent_micro_rub = models.BigIntegerField("потрачено, мк₽", default=0)
    reserved_micro_rub = models.BigIntegerField("в резерве, мк₽", default=0)
    # What the counter could reach when it last refused a request; null: it refused none.
    refused_limit_micro_rub = models.BigIntegerField("отказал при лимите, мк₽", null=True)

    class Meta:
        verbose_name = "счётчик лимита"
        verbose_name_plural = "счётчики лимитов"
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "window", "window_start"], name="billing_limitcounter_one_a_window"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.window} {self.window_start:%Y-%m-%d %H:%M}"


class OperatorRequest(models.Model):
    """What an operator asked to do with money: one row an act, done at once or after a second person's yes.

    The row is also what makes a repeated key one act. Written by `billing/acts.py` alone.
    """

    class Kind(models.TextChoices):
        ADJUSTMENT = "adjustment", _("корректировка")
        BONUS = "bonus", _("бонус")
        REVERSAL = "reversal", _("отмена списания")
        RELEASE = "release", _("снятие резерва")
        CHARGEBACK = "chargeback", _("опротестование платежа")

    class State(models.TextChoices):
        # waiting -> done | refused | expired; up to the approval limit it is done in the act that makes it
        WAITING = "waiting", _("ждёт второго человека")
        DONE = "done", _("выполнен")
        REFUSED = "refused", _("отклонён")
        EXPIRED = "expired", _("срок истёк")

    id = models.UUIDField("номер", primary_key=True, default=uuid7)
    key = models.CharField("ключ повтора", max_length=255, unique=True)
    kind = models.CharField("вид", max_length=12, choices=Kind)
    customer_id = models.UUIDField("клиент")
    # What the ledger gets: {amount_micro_rub, expires_at} (bonus), {amount_micro_rub} (adjustment, signed),
    # {charge_id, run_id, amount_micro_rub} (reversal), {hold_id, held_micro_rub} (release). A chargeback has
    # {payment_id, dispute_id} and the amount below zero.
    parameters = models.JSONField("параметры")
    reason = models.CharField("причина", max_length=300)
    ticket = models.CharField("обращение", max_length=100, default="", blank=True)
    sha256 = models.CharField("хеш", max_length=64)  # of kind, customer, parameters, reason and ticket
    maker_id = models.UUIDField("кто просил")
    created_at = models.DateTimeField("создано")
    state = models.CharField("состояние", max_length=8, choices=State, default=State.WAITING)
    checker_id = models.UUIDField("кто решил", null=True)  # null: nobody had to
    refusal_reason = models.CharField("почему отклонён", max_length=300, default="", blank=True)
    decided_at = models.DateTimeField("решено", null=True)
    ledger_entry_id = models.UUIDField("проводка", null=True)  # a release has none, a chargeback several

    class Meta:
        verbose_name = _("запрос оператора")
        verbose_name_plural = _("запросы операторов")
        constraints = [
            models.CheckConstraint(
                condition=Q(checker_id=None) | ~Q(checker_id=F("maker_id")),
                name="billing_operatorrequest_two_people",
            ),
            models.CheckConstraint(
                condition=Q(state="waiting", decided_at=None)
                | ~Q(state="waiting") & Q(decided_at__isnull=False),
                name="billing_operatorrequest_decided_once",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="billing_request_waiting", condition=Q(state="waiting")),
            models.Index(fields=["customer_id", "-id"], name="billing_request_of_customer"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"

    @property
    def amount_micro_rub(self) -> int:
        """What the wallet gets (above zero) or loses; a release moves nothing."""
        return int(self.parameters.get("amount_micro_rub", 0))


class FxRate(models.Model):
    """Micro-RUB for one unit of a currency, as published, and our spread; rows are added, never changed."""

    currency = models.CharField("валюта", max_length=3)
    micro_rub = models.BigIntegerField("мк₽ за единицу")
    spread_bp = models.IntegerField("спред, б. п.", default=0)  # what we pay for exchange, on top of the rate
    source = models.CharField("источник", max_length=40)
    rate_date = models.DateField("дата курса")
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "курс"
        verbose_name_plural = "курсы"
        constraints = [
            models.UniqueConstraint(
                fields=["currency", "rate_date", "source", "spread_bp"], name="billing_fxrate_one_a_day"
            ),
            models.CheckConstraint(condition=Q(spread_bp__gte=0), name="billing_fxrate_spread_not_negative"),
            models.CheckConstraint(condition=Q(micro_rub__gt=0), name="billing_fxrate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.rate_date}"


class VatRate(models.Model):
    """The VAT in our prices from a day on (Moscow's); rows are added by migrations, never changed."""

    valid_from = models.DateField("действует с", unique=True)
    rate_bp = models.IntegerField("ставка, б. п.")  # 2 200 is 22 %
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = _("ставка НДС")
        verbose_name_plural = _("ставки НДС")
        constraints = [
            models.CheckConstraint(
                condition=Q(rate_bp__gte=0, rate_bp__lte=10_000), name="billing_vatrate_within_the_whole"
            ),
        ]

    def __str__(self) -> str:
        return f"VAT from {self.valid_from}"


class PriceVersion(models.Model):
    """A price list row of one SKU: micro-units of its currency per million tokens (or per image)."""

    sku = models.CharField("товар", max_length=100)
    number = models.IntegerField("номер версии")
    currency = models.CharField("валюта", max_length=3)
    input = models.BigIntegerField("запрос")
    cached_input = models.BigIntegerField("запрос из кэша")
    cache_write = models.BigIntegerField("запись в кэш")
    output = models.BigIntegerField("ответ")
    image = models.BigIntegerField("картинка", default=0)
    markup_bp = models.IntegerField("наценка, б. п.")  # what the customer pays, in basis points of cost
    # The prices of the whole request when its input is longer than so many tokens; all empty without a tier.
    tier_above_tokens = models.BigIntegerField("порог длинного запроса", null=True)
    tier_input = models.BigIntegerField("длинный запрос", null=True)
    tier_cached_input = models.BigIntegerField("длинный запрос из кэша", null=True)
    tier_cache_write = models.BigIntegerField("запись длинного в кэш", null=True)
    tier_output = models.BigIntegerField("ответ на длинный запрос", null=True)
    minimum_micro_rub = models.BigIntegerField("наименьшая цена ответа, мк₽", default=0)
    is_free = models.BooleanField("бесплатно", default=False)
    valid_from = models.DateTimeField("действует с")
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "версия цены"
        verbose_name_plural = "версии цен"
        constraints = [
            models.UniqueConstraint(fields=["sku", "number"], name="billing_price_one_per_number"),
            models.CheckConstraint(
                condition=Q(is_free=True) | Q(input__gt=0, output__gt=0, markup_bp__gt=0),
                name="billing_price_sells_only_above_zero",
            ),
            models.CheckConstraint(
                condition=Q(minimum_micro_rub__gte=0), name="billing_price_minimum_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(
                    tier_above_tokens=None,
                    tier_input=None,
                    tier_cached_input=None,
                    tier_cache_write=None,
                    tier_output=None,
                )
                | Q(  # a comparison with nothing would pass, hence the second half
                    tier_above_tokens__gt=0,
                    tier_input__gt=0,
                    tier_cached_input__gte=0,
                    tier_cache_write__gte=0,
                    tier_output__gt=0,
                    tier_above_tokens__isnull=False,
                    tier_input__isnull=False,
                    tier_cached_input__isnull=False,
                    tier_cache_write__isnull=False,
                    tier_output__isnull=False,
                ),
                name="billing_price_tier_whole_and_above_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sku} v{self.number}"


class UsageEvent(models.Model):
    """What one stage of a run consumed and cost, with everything needed to compute the cost again."""

    id = models.UUIDField("номер", primary_key=True)
    customer_id = models.UUIDField("клиент")
    run_id = models.UUIDField("запуск")
    model = models.CharField("модель", max_length=100)
    provider = models.CharField("провайдер", max_length=60)
    kind = models.CharField("вид", max_length=20)
    input_tokens = models.BigIntegerField("токены запроса")
    output_tokens = models.BigIntegerField("токены ответа")
    cached_input_tokens = models.BigIntegerField("из кэша")
    cache_write_tokens = models.BigIntegerField("в кэш")
    reasoning_tokens = models.BigIntegerField("на размышление")
    images = models.IntegerField("картинки")
    cost_micro_rub = models.BigIntegerField("цена, мк₽")  # by price
    charged_micro_rub = models.BigIntegerField(
        "списано, мк₽"
    )  # what the ledger took; less only when a hold was short
    price_version_id = models.BigIntegerField("версия цены")
    fx_rate_id = models.BigIntegerField("курс", null=True)
    ledger_entry_id = models.UUIDField("проводка", null=True)
    api_key_id = models.UUIDField("ключ API", null=True)
    estimated = models.BooleanField("оценка")
    created_at = models.DateTimeField("создано")

    class Meta:
        verbose_name = "использование"
        verbose_name_plural = "использование"
        indexes = [
            models.Index(fields=["customer_id", "-id"], name="billing_usage_of_customer"),
            models.Index(fields=["customer_id", "created_at"], name="billing_usage_of_customer_time"),
            models.Index(fields=["run_id"], name="billing_usage_of_run"),
            BrinIndex(fields=["created_at"], name="billing_usage_by_time", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class DailyRoot(models.Model):
    """One hash over the heads of all wallets and all other entries at the end of a day, see ledger_root()."""

    day = models.DateField("день", primary_key=True)
    root = models.BinaryField("корень")
    wallets = models.BigIntegerField("кошельков")  # that had an entry by then
    entries = models.BigIntegerField("проводок")  # of these wallets and of none, from the first day
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = _("корень дня")
        verbose_name_plural = _("корни дней")

    def __str__(self) -> str:
        return f"root {self.day}"
