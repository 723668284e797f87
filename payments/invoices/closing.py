"""Closing documents of a month and the reconciliation act, out of the ledger, in days of Moscow.

A month's services are its charges without those that were taken back, whenever that happened. A document is
never changed: when a charge of a closed month is taken back, a new document corrects the newest one.
Source: legal guide 13, docs/decisions/0029-closing-documents.md.
"""

from collections import defaultdict
from datetime import date, datetime, time, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, QuerySet, Sum, When
from django.db.models.functions import TruncDate, TruncMonth
from django.urls import reverse

from accounts import notices
from auditlog import journal
from auditlog.actors import Actor
from billing.models import Account, EntryType, LedgerEntry
from billing.shapes import MICRO_PER_KOPECK
from billing.vat import LAW_ZONE
from payments.invoices import in_words, issuing, numbers, organisations, seller
from payments.invoices.models import ClosingDocument, DocumentCounter, Organisation
from payments.invoices.shapes import ActRow, Reconciliation
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

LONGEST_ACT = timedelta(days=366)
# What a reconciliation act calls the movements of a wallet; Russian like every document.
OPERATIONS: dict[str, str] = {
    EntryType.TOPUP: "Поступление через платёжный сервис",
    EntryType.USAGE_DEBIT: "Оказаны услуги",
    EntryType.REFUND: "Возврат аванса",
    EntryType.ADMIN_ADJUSTMENT: "Корректировка",
    EntryType.BONUS: "Бонус",
    EntryType.PLAN_GRANT: "Начисление по тарифу",
    EntryType.PLAN_PURCHASE: "Покупка тарифа",
    EntryType.ROLLOVER: "Перенос остатка",
    EntryType.EXPIRY: "Истёк срок бонуса",
    EntryType.CHARGEBACK: "Платёж отозван банком",
    EntryType.REVERSAL: "Отмена оказанных услуг",
}
BANK_TRANSFER = "Поступление на расчётный счёт"


def close_months(*, now: datetime, actor: Actor) -> int:
    """Make every document that is due for any organisation; returns how many. May run at any time."""
    if not seller.is_configured():
        return 0
    made = 0
    for organisation in Organisation.objects.order_by("id").iterator(chunk_size=200):
        try:
            for month in _due(organisation, now):
                made += (
                    close_month(organisation_id=organisation.id, month=month, now=now, actor=actor)
                    is not None
                )
        except Exception:  # the edge of a worker's loop: a fault of one organisation stays with it
            log.exception("month_not_closed", organisation_id=str(organisation.id))
    return made


@transaction.atomic(durable=True)
def close_month(*, organisation_id: UUID, month: date, now: datetime, actor: Actor) -> ClosingDocument | None:
    """Make the document of a month that is over, or one that corrects it; None when nothing is to be said.

    `month` is its first day. Raises InvoicesNotConfigured.
    """
    organisation = Organisation.objects.select_for_update(no_key=True).get(pk=organisation_id)
    if month not in _due(organisation, now):
        return None
    known = _newest(organisation).get(month)
    rendered = rendered_by_month(organisation.owner_id).get(month, 0)
    last_day = _following(month) - timedelta(days=1)
    document = ClosingDocument(
        id=uuid7(),
        month=month,
        corrects=known,
        rendered_micro_rub=rendered,
        **issuing.snapshot(
            organisation,
            seller.party(),
            service=f"Услуги сервиса Plyrum за {in_words.month(month)}",
            amount_micro_rub=_whole_kopecks(rendered),
            day=last_day if known is None else numbers.day_of(now),
            now=now,
        ),
    )
    document.number = numbers.take(DocumentCounter.Kind.CLOSING, document.year)
    document.save(force_insert=True)
    _journal(document, actor)
    _tell(document, now)
    return document


def rendered_by_month(customer_id: UUID) -> dict[date, int]:
    """Micro-RUB of services by the first day of the month they were rendered in."""
    charges = LedgerEntry.objects.filter(customer_id=customer_id, type=EntryType.USAGE_DEBIT)
    found: dict[date, int] = defaultdict(int, _by_month(charges))
    taken_back = LedgerEntry.objects.filter(customer_id=customer_id, type=EntryType.REVERSAL)
    reversed_ids = [UUID(source) for source in taken_back.values_list("source_id", flat=True)]
    for month, amount in _by_month(charges.filter(pk__in=reversed_ids)).items():
        found[month] -= amount
    return dict(found)


