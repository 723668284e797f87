"""Tables of top-ups: the payment and the inbox of what providers tell us.

Payments change through `checkout`, `settlement` and `mock` only, inbox rows through `inbox` and `mock` only.
No row here is money: money is what `billing.ledger` wrote for it.
"""

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from payments.invoices.models import (
    PROTECTED_TABLES,
    BankDecision,
    BankLine,
    BankStatement,
    ClosingDocument,
    DocumentCounter,
    Invoice,
    Organisation,
)
from plyrum.ids import uuid7

__all__ = [
    "PROTECTED_TABLES",
    "BankDecision",
    "BankLine",
    "BankStatement",
    "ClosingDocument",
    "DocumentCounter",
    "Invoice",
    "Organisation",
    "Payment",
    "Provider",
    "WebhookEvent",
]


class Provider(models.TextChoices):
    MOCK = "mock", _("проверочный")
    YOOKASSA = "yookassa", _("ЮKassa")


class PaymentQuerySet(models.QuerySet["Payment"]):
    def owned_by(self, customer_id: uuid.UUID) -> "PaymentQuerySet":
        return self.filter(customer_id=customer_id)

    def open(self) -> "PaymentQuerySet":
        """The provider may still change them."""
        return self.filter(status__in=Payment.OPEN)

    def due_for_asking(self, now: datetime) -> "PaymentQuerySet":
        """Open payments of YooKassa that were not asked about for as long as their age allows."""
        due = Q(last_asked_at__isnull=True, created_at__lte=now - FIRST_ASKED_AFTER)
        older_than = timedelta(0)
        for younger_than, pause in ASKING_PAUSES:
            due |= Q(
                created_at__lte=now - older_than,
                created_at__gt=now - younger_than,
                last_asked_at__lte=now - pause,
            )
            older_than = younger_than
        return self.open().filter(due, provider=Provider.YOOKASSA)


# How long we stay silent about an open payment, by its age. Source: payments guide 2.5; a payment that nobody
# decided in two days is asked about daily, so that none is ever forgotten.
FIRST_ASKED_AFTER = timedelta(seconds=60)
ASKING_PAUSES = (
    (timedelta(minutes=15), timedelta(seconds=55)),
    (timedelta(hours=2), timedelta(minutes=5)),
    (timedelta(hours=48), timedelta(hours=1)),
    (timedelta(days=3650), timedelta(days=1)),
)


