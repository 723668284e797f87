"""Invoices: issue, void, expire. An invoice that was issued is never changed; a new one takes its place.

Paying is `bank`'s. Called by the API, the site, the back office and the clock.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse

from accounts import notices
from accounts.shapes import Origin
from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import money, vat
from billing.errors import IdempotencyMismatch
from billing.shapes import MICRO_PER_KOPECK
from legal import acceptances
from legal.models import Acceptance
from payments import checkout
from payments.invoices import in_words, numbers, organisations, seller
from payments.invoices.errors import InvoiceAmountOutOfRange, InvoiceClosed, InvoiceNotFound
from payments.invoices.models import DocumentCounter, Invoice, Organisation
from payments.invoices.requisites import Party
from plyrum.ids import uuid7

VALID_WORKING_DAYS = 5  # Monday to Friday; holidays are not known here and only make it longer than promised
SERVICE = "Аванс за услуги сервиса Plyrum"
UNIT = "усл."
EXPIRED_AT_ONCE = 100  # invoices in one transaction of the job

Status = Invoice.Status


@dataclass(frozen=True, slots=True)
class Wish:
    """What the customer asked for; `offer_version` as in a checkout."""

    amount_rub: int
    offer_version: int | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """`is_replay`: the key was seen before with the same wish, this is its invoice."""

    invoice: Invoice
    is_replay: bool


def issue(*, customer_id: UUID, wish: Wish, key: str, origin: Origin, now: datetime) -> Issued:
    """Issue an invoice to the customer's organisation; the same `key` ("" without one) returns the first.

    Raises InvoicesNotConfigured, OrganisationRequired, InvoiceAmountOutOfRange, TermsOutdated,
    IdempotencyMismatch.
    """
    try:
        return _issue(customer_id, wish, key, origin, now)
    except IntegrityError:  # a parallel call with the same key was first
        found = _with_key(customer_id, key, _fingerprint(wish))
        if found is None:
            raise
        return Issued(found, True)


@transaction.atomic(durable=True)
def _issue(customer_id: UUID, wish: Wish, key: str, origin: Origin, now: datetime) -> Issued:
    if found := _with_key(customer_id, key, _fingerprint(wish)):
        return Issued(found, True)
    selling = seller.party()
    organisation = organisations.required(customer_id)
    _require_within_limits(wish.amount_rub)
    offer = checkout.offer_to_accept(customer_id, wish.offer_version, locale=origin.locale, now=now)
    actor = origin.customer(customer_id)
    invoice_id = uuid7()
    acceptance = acceptances.record(
        user_id=customer_id,
        version=offer,
        act=Acceptance.Act.CHECKOUT,
        surface=origin.surface,
        locale=origin.locale,
        user_agent=origin.user_agent,
        now=now,
        actor=actor,
        order_id=invoice_id,
    )
    invoice = Invoice(
        id=invoice_id,
        client_key=key,
        fingerprint=_fingerprint(wish) if key else "",
        acceptance_id=acceptance.id,
        valid_until=_working_days_after(numbers.day_of(now), VALID_WORKING_DAYS),
        **snapshot(
            organisation,
            selling,
            services={SERVICE: money.from_rub(wish.amount_rub)},
            day=numbers.day_of(now),
            taxed_on=numbers.day_of(now),
            now=now,
        ),
    )
    invoice.number = numbers.take(DocumentCounter.Kind.INVOICE, invoice.year)
    invoice.purpose = purpose(invoice)
    invoice.save(force_insert=True)
    _journal(invoice, "payments.invoice.issued", actor)
    tell(invoice, "invoice_issued", now)
    return Issued(invoice, False)


@transaction.atomic(durable=True)
def void(*, invoice_id: UUID, reason: str, now: datetime, actor: Actor) -> Invoice:
    """Take an unpaid invoice back, for good. Raises InvoiceNotFound, InvoiceClosed, InvalidRequest."""
    reason = reasons.required(reason)
    move(invoice_id, Status.VOID, now)
    invoice = Invoice.objects.get(pk=invoice_id)
    _journal(invoice, "payments.invoice.voided", actor, reason=reason)
    return invoice


@transaction.atomic(durable=True)
def expire(*, now: datetime, actor: Actor) -> int:
    """Mark invoices whose last day is over; returns how many. The money may still come."""
    due = Invoice.objects.filter(status=Status.ISSUED, valid_until__lt=numbers.day_of(now))
    locked = due.select_for_update(no_key=True, skip_locked=True).order_by("valid_until", "pk")
    rows = list(locked[:EXPIRED_AT_ONCE])
    for invoice in rows:
        move(invoice.pk, Status.EXPIRED, now)
        _journal(invoice, "payments.invoice.expired", actor)
    return len(rows)


def move(invoice_id: UUID, to: Status, now: datetime) -> None:
    """Bring an open invoice to a final state by one conditional update. Must run inside a transaction.

    Raises InvoiceNotFound, InvoiceClosed.
    """
    open_rows = Invoice.objects.filter(pk=invoice_id, status__in=Invoice.PAYABLE)
    closed_at = None if to == Status.EXPIRED else now
    if open_rows.update(status=to, closed_at=closed_at) != 1:
        state = Invoice.objects.filter(pk=invoice_id).values_list("status", flat=True).first()
        if state is None:
            raise InvoiceNotFound
        raise InvoiceClosed(status=state)


def snapshot(
    organisation: Organisation,
    selling: Party,
    *,
    services: dict[str, int],
    day: date,
    taxed_on: date,
    now: datetime,
) -> dict[str, Any]:
    """The fields that every document has; its number is taken afterwards, last of all.

    `services` are the lines by their name: micro-RUB in whole kopecks, VAT included. `day` is the date of
    the document, `taxed_on` chooses the VAT rate: an advance is taxed by its day, services by the last day of
    their month, whenever a document says them again.
    """
    taxed_at = datetime.combine(taxed_on, time(), vat.LAW_ZONE)
    lines = [
        {"name": name, "unit": UNIT, "quantity": 1, "price_micro_rub": amount, "amount_micro_rub": amount}
        for name, amount in services.items()
    ]
    amount_micro_rub = sum(services.values())
    return {
        "organisation": organisation,
        "customer_id": organisation.owner_id,
        "year": day.year,
        "document_date": day,
        "seller": selling.as_dict(),
        "buyer": organisations.party_of(organisation).as_dict(),
        "lines": lines,
        "amount_micro_rub": amount_micro_rub,
        "vat_rate_bp": vat.rate_at(taxed_at),
        "vat_micro_rub": _to_kopecks(vat.vat_included(amount_micro_rub, taxed_at)),
        "issued_at": now,
    }


def purpose(invoice: Invoice) -> str:
    """What the payer writes into the bank order, at most 210 characters. Source: payments guide 5.2."""
    if invoice.vat_rate_bp:
        rate, share = in_words.percent(invoice.vat_rate_bp), in_words.figures(invoice.vat_micro_rub)
        tax = f"В т.ч. НДС {rate} % – {share} руб."
    else:
        tax = "НДС не облагается."
    day = f"{invoice.document_date:%d.%m.%Y}"
    return f"Оплата по счёту {invoice.title} от {day}, {SERVICE[0].lower()}{SERVICE[1:]}. {tax}".replace(
        in_words.NO_BREAK, " "
    )


def tell(invoice: Invoice, letter: str, now: datetime) -> None:
    """Have the customer told by letter, once. Must run inside the act's transaction."""
    notices.write(
        user_id=invoice.customer_id,
        letter=letter,
        key=f"{letter}:{invoice.id}",
        facts={
            "number": invoice.title,
            "amount_micro_rub": invoice.amount_micro_rub,
            "valid_until": f"{invoice.valid_until:%d.%m.%Y}",
            "url": settings.SITE_URL + reverse("documents"),
        },
        now=now,
    )


