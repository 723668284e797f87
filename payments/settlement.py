"""The only way from what the provider says to our payment's state and to the wallet: compare, move, credit.

Webhook, return page, customer's check, operator and sweep all end here, at once or one after another; the row
lock and the ledger's key make it happen once. The provider was asked before; nothing here calls it.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from auditlog import journal
from auditlog.actors import Actor
from billing import ledger
from billing.errors import LedgerConflict
from billing.models import Account, SystemEntryType
from payments.models import Payment
from payments.shapes import RemotePayment
from payments.yookassa import PAYER_TIME
from plans import packs
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

Status = Payment.Status
# What a decision writes; `provider_payment_id` and `last_asked_at` go with every answer of the provider.
DECIDED = (
    "status",
    "provider_payment_id",
    "confirmation_url",
    "expires_at",
    "cancellation_party",
    "cancellation_reason",
    "review_reason",
    "method",
    "is_test",
    "succeeded_at",
    "last_asked_at",
    "updated_at",
)


@transaction.atomic(durable=True)
def apply(*, payment_id: UUID, remote: RemotePayment, now: datetime, actor: Actor) -> Payment:
    """Bring our payment to the state of the provider's object, which was read a moment ago.

    A success credits the wallet in the same transaction, once, also after a cancellation. Facts that differ
    from ours park the payment in review and move no money; only an operator's asking leads out of there. What
    the provider kept of a paid payment is booked with the first answer that tells it.
    """
    payment = locked(payment_id)
    if payment.provider_payment_id not in (None, remote.id):
        log.error("payment_has_second_object", payment_id=str(payment.id), object_id=remote.id)
        return payment
    payment.provider_payment_id = remote.id
    payment.last_asked_at = now
    is_parked = payment.status == Status.REVIEW and actor.kind != "operator"
    if not payment.is_paid and not is_parked:
        _decide(payment, remote, now, actor)
    if payment.is_paid:
        _book_fee(payment, remote, now)
    payment.save(update_fields=DECIDED)
    return payment


def locked(payment_id: UUID) -> Payment:
    """The payment's row, locked before the wallet. Raises Payment.DoesNotExist."""
    return Payment.objects.select_for_update(of=("self",), no_key=True).get(pk=payment_id)


def credit(payment: Payment, *, paid_at: datetime, now: datetime, actor: Actor) -> None:
    """Put the money of a locked payment on the wallet and mark it; the caller saves DECIDED."""
    was_canceled = payment.status == Status.CANCELED
    entry = ledger.topup(
        entry_id=uuid7(),
        customer_id=payment.customer_id,
        amount_micro_rub=payment.amount_micro_rub,
        payment_id=payment.id,
        effective_at=paid_at,
    )
    bonus = packs.give(
        customer_id=payment.customer_id,
        payment_id=payment.id,
        amount_micro_rub=payment.amount_micro_rub,
        now=now,
    )
    payment.status = Status.SUCCEEDED
    payment.succeeded_at = paid_at
    payment.cancellation_party = payment.cancellation_reason = payment.review_reason = ""
    payment.updated_at = now
    facts = {"entry_id": entry.entry_id, "after_cancellation": was_canceled, "bonus_micro_rub": bonus}
    _journal(payment, actor, "payments.payment.succeeded", facts)


def cancel(payment: Payment, *, party: str, reason: str, now: datetime, actor: Actor) -> None:
    """Mark a locked payment as not paid; the caller saves DECIDED. A paid or canceled one stays as it is."""
    if payment.is_paid or payment.status == Status.CANCELED:
        return
    payment.status = Status.CANCELED
    payment.cancellation_party = party[:60]
    payment.cancellation_reason = reason[:100]
    payment.review_reason = ""
    payment.updated_at = now
    _journal(payment, actor, "payments.payment.canceled", {"party": party, "reason": reason})


