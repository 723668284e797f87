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
PROTECTED_TABLES = ("billing_usageevent", "billing_priceversion", "billing_fxrate")


class Wallet(models.Model):
    """One per customer, keyed by the customer. The only lock of a money step, taken first."""

    customer_id = models.UUIDField(primary_key=True)
    balance_micro_rub = models.BigIntegerField(default=0)
    seq = models.BigIntegerField(default=0)
    head_hash = models.BinaryField(default=b"")
    created_at = models.DateTimeField(auto_now_add=True)

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


class Account(models.TextChoices):
    """Sides of a movement. Only `wallet` has balance rows: a system balance is a sum (ledger guide 9)."""

    WALLET = "wallet", "кошелёк"
    PROVIDER_CLEARING = "provider_clearing", "деньги у платёжного сервиса"
    REVENUE = "revenue", "выручка"
    PROMO = "promo", "расходы на бонусы"
    BREAKAGE = "breakage", "сгоревшие средства"
    ADJUSTMENTS = "adjustments", "корректировки"


class LedgerEntry(models.Model):
    """One movement of money, immutable: debit side, credit side and a positive amount."""

    id = models.UUIDField(primary_key=True)
    customer_id = models.UUIDField(null=True)
    seq = models.BigIntegerField(null=True)  # per wallet, from 1, without gaps
    type = models.CharField(max_length=20, choices=EntryType)
    debit_account = models.CharField(max_length=20, choices=Account)
    credit_account = models.CharField(max_length=20, choices=Account)
    amount_micro_rub = models.BigIntegerField()
    balance_after_micro_rub = models.BigIntegerField(null=True)
    key = models.TextField(unique=True)  # the business fact, e.g. "topup:<payment>"
    source_type = models.CharField(max_length=20)
    source_id = models.TextField()
    hold_id = models.UUIDField(null=True)
    lot_ids = ArrayField(models.BigIntegerField())  # a debit: the lots it took from ...
    lot_amounts = ArrayField(models.BigIntegerField())  # ... and how much from each
    effective_at = models.DateTimeField()  # when it happened outside
    created_at = models.DateTimeField()  # when it was written here
    hash = models.BinaryField(null=True)  # chain of the wallet, see ledger_hash()

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

    customer_id = models.UUIDField()
    kind = models.CharField(max_length=12, choices=LotKind)
    spend_class = models.SmallIntegerField()
    amount_micro_rub = models.BigIntegerField()
    remaining_micro_rub = models.BigIntegerField()
    reserved_micro_rub = models.BigIntegerField(default=0)
    is_spent = models.BooleanField(default=False)  # flips once, so that ordinary updates touch no index
    expires_at = models.DateTimeField(null=True)
    source_entry_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "лот"
        verbose_name_plural = "лоты"
        indexes = [
            models.Index(fields=["customer_id"], name="billing_lot_alive", condition=Q(is_spent=False))
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

    id = models.UUIDField(primary_key=True)  # the run's id
    customer_id = models.UUIDField()
    amount_micro_rub = models.BigIntegerField()
    captured_micro_rub = models.BigIntegerField(default=0)
    status = models.CharField(max_length=8, choices=Status)
    lot_ids = ArrayField(models.BigIntegerField())  # in spend order, decided once
    lot_amounts = ArrayField(models.BigIntegerField())
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

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

    currency = models.CharField(max_length=3)
    micro_rub = models.BigIntegerField()
    source = models.CharField(max_length=40)
    rate_date = models.DateField()
    created_at = models.DateTimeField(auto_now_add=True)

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

    sku = models.CharField(max_length=100)
    number = models.IntegerField()
    currency = models.CharField(max_length=3)
    input = models.BigIntegerField()
    cached_input = models.BigIntegerField()
    cache_write = models.BigIntegerField()
    output = models.BigIntegerField()
    image = models.BigIntegerField(default=0)
    markup_bp = models.IntegerField()  # what the customer pays, in basis points of cost
    is_free = models.BooleanField(default=False)
    valid_from = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

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

    id = models.UUIDField(primary_key=True)
    customer_id = models.UUIDField()
    run_id = models.UUIDField()
    model = models.CharField(max_length=100)
    provider = models.CharField(max_length=60)
    kind = models.CharField(max_length=20)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    images = models.IntegerField()
    cost_micro_rub = models.BigIntegerField()  # by price
    charged_micro_rub = models.BigIntegerField()  # what the ledger took; less only when a hold was short
    price_version_id = models.BigIntegerField()
    fx_rate_id = models.BigIntegerField(null=True)
    ledger_entry_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    estimated = models.BooleanField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "использование"
        verbose_name_plural = "использование"
        indexes = [
            models.Index(fields=["customer_id", "-id"], name="billing_usage_of_customer"),
            models.Index(fields=["run_id"], name="billing_usage_of_run"),
        ]

    def __str__(self) -> str:
        return f"usage {self.id}"
