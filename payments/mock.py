"""The mock provider: no outside at all; a signed call of a test says that a payment was paid or not.

Called by `checkout` and by the webhook door. Works only while PAYMENTS_PROVIDER is mock, which a launch check
refuses in production. Moves money through the same `settlement` as the real provider.
"""

import hashlib
import hmac
from datetime import datetime
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction

from auditlog.actors import Actor
from payments import settlement
from payments.errors import (
    AmountMismatch,
    MockIsOff,
    PaymentNotFound,
    WebhookPayloadMismatch,
    WrongWebhookSecret,
)
from payments.models import Payment, Provider, WebhookEvent
from payments.queries import as_id
from payments.shapes import MockEvent
from payments.yookassa import PAYER_TIME

ACTOR = Actor.system("payments.mock")
PROCESSED, DUPLICATE = "processed", "duplicate"


def require_secret(given: str) -> None:
    """Raises MockIsOff unless the mock is in use, WrongWebhookSecret unless `given` is its secret."""
    if settings.PAYMENTS_PROVIDER != Provider.MOCK:
        raise MockIsOff("PAYMENTS_PROVIDER is not mock.")
    secret = settings.PAYMENTS_MOCK_WEBHOOK_SECRET
    if not secret or not hmac.compare_digest(secret.encode(), given.encode()):
        raise WrongWebhookSecret("The header x-plyrum-mock-webhook-secret is missing or wrong.")


@transaction.atomic(durable=True)
def open_payment(*, payment_id: UUID, now: datetime) -> Payment:
    """Make the payment "at the provider": an id of its own, and our status page as the page to pay on."""
    payment = settlement.locked(payment_id)
    if payment.status == Payment.Status.CREATED:
        payment.provider_payment_id = f"mock_{payment_id.hex}"
        payment.status = Payment.Status.PENDING
        payment.confirmation_url = f"{settings.YOOKASSA_RETURN_URL.rstrip('/')}/{payment_id}"
        payment.expires_at = now + PAYER_TIME
        payment.updated_at = now
        payment.save(update_fields=settlement.DECIDED)
    return payment


@transaction.atomic(durable=True)
def receive(*, event: MockEvent, raw_body: bytes, source_ip: str, now: datetime) -> str:
    """Store the event and do what it says, both or neither; answers "processed", "duplicate" for a repeat.

    Raises WebhookPayloadMismatch, PaymentNotFound, AmountMismatch; then nothing is stored and nothing moved.
    """
    payment = _payment(event.payment_id)
    if not _store(event, raw_body, source_ip, now):
        return DUPLICATE
    if payment is None:
        raise PaymentNotFound("There is no such payment.")
    if event.amount_micro_rub not in (None, payment.amount_micro_rub):
        raise AmountMismatch("The amount differs from the payment's.")
    if event.status == "canceled":
        settlement.cancel(payment, party="merchant", reason="canceled_by_merchant", now=now, actor=ACTOR)
    elif not payment.is_paid:
        settlement.credit(payment, paid_at=now, now=now, actor=ACTOR)
    payment.save(update_fields=settlement.DECIDED)
    return PROCESSED


def _payment(text: str) -> Payment | None:
    """The payment, locked first, so that all routes take their locks in one order."""
    wanted = as_id(text)
    rows = Payment.objects.filter(provider=Provider.MOCK, pk=wanted) if wanted else Payment.objects.none()
    return rows.select_for_update(of=("self",), no_key=True).first()


def _store(event: MockEvent, raw_body: bytes, source_ip: str, now: datetime) -> bool:
    """True when the event is new. Raises WebhookPayloadMismatch for a known id with other content."""
    facts = [event.event_id, event.payment_id, event.status, event.amount_micro_rub]
    digest = hashlib.sha256(orjson.dumps(facts)).hexdigest()
    fresh = WebhookEvent(
        provider=Provider.MOCK,
        event_key=event.event_id,
        event=f"payment.{event.status}",
        object_id=event.payment_id,
        payload_sha256=digest,
        raw_body=raw_body,
        source_ip=source_ip or None,
        received_at=now,
        processed_at=now,
        attempts=1,
        outcome=WebhookEvent.Outcome.APPLIED,
    )
    WebhookEvent.objects.bulk_create([fresh], ignore_conflicts=True)
    kept = WebhookEvent.objects.get(provider=Provider.MOCK, event_key=event.event_id)
    if kept.payload_sha256 != digest:
        raise WebhookPayloadMismatch("This event_id was received with other content.")
    return kept.pk == fresh.pk