def differences(payment: Payment, remote: RemotePayment) -> list[str]:
    """What the provider's facts are instead of ours, in words for operators; empty when all agree."""
    compared: list[tuple[str, object, object]] = [
        ("currency", remote.currency, "RUB"),
        ("shop", remote.account_id, settings.YOOKASSA_SHOP_ID),
        ("payment_id", remote.payment_id, str(payment.id)),
        ("test", remote.is_test, not settings.PAYMENTS_LIVE),
    ]
    found = [f"{name}: {theirs!r}, not {ours!r}" for name, theirs, ours in compared if theirs != ours]
    if remote.amount_micro_rub != payment.amount_micro_rub:
        found.insert(0, f"amount: {remote.amount_text!r}, not {payment.amount_micro_rub} micro-RUB")
    return found


def _decide(payment: Payment, remote: RemotePayment, now: datetime, actor: Actor) -> None:
    payment.is_test = bool(remote.is_test)
    payment.method = (remote.method or payment.method)[:40]
    if faults := differences(payment, remote):
        _park(payment, faults, now, actor)
        return
    moves: dict[str, Callable[[Payment, RemotePayment, datetime, Actor], None]] = {
        "succeeded": _succeed,
        "canceled": _fail,
    }
    moves.get(remote.status, _wait)(payment, remote, now, actor)


def _succeed(payment: Payment, remote: RemotePayment, now: datetime, actor: Actor) -> None:
    credit(payment, paid_at=remote.captured_at or now, now=now, actor=actor)


def _book_fee(payment: Payment, remote: RemotePayment, now: datetime) -> None:
    """Book what the provider keeps of a locked paid payment, once; nothing before it tells its income.

    An income that cannot be that of this payment is logged and not booked: the customer's money is right
    without it. Source: ledger guide 3, payments guide 2.
    """
    if remote.status != "succeeded" or not remote.income_text:
        return
    income, amount = remote.income_micro_rub, payment.amount_micro_rub
    if income == amount:
        return
    if income is None or not 0 < income < amount or differences(payment, remote):
        log.error("payment_income_differs", payment_id=str(payment.id), income=remote.income_text)
        return
    try:
        ledger.book(
            entry_id=uuid7(),
            type=SystemEntryType.PROVIDER_FEE,
            debit_account=Account.PROVIDER_FEE,
            credit_account=Account.PROVIDER_CLEARING,
            amount_micro_rub=amount - income,
            key=f"fee:{payment.id}",
            source_type="payment",
            source_id=str(payment.id),
            effective_at=payment.succeeded_at or now,
        )
    except LedgerConflict:  # another fee was booked before; this asking goes on
        log.error("payment_income_differs", payment_id=str(payment.id), income=remote.income_text)


def _fail(payment: Payment, remote: RemotePayment, now: datetime, actor: Actor) -> None:
    reason = remote.cancellation_reason or "unknown"
    cancel(payment, party=remote.cancellation_party, reason=reason, now=now, actor=actor)


def _wait(payment: Payment, remote: RemotePayment, now: datetime, actor: Actor) -> None:
    """Pending, or a state that we do not know: the payer may still pay. A canceled payment stays canceled."""
    if payment.status in (Status.PENDING, Status.CANCELED):
        return
    payment.status = Status.PENDING
    payment.confirmation_url = remote.confirmation_url or payment.confirmation_url
    payment.expires_at = (remote.created_at or now) + PAYER_TIME
    payment.review_reason = ""
    payment.updated_at = now
    _journal(payment, actor, "payments.payment.pending", {"object_id": remote.id})


def _park(payment: Payment, faults: list[str], now: datetime, actor: Actor) -> None:
    reason = "; ".join(faults)[:300]
    if payment.status == Status.REVIEW and payment.review_reason == reason:
        return
    payment.status = Status.REVIEW
    payment.review_reason = reason
    payment.updated_at = now
    log.error("payment_differs", payment_id=str(payment.id), differences=reason)
    _journal(payment, actor, "payments.payment.parked", {"differences": faults}, status="failed")


def _journal(
    payment: Payment, actor: Actor, action: str, data: dict[str, object], *, status: str = "ok"
) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=f"payment:{payment.id}",
        data={"amount_micro_rub": payment.amount_micro_rub, **data},
        status=status,
        target_user_id=payment.customer_id,
    )