class Payment(models.Model):
    """One top-up.

    created -> pending -> succeeded -> partially_refunded -> refunded
       |  \\-> unknown (the create call had no answer) -> pending | succeeded | canceled
       |          pending, created -> canceled
       \\-> every unfinished state -> review (the provider's facts differ from ours; no money moved)
    Late edges: canceled -> succeeded (the provider wins), review -> any (an operator asks again).
    """

    class Status(models.TextChoices):
        CREATED = "created", _("создан")
        UNKNOWN = "unknown", _("создание уточняется")
        PENDING = "pending", _("ждёт оплаты")
        SUCCEEDED = "succeeded", _("зачислен")
        CANCELED = "canceled", _("не оплачен")
        PARTIALLY_REFUNDED = "partially_refunded", _("возвращён частично")
        REFUNDED = "refunded", _("возвращён")
        REVIEW = "review", _("на проверке")

    OPEN = (Status.CREATED, Status.UNKNOWN, Status.PENDING)
    PAID = (Status.SUCCEEDED, Status.PARTIALLY_REFUNDED, Status.REFUNDED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer_id = models.UUIDField(_("клиент"))
    provider = models.CharField(_("провайдер"), max_length=20, choices=Provider)
    # Null until the provider has answered; stored before any money moves.
    provider_payment_id = models.CharField(_("id у провайдера"), max_length=64, null=True, unique=True)  # noqa: DJ001 - unique
    status = models.CharField(_("состояние"), max_length=20, choices=Status, default=Status.CREATED)
    amount_micro_rub = models.BigIntegerField(_("сумма, мкруб"))
    # Our key towards the provider, and exactly what is sent under it: both stand before the first call.
    idempotency_key = models.UUIDField(_("ключ вызова"), unique=True, default=uuid.uuid4, editable=False)
    request_body = models.TextField(_("тело вызова"), blank=True)
    # The caller's key towards us; empty when none was sent.
    client_key = models.CharField(_("ключ клиента"), max_length=260, blank=True)
    fingerprint = models.CharField(_("отпечаток запроса"), max_length=64, blank=True)
    confirmation_url = models.TextField(_("страница оплаты"), blank=True)
    expires_at = models.DateTimeField(_("оплатить до"), null=True, blank=True)
    cancellation_party = models.CharField(_("кто отменил"), max_length=60, blank=True)
    cancellation_reason = models.CharField(_("причина отмены"), max_length=100, blank=True)
    review_reason = models.CharField(_("что не сошлось"), max_length=300, blank=True)
    method = models.CharField(_("способ"), max_length=40, blank=True)
    receipt_email = models.CharField(_("почта для чека"), max_length=254)
    acceptance_id = models.UUIDField(_("принятие оферты"))
    is_test = models.BooleanField(_("проверочный режим"), default=False)
    created_at = models.DateTimeField(_("создан"))
    updated_at = models.DateTimeField(_("изменён"))
    succeeded_at = models.DateTimeField(_("оплачен"), null=True, blank=True)
    last_asked_at = models.DateTimeField(_("провайдер спрошен"), null=True, blank=True)
    # When the customer pressed "check now"; apart from last_asked_at, which the sweep moves too.
    checked_at = models.DateTimeField(_("проверен клиентом"), null=True, blank=True)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("пополнение")
        verbose_name_plural = _("пополнения")
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gt=0), name="payments_payment_amount_is_positive"
            ),
            models.UniqueConstraint(
                fields=["customer_id", "client_key"],
                condition=~Q(client_key=""),
                name="payments_payment_one_per_client_key",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=("succeeded", "partially_refunded", "refunded"))
                | Q(provider_payment_id__isnull=False, succeeded_at__isnull=False),
                name="payments_payment_paid_is_known_outside",
            ),
        ]
        indexes = [
            models.Index(fields=["customer_id", "-id"], name="payments_payment_of_customer"),
            models.Index(
                F("last_asked_at").asc(nulls_first=True),
                name="payments_payment_open",
                condition=Q(status__in=("created", "unknown", "pending")),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    @property
    def is_paid(self) -> bool:
        return self.status in self.PAID


class WebhookEventQuerySet(models.QuerySet["WebhookEvent"]):
    def due(self, now: datetime) -> "WebhookEventQuerySet":
        """Waiting to be worked on, and their pause is over."""
        return self.filter(next_attempt_at__lte=now)


class WebhookEvent(models.Model):
    """What a provider told us, stored once before anything is done about it. It is a hint, never the truth.

    waiting (next_attempt_at set) -> processed (outcome, processed_at) | parked (no attempt left).
    Arriving again sets a row that was not applied back to waiting.
    """

    class Outcome(models.TextChoices):
        WAITING = "", _("ждёт")
        APPLIED = "applied", _("применено")
        UNCHANGED = "unchanged", _("ничего не изменило")
        FOREIGN = "foreign", _("не наш объект")
        UNHANDLED = "unhandled", _("не обрабатывается")
        PARKED = "parked", _("отложено: попытки кончились")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.CharField(_("провайдер"), max_length=20, choices=Provider)
    # YooKassa sends no event id: "<event>:<object id>". The mock sends its own.
    event_key = models.CharField(_("ключ события"), max_length=300)
    event = models.CharField(_("событие"), max_length=100)
    object_id = models.CharField(_("id объекта"), max_length=100)
    payload_sha256 = models.CharField(_("SHA-256 тела"), max_length=64)
    raw_body = models.BinaryField(_("тело"))
    source_ip = models.GenericIPAddressField(_("адрес отправителя"), null=True, blank=True)
    received_at = models.DateTimeField(_("получено"))
    processed_at = models.DateTimeField(_("обработано"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("попыток"), default=0)
    next_attempt_at = models.DateTimeField(_("следующая попытка"), null=True, blank=True)
    outcome = models.CharField(_("исход"), max_length=12, choices=Outcome, default="", blank=True)
    error = models.CharField(_("ошибка"), max_length=300, blank=True)

    objects = WebhookEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("уведомление")
        verbose_name_plural = _("уведомления")
        constraints = [
            models.UniqueConstraint(fields=["provider", "event_key"], name="payments_event_is_stored_once"),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="payments_event_due",
                condition=Q(next_attempt_at__isnull=False),
            ),
            models.Index(fields=["object_id"], name="payments_event_of_object"),
        ]

    def __str__(self) -> str:
        return self.event_key