def _to_kopecks(micro_rub: int) -> int:
    """Half up, as tax is rounded in documents."""
    return (micro_rub + MICRO_PER_KOPECK // 2) // MICRO_PER_KOPECK * MICRO_PER_KOPECK


def _working_days_after(day: date, count: int) -> date:
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < 5
    return day


def _require_within_limits(amount_rub: int) -> None:
    lowest, highest = settings.PAYMENTS_MIN_TOPUP_RUB, settings.PAYMENTS_MAX_INVOICE_RUB
    if lowest <= amount_rub <= highest:
        return
    text = f"An invoice is {lowest} to {highest} roubles."
    row = {"loc": ["body", "amount_rub"], "msg": text, "type": "out_of_range"}
    raise InvoiceAmountOutOfRange(text, errors=[row], min_rub=lowest, max_rub=highest)


def _fingerprint(wish: Wish) -> str:
    facts = {"amount_rub": wish.amount_rub, "offer_version": wish.offer_version}
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _with_key(customer_id: UUID, key: str, wanted: str) -> Invoice | None:
    if not key:
        return None
    found = Invoice.objects.filter(customer_id=customer_id, client_key=key).first()
    if found is not None and found.fingerprint != wanted:
        raise IdempotencyMismatch("This idempotency key was used with another invoice.")
    return found


def _journal(invoice: Invoice, action: str, actor: Actor, **facts: object) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=f"invoice:{invoice.id}",
        data={"number": invoice.title, "amount_micro_rub": invoice.amount_micro_rub, **facts},
        target_user_id=invoice.customer_id,
    )
