"""Back office of payments: all may be read, nothing edited; an operator can have the provider asked."""

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.people import CustomerByEmail, customer_words
from auditlog.admin import LINK, OperatorActs, ReadOnlyAdmin
from billing.templatetags.money import money
from payments import refresh, words
from payments.invoices import admin as invoices_admin
from payments.models import Payment, WebhookEvent

REASON_CHARS = 300
__all__ = ["PaymentAdmin", "WebhookEventAdmin", "invoices_admin"]  # the last registers its own pages


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    reason = forms.CharField(label=_("Причина"), max_length=REASON_CHARS, widget=UnfoldAdminTextareaWidget)


@admin.register(Payment)
class PaymentAdmin(CustomerByEmail, OperatorActs, ReadOnlyAdmin):
    list_display = ["created_at", "amount", "state", "customer", "provider", "paid_by", "provider_payment_id"]
    list_filter = ["status", "provider", "method", "is_test", "created_at"]
    search_fields = ["id__exact", "customer_id__exact", "provider_payment_id__exact", "receipt_email__exact"]
    ordering = ["-id"]
    nothing_yet = _("Пополнение появляется, когда клиент переходит к оплате.")
    fields = [
        "id",
        "customer",
        "amount",
        "status",
        "review_reason",
        "cancellation_party",
        "cancellation_reason",
        "provider",
        "provider_payment_id",
        "paid_by",
        "receipt_email",
        "is_test",
        "idempotency_key",
        "acceptance_id",
        "confirmation_url",
        "expires_at",
        "created_at",
        "updated_at",
        "succeeded_at",
        "last_asked_at",
        "checked_at",
    ]
    readonly_fields = fields
    actions_detail = ["ask_provider"]

    @display(description=_("Сумма"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, payment: Payment) -> str:
        return str(money(payment.amount_micro_rub))

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="status",
        label={
            "created": "info",
            "pending": "info",
            "unknown": "warning",
            "succeeded": "success",
            "canceled": "default",
            "partially_refunded": "default",
            "refunded": "default",
            "review": "danger",
        },
    )
    def state(self, payment: Payment) -> tuple[str, str]:
        return payment.status, payment.get_status_display()

    @display(description=_("Способ"), ordering="method")  # type: ignore[untyped-decorator]
    def paid_by(self, payment: Payment) -> str:
        return str(words.method(payment.method)) or "-"

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, payment: Payment) -> SafeString:
        address = reverse("admin:accounts_user_change", args=[payment.customer_id])
        return format_html(LINK, address, customer_words(payment, payment.customer_id))

    @action(  # type: ignore[untyped-decorator]
        description=_("Спросить ЮKassa сейчас"),
        url_path="ask",
        permissions=["act"],
        dialog={
            "title": _("Спросить ЮKassa сейчас"),
            "description": _("Если сведения ЮKassa сходятся и платёж оплачен, деньги придут на баланс."),
            "form_class": ReasonForm,
            "form_submit_text": _("Спросить"),
        },
    )
    def ask_provider(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        payment_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: refresh.ask_for_operator(
                payment_id=payment_id, reason=reason, now=now, actor=actor
            ),
            done=_("ЮKassa ответила, состояние платежа обновлено."),
            refusals=words.OPERATORS_REFUSALS,
            object_id=object_id,
        )


@admin.register(WebhookEvent)
class WebhookEventAdmin(ReadOnlyAdmin):
    list_display = ["received_at", "event", "object_id", "provider", "result", "attempts", "next_attempt_at"]
    list_filter = ["outcome", "provider", "event", "received_at"]
    search_fields = ["id__exact", "object_id__exact", "event_key__exact"]
    ordering = ["-id"]
    nothing_yet = _("Уведомление приходит от ЮKassa после каждой оплаты.")
    # The raw body may hold the payer's data: its hash is shown, the body is kept for disputes, not for long.
    fields = [
        "id",
        "provider",
        "event",
        "object_id",
        "event_key",
        "result",
        "error",
        "attempts",
        "next_attempt_at",
        "received_at",
        "processed_at",
        "source_ip",
        "payload_sha256",
    ]
    readonly_fields = fields

    @display(  # type: ignore[untyped-decorator]
        description=_("Исход"),
        ordering="outcome",
        label={
            "": "warning",
            "applied": "success",
            "unchanged": "default",
            "unhandled": "default",
            "foreign": "danger",
            "parked": "danger",
        },
    )
    def result(self, event: WebhookEvent) -> tuple[str, str]:
        return event.outcome, event.get_outcome_display()
