"""The tables of money. Written only by the database functions of `billing/sql/`, read by everybody.

One movement is one row of LedgerEntry with both sides; a system account has no balance row, its balance is
the sum of its entries. Source: docs/decisions/0002-one-row-per-movement.md.

Amounts that must not fall below zero are of the database's type `micro_rub` (see `billing/sql/`): a domain is
checked several times faster than a table's CHECK, which is compiled anew for every statement.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

# The application role may read these; only the ledger's functions (as the owner) write them.
FUNCTION_ONLY_TABLES = ("billing_wallet", "billing_creditlot", "billing_hold", "billing_ledgerentry")
# Rows that are added and never changed.
PROTECTED_TABLES = ("billing_usageevent", "billing_priceversion", "billing_fxrate", "billing_dailyroot")


class Wallet(models.Model):
    """One per customer, keyed by the customer. The only lock of a money step, taken first."""

    customer_id = models.UUIDField("клиент", primary_key=True)
    balance_micro_rub = models.BigIntegerField("остаток, мк₽", default=0)
    seq = models.BigIntegerField("номер", default=0)
    head_hash = models.BinaryField("хеш последней проводки", default=b"")
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "кошелёк"
        verbose_name_plural = "кошельки"

    def __str__(self) -> str:
        return f"wallet {self.customer_id}"


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


class LedgerEntry(models.Model):
    """One movement of money, immutable: debit side, credit side and a positive amount."""

    id = models.UUIDField("номер", primary_key=True)
    customer_id = models.UUIDField("клиент", null=True)
    seq = models.BigIntegerField("номер", null=True)  # per wallet, from 1, without gaps
    type = models.CharField("вид", max_length=20, choices=[*EntryType.choices, *SystemEntryType.choices])
    debit_account = models.CharField("дебет", max_length=20, choices=Account)
    credit_account = models.CharField("кредит", max_length=20, choices=Account)
    amount_micro_rub = models.BigIntegerField("сумма, мк₽")
    balance_after_micro_rub = models.BigIntegerField("остаток после, мк₽", null=True)
    key = models.TextField("ключ", unique=True)  # the business fact, e.g. "topup:<payment>"
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
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    @property
    def signed_micro_rub(self) -> int:
        """As the customer sees it: what comes in is positive."""
        return self.amount_micro_rub if self.credit_account == Account.WALLET else -self.amount_micro_rub


class LotKind(models.TextChoices):
    """In spend order: what expires goes first, paid money last."""

    MONTHLY = "monthly", "месячные"
    BONUS = "bonus", "бонусы"
    ROLLOVER = "rollover", "перенесённые"
    PURCHASED = "purchased", "оплаченные"


class CreditLot(models.Model):
    """What one inflow left: how much of it remains and how much of that open holds reserve."""

    customer_id = models.UUIDField("клиент")
    kind = models.CharField("вид", max_length=12, choices=LotKind)
    spend_class = models.SmallIntegerField("очередь")
    amount_micro_rub = models.BigIntegerField("сумма, мк₽")
    remaining_micro_rub = models.BigIntegerField("осталось, мк₽")
    reserved_micro_rub = models.BigIntegerField("в резерве, мк₽", default=0)
    is_spent = models.BooleanField(
        "израсходован", default=False
    )  # flips once, so that ordinary updates touch no index
    expires_at = models.DateTimeField("действует до", null=True)
    source_entry_id = models.UUIDField("проводка", unique=True)
    created_at = models.DateTimeField("создано")

    class Meta:
        verbose_name = "лот"
        verbose_name_plural = "лоты"
        indexes = [
            models.Index(  # in spend order
                fields=["customer_id", "spend_class", "expires_at", "id"],
                name="billing_lot_alive",
                condition=Q(is_spent=False),
            ),
            models.Index(
                fields=["expires_at"],
                name="billing_lot_due",
                condition=Q(is_spent=False, expires_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"lot {self.pk}"


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
    expires_at = models.DateTimeField("действует до")
    created_at = models.DateTimeField("создано")
    resolved_at = models.DateTimeField("закрыт", null=True)

    class Meta:
        verbose_name = "резерв"
        verbose_name_plural = "резервы"
        indexes = [
            # Not on `status`: the planner would take this index for a lookup by id among open holds.
            models.Index(fields=["expires_at"], name="billing_hold_due", condition=Q(resolved_at=None)),
        ]

    def __str__(self) -> str:
        return f"hold {self.id}"


class FxRate(models.Model):
    """Micro-RUB for one unit of a currency, as published; rows are added, never changed."""

    currency = models.CharField("валюта", max_length=3)
    micro_rub = models.BigIntegerField("мк₽ за единицу")
    source = models.CharField("источник", max_length=40)
    rate_date = models.DateField("дата курса")
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "курс"
        verbose_name_plural = "курсы"
        constraints = [
            models.UniqueConstraint(
                fields=["currency", "rate_date", "source"], name="billing_fxrate_one_a_day"
            ),
            models.CheckConstraint(condition=Q(micro_rub__gt=0), name="billing_fxrate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.rate_date}"


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
            models.Index(fields=["run_id"], name="billing_usage_of_run"),
        ]

    def __str__(self) -> str:
        return f"usage {self.id}"


class DailyRoot(models.Model):
    """One hash over the heads of all wallets at the end of a day of Moscow, see ledger_root()."""

    day = models.DateField("день", primary_key=True)
    root = models.BinaryField("корень")
    wallets = models.BigIntegerField("кошельков")  # that had an entry by then
    entries = models.BigIntegerField("проводок")  # of these wallets, from the first day
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "корень дня"
        verbose_name_plural = "корни дней"

    def __str__(self) -> str:
        return f"root {self.day}"