def reconcile(
    *, organisation: Organisation, first_day: date, last_day: date, now: datetime
) -> Reconciliation:
    """The reconciliation act of a period; its balances are the ledger's, to the last micro-rouble.

    Raises InvalidRequest (a period that is not one, or in the future), InvoicesNotConfigured.
    """
    if not first_day <= last_day <= numbers.day_of(now) or last_day - first_day > LONGEST_ACT:
        text = "The period begins before it ends, ends by today and has at most a year."
        raise InvalidRequest(text, errors=[{"loc": ["query", "to"], "msg": text, "type": "value_error"}])
    start = _midnight(first_day)
    entries = LedgerEntry.objects.filter(customer_id=organisation.owner_id).annotate(
        signed=Case(
            When(credit_account=Account.WALLET, then=F("amount_micro_rub")), default=-F("amount_micro_rub")
        )
    )
    opening = entries.filter(created_at__lt=start).aggregate(sum=Sum("signed"))["sum"] or 0
    within = entries.filter(created_at__gte=start, created_at__lt=_midnight(last_day + timedelta(days=1)))
    groups = (
        within.annotate(day=TruncDate("created_at", tzinfo=LAW_ZONE))
        .values("day", "type", "source_type", "credit_account")
        .annotate(total=Sum("signed"))
        .order_by("day", "type", "source_type", "credit_account")
    )
    rows = tuple(
        ActRow(row["day"], _operation(row["type"], row["source_type"]), int(row["total"])) for row in groups
    )
    return Reconciliation(
        seller=seller.party(),
        buyer=organisations.party_of(organisation),
        first_day=first_day,
        last_day=last_day,
        opening_micro_rub=int(opening),
        rows=rows,
    )


def _due(organisation: Organisation, now: datetime) -> list[date]:
    """Months, from the organisation's first to the last, of which no document says what the ledger says."""
    first = numbers.day_of(organisation.created_at).replace(day=1)
    current = numbers.day_of(now).replace(day=1)
    told = {month: document.amount_micro_rub for month, document in _newest(organisation).items()}
    rendered = rendered_by_month(organisation.owner_id)
    return [
        month
        for month in sorted(rendered)
        if first <= month < current and _whole_kopecks(rendered[month]) != told.get(month, 0)
    ]


def _newest(organisation: Organisation) -> dict[date, ClosingDocument]:
    """The document of each month that stands, that is, that no other corrects."""
    rows = ClosingDocument.objects.filter(organisation=organisation, closingdocument=None)
    return {document.month: document for document in rows}


def _by_month(entries: QuerySet[LedgerEntry]) -> dict[date, int]:
    groups = entries.annotate(month=TruncMonth("created_at", tzinfo=LAW_ZONE)).values("month")
    rows = groups.annotate(total=Sum("amount_micro_rub")).order_by("month")
    return {row["month"].date(): int(row["total"]) for row in rows}


def _operation(type_: str, source_type: str) -> str:
    return BANK_TRANSFER if source_type == "bank_line" else OPERATIONS[type_]


def _whole_kopecks(micro_rub: int) -> int:
    """Rounded down: a document never says more than was charged."""
    return micro_rub // MICRO_PER_KOPECK * MICRO_PER_KOPECK


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), LAW_ZONE)


def _tell(document: ClosingDocument, now: datetime) -> None:
    notices.write(
        user_id=document.customer_id,
        letter="closing_document_ready",
        key=f"closing_document_ready:{document.id}",
        facts={
            "number": document.title,
            "month": f"{document.month:%m.%Y}",
            "amount_micro_rub": document.amount_micro_rub,
            "is_correction": document.corrects_id is not None,
            "url": settings.SITE_URL + reverse("documents"),
        },
        now=now,
    )


def _journal(document: ClosingDocument, actor: Actor) -> None:
    journal.record(
        actor=actor,
        action="payments.closing_document.issued",
        subject=f"closing_document:{document.id}",
        data={
            "number": document.title,
            "month": f"{document.month:%Y-%m}",
            "amount_micro_rub": document.amount_micro_rub,
            "rendered_micro_rub": document.rendered_micro_rub,
            "corrects": str(document.corrects_id) if document.corrects_id else None,
        },
        target_user_id=document.customer_id,
    )
