"""Asking the provider about one payment: the one function behind webhook, check button, operator and sweep.

Safe to run twice, late or in parallel: what it learns goes through `settlement.apply`.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q

from auditlog import journal
from auditlog.actors import Actor
from payments import checkout, queries, settlement, yookassa
from payments.errors import CheckedTooOften, PaymentNotFound, ProviderUnavailable, RemoteNotFoundError
from payments.models import Payment, Provider
from payments.shapes import RemotePayment
from plyrum.errors import AdapterError

log = structlog.get_logger(__name__)

# A customer may ask once in so many seconds, each payment by itself (API contract 4).
CHECK_EVERY = timedelta(seconds=10)
# The create call may have run at any moment of the key's life; clocks differ by some minutes.
SEARCH_BEFORE = timedelta(minutes=10)
SEARCH_AFTER = timedelta(hours=24)
SEARCH_PAGES_AT_MOST = 200


def refresh(*, payment_id: UUID, now: datetime, actor: Actor) -> Payment:
    """Ask the provider and apply the answer; answers the payment as it is then.

    A payment whose create call had no answer is created again under its key; after the key's life it is
    looked for in the provider's list. Raises ProviderUnavailable, and as `checkout.send` while it is created.
    """
    payment = Payment.objects.get(pk=payment_id)
    if payment.provider != Provider.YOOKASSA:
        return payment
    # Before the call, so that a payment that cannot be read does not stand first in the queue for ever.
    Payment.objects.filter(pk=payment_id).update(last_asked_at=now)
    if payment.provider_payment_id is None:
        return _find_or_make(payment, now, actor)
    try:
        remote = yookassa.get(payment.provider_payment_id)
    except AdapterError as failure:
        raise _unavailable(payment, failure) from failure
    return settlement.apply(payment_id=payment_id, remote=remote, now=now, actor=actor)


def check(*, customer_id: UUID, payment_id: str | UUID, now: datetime, actor: Actor) -> Payment:
    """Ask now for the customer. Raises PaymentNotFound, CheckedTooOften, and as `refresh`."""
    payment = queries.own(customer_id, payment_id)
    due = Q(checked_at__isnull=True) | Q(checked_at__lte=now - CHECK_EVERY)
    if not Payment.objects.filter(due, pk=payment.pk).update(checked_at=now):
        raise CheckedTooOften(
            "This payment was checked less than 10 seconds ago.",
            retry_after_seconds=int(CHECK_EVERY.total_seconds()),
            limit=1,
        )
    return refresh(payment_id=payment.pk, now=now, actor=actor)


def ask_for_operator(*, payment_id: UUID, reason: str, now: datetime, actor: Actor) -> Payment:
    """Ask now for an operator; this also leads out of review when the facts agree by now.

    Raises PaymentNotFound, and as `refresh`.
    """
    _journal_asking(payment_id=payment_id, reason=reason, actor=actor)
    return refresh(payment_id=payment_id, now=now, actor=actor)


@transaction.atomic(durable=True)
def _journal_asking(*, payment_id: UUID, reason: str, actor: Actor) -> None:
    payment = Payment.objects.filter(pk=payment_id).first()
    if payment is None:
        raise PaymentNotFound("There is no such payment.")
    journal.record(
        actor=actor,
        action="payments.payment.asked",
        subject=f"payment:{payment_id}",
        data={"reason": reason, "status": payment.status},
        target_user_id=payment.customer_id,
    )


def _find_or_make(payment: Payment, now: datetime, actor: Actor) -> Payment:
    if not payment.is_open:
        return payment
    if now - payment.created_at < yookassa.KEY_LIFETIME:
        return checkout.send(payment_id=payment.pk, now=now, actor=actor)
    try:
        remote = _search(payment)
    except AdapterError as failure:
        raise _unavailable(payment, failure) from failure
    if remote is None:
        return _never_made(payment_id=payment.pk, now=now, actor=actor)
    return settlement.apply(payment_id=payment.pk, remote=remote, now=now, actor=actor)


def _search(payment: Payment) -> RemotePayment | None:
    """The provider's payment that names ours in its metadata; the list has no filter for it.

    Raises AdapterError, also when the list does not end: an unfinished search is no proof.
    """
    since, until = payment.created_at - SEARCH_BEFORE, payment.created_at + SEARCH_AFTER
    cursor = ""
    for _page in range(SEARCH_PAGES_AT_MOST):
        page = yookassa.listed(since=since, until=until, cursor=cursor)
        for remote in page.items:
            if remote.payment_id == str(payment.pk):
                return remote
        cursor = page.next_cursor
        if not cursor:
            return None
    raise AdapterError(yookassa.NAME, "the list does not end", retryable=True)


@transaction.atomic(durable=True)
def _never_made(*, payment_id: UUID, now: datetime, actor: Actor) -> Payment:
    """End a payment that the provider does not have. Should it appear after all, its success is credited."""
    payment = settlement.locked(payment_id)
    if payment.provider_payment_id is None and payment.is_open:
        settlement.cancel(payment, party="merchant", reason="never_created", now=now, actor=actor)
        payment.save(update_fields=settlement.DECIDED)
    return payment


def _unavailable(payment: Payment, failure: AdapterError) -> ProviderUnavailable:
    is_alarming = isinstance(failure, RemoteNotFoundError) or not failure.retryable
    write = log.error if is_alarming else log.warning
    write("payment_not_read", payment_id=str(payment.pk), failure=failure.detail)
    return ProviderUnavailable("The payment provider does not answer now. The state shown is ours.")
