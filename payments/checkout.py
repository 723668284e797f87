"""The checkout: the order with its acceptance becomes a row, then a payment at the provider. Never credits.

Called by the API and the site (`checkout`), and by `refresh` for payments whose create call had no answer
(`send`). Plan, call and apply are three steps; only the first and the last hold a transaction.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import orjson
import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max

from accounts.shapes import Origin
from auditlog import journal
from auditlog.actors import Actor
from billing import money
from billing.errors import IdempotencyMismatch
from billing.models import PriceVersion
from legal import acceptances, documents
from legal.errors import TermsOutdated
from legal.models import Acceptance, DocumentVersion, LegalDocument
from payments import mock, settlement, yookassa
from payments.errors import (
    AmountOutOfRange,
    OutcomeUnknown,
    PaymentsNotConfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from payments.models import Payment, Provider
from payments.shapes import NewPayment, Order
from plyrum.errors import AdapterError
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

Status = Payment.Status
# The version of what the customer was shown next to the button; raise it with the template (legal guide 12).
SCREEN = {"site": "topup-1", "api": "checkout-1"}


@dataclass(frozen=True, slots=True)
class Checkout:
    """`is_replay`: the key was seen before with the same order, this is its payment."""

    payment: Payment
    is_replay: bool


def checkout(*, customer_id: UUID, order: Order, key: str, origin: Origin, now: datetime) -> Checkout:
    """Open a payment for `order` and get its page from the provider; the same `key` returns the first one.

    `key` is the caller's idempotency key, "" without one.

    Raises PaymentsNotConfigured, AmountOutOfRange, TermsOutdated, IdempotencyMismatch; OutcomeUnknown and
    ProviderUnavailable when the payment is kept and looked after, ProviderRefused when it is over.
    """
    actor = origin.customer(customer_id)
    try:
        payment, is_new = start(
            customer_id=customer_id, order=order, key=key, origin=origin, now=now, actor=actor
        )
    except IntegrityError:  # a parallel call with the same key was first
        found = _with_key(customer_id, key, fingerprint(order))
        if found is None:
            raise
        payment, is_new = found, False
    if payment.provider_payment_id is None and payment.is_open:
        payment = send(payment_id=payment.id, now=now, actor=actor)
    return Checkout(payment, not is_new)


@transaction.atomic(durable=True)
def start(
    *, customer_id: UUID, order: Order, key: str, origin: Origin, now: datetime, actor: Actor
) -> tuple[Payment, bool]:
    """Record the acceptance and the payment with everything its create call needs; True when it is new."""
    require_configured()
    found = _with_key(customer_id, key, fingerprint(order))
    if found is not None:
        return found, False
    _require_within_limits(order.amount_rub)
    offer = offer_to_accept(customer_id, order.offer_version, locale=origin.locale, now=now)
    refund_rules = documents.current(LegalDocument.Kind.REFUND_RULES, origin.locale, at=now)
    payment_id = uuid7()
    acceptance = acceptances.record(
        user_id=customer_id,
        version=offer,
        act=Acceptance.Act.CHECKOUT,
        surface=origin.surface,
        locale=origin.locale,
        user_agent=origin.user_agent,
        now=now,
        actor=actor,
        order_id=payment_id,
    )
    payment = _row(payment_id, customer_id, order, key, origin, now, acceptance.id)
    payment.save(force_insert=True)
    _journal_start(payment, offer, refund_rules, origin, actor)
    return payment, True


def send(*, payment_id: UUID, now: datetime, actor: Actor) -> Payment:
    """Make the payment at the provider under its stored key and body, and store what came back.

    May be repeated within the key's lifetime: the provider makes one payment. Raises as `checkout`.
    """
    payment = Payment.objects.get(pk=payment_id)
    if payment.provider == Provider.MOCK:
        return mock.open_payment(payment_id=payment_id, now=now)
    try:
        remote = yookassa.create(key=payment.idempotency_key, body=payment.request_body)
    except AdapterError as failure:
        raise _unfinished(payment, failure, now, actor) from failure
    return settlement.apply(payment_id=payment_id, remote=remote, now=now, actor=actor)


def fingerprint(order: Order) -> str:
    """The same for the same order, so that one key cannot stand for two."""
    return hashlib.sha256(orjson.dumps(asdict(order), option=orjson.OPT_SORT_KEYS)).hexdigest()


def is_configured() -> bool:
    """Whether a customer can pay at all."""
    if settings.PAYMENTS_PROVIDER == Provider.YOOKASSA:
        return bool(settings.YOOKASSA_SHOP_ID and settings.YOOKASSA_SECRET_KEY)
    return bool(settings.PAYMENTS_PROVIDER == Provider.MOCK)


def require_configured() -> None:
    if not is_configured():
        raise PaymentsNotConfigured("The seller takes no payments yet.")


def offer_to_accept(
    customer_id: UUID, offer_version: int | None, *, locale: str, now: datetime
) -> DocumentVersion:
    """The text an order accepts: the one in force that the customer names, or the one accepted before.

    A caller who names no version has seen none now, so that a newer text is never accepted unseen. Raises
    TermsOutdated.
    """
    in_force = documents.current(LegalDocument.Kind.OFFER, locale, at=now)
    if offer_version is None:
        accepted = acceptances.accepted_version(customer_id)
        if accepted is not None and not acceptances.missing_for(customer_id, at=now):
            return accepted
    elif offer_version == in_force.number:
        return in_force
    raise TermsOutdated(
        "The offer has a newer version: read it and send its number as offer_version.",
        document=LegalDocument.Kind.OFFER.value,
        version=in_force.number,
        version_id=str(in_force.id),
        sha256=in_force.sha256,
    )


def _with_key(customer_id: UUID, key: str, wanted: str) -> Payment | None:
    if not key:
        return None
    found = Payment.objects.filter(customer_id=customer_id, client_key=key).first()
    if found is not None and found.fingerprint != wanted:
        raise IdempotencyMismatch("This idempotency key was used with another order.")
    return found


def _require_within_limits(amount_rub: int) -> None:
    lowest, highest = settings.PAYMENTS_MIN_TOPUP_RUB, settings.PAYMENTS_MAX_TOPUP_RUB
    if lowest <= amount_rub <= highest:
        return
    text = f"A top-up is {lowest} to {highest} roubles."
    row = {"loc": ["body", "amount_rub"], "msg": text, "type": "out_of_range"}
    raise AmountOutOfRange(text, errors=[row], min_rub=lowest, max_rub=highest)


def _row(
    payment_id: UUID,
    customer_id: UUID,
    order: Order,
    key: str,
    origin: Origin,
    now: datetime,
    acceptance_id: UUID,
) -> Payment:
    payment = Payment(
        id=payment_id,
        customer_id=customer_id,
        provider=settings.PAYMENTS_PROVIDER,
        amount_micro_rub=money.from_rub(order.amount_rub),
        client_key=key,
        fingerprint=fingerprint(order) if key else "",
        method=order.method,
        receipt_email=order.receipt_email,
        acceptance_id=acceptance_id,
        is_test=not settings.PAYMENTS_LIVE,
        created_at=now,
        updated_at=now,
    )
    if payment.provider == Provider.YOOKASSA:
        new = NewPayment(
            payment_id=payment_id,
            customer_id=customer_id,
            amount_micro_rub=payment.amount_micro_rub,
            receipt_email=order.receipt_email,
            return_url=order.return_url or return_page(payment_id),
            method=order.method,
            locale=origin.locale,
        )
        payment.request_body = yookassa.request_body(new)
    return payment


def return_page(payment_id: UUID) -> str:
    """Our page of the payment, where the provider sends the payer back to."""
    return f"{settings.YOOKASSA_RETURN_URL.rstrip('/')}/{payment_id}"


def _journal_start(
    payment: Payment, offer: DocumentVersion, refund_rules: DocumentVersion, origin: Origin, actor: Actor
) -> None:
    """What the customer was shown and agreed to, append-only. Source: legal guide 12."""
    journal.record(
        actor=actor,
        action="payments.checkout.started",
        subject=f"payment:{payment.id}",
        data={
            "amount_micro_rub": payment.amount_micro_rub,
            "currency": "RUB",
            "provider": payment.provider,
            "offer": {"number": offer.number, "sha256": offer.sha256},
            "refund_rules": {"number": refund_rules.number, "sha256": refund_rules.sha256},
            "price_version_id": PriceVersion.objects.aggregate(newest=Max("id"))["newest"],
            "screen": SCREEN.get(origin.surface, ""),
            "locale": origin.locale,
        },
        target_user_id=payment.customer_id,
    )


def _unfinished(
    payment: Payment, failure: AdapterError, now: datetime, actor: Actor
) -> OutcomeUnknown | ProviderUnavailable | ProviderRefused:
    """Store what a failed create call means and answer the error to raise."""
    log.warning("payment_create_failed", payment_id=str(payment.id), failure=failure.detail)
    if failure.outcome_unknown:
        Payment.objects.filter(pk=payment.pk, status=Status.CREATED, provider_payment_id__isnull=True).update(
            status=Status.UNKNOWN, last_asked_at=now, updated_at=now
        )
    if failure.outcome_unknown or payment.status == Status.UNKNOWN:
        return OutcomeUnknown(
            "The provider has not confirmed the payment yet. We are checking it; nothing is charged twice.",
            payment_id=str(payment.id),
        )
    if failure.retryable:
        Payment.objects.filter(pk=payment.pk).update(last_asked_at=now)
        return ProviderUnavailable(
            "The payment provider does not answer now. Nothing was charged; try again with the same key.",
            payment_id=str(payment.id),
        )
    _refused(payment_id=payment.id, detail=failure.detail, now=now, actor=actor)
    return ProviderRefused(
        "The payment provider refused to open the payment. Nothing was charged.", payment_id=str(payment.id)
    )


@transaction.atomic(durable=True)
def _refused(*, payment_id: UUID, detail: str, now: datetime, actor: Actor) -> None:
    """End a payment that the provider did not make; its client key is free for the next try."""
    payment = settlement.locked(payment_id)
    if payment.status != Status.CREATED or payment.provider_payment_id is not None:
        return
    settlement.cancel(payment, party="merchant", reason="provider_refused", now=now, actor=actor)
    payment.client_key = payment.fingerprint = ""
    payment.save(update_fields=[*settlement.DECIDED, "client_key", "fingerprint"])
    log.error("payment_refused_by_provider", payment_id=str(payment_id), failure=detail)
