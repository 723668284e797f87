"""Closing documents of a month and the reconciliation act, out of the ledger, in days of Moscow.

What was rendered in a month is what paid money paid for: charges without those that were taken back, whenever
that happened, and plans. A document is never changed: when a charge of a closed month is taken back, a new
document corrects the newest one.
Source: legal guide 13, docs/decisions/0029-closing-documents.md.
"""

from collections import defaultdict
from datetime import date, datetime, time, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, F, Sum, When
from django.db.models.functions import TruncDate
from django.urls import reverse

from accounts import notices
from auditlog import journal
from auditlog.actors import Actor
from billing import daily_roots
from billing.models import Account, EntryType, LedgerEntry
from billing.vat import LAW_ZONE
from payments.invoices import in_words, issuing, numbers, organisations, seller
from payments.invoices.models import ClosingDocument, DocumentCounter, Organisation
from payments.invoices.shapes import NOTHING, ActRow, Reconciliation, Rendered, whole_kopecks
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

LONGEST_ACT = timedelta(days=366)
PLAN_ACCESS = "Доступ по тарифу"
# By month of Moscow and type of entry. Parameters: customer_id, types. A purchased lot is money that the firm
# paid in; what a grant, a rollover or a bonus gave is paid with the plan, or not at all.
RENDERED_SQL = """
SELECT date_trunc('month', e.created_at, 'Europe/Moscow') AS month, e.type, sum(t.amount)::bigint
  FROM billing_ledgerentry e, unnest(e.lot_ids, e.lot_amounts) AS t (lot_id, amount), billing_creditlot l
 WHERE e.customer_id = %s AND e.type = ANY (%s) AND l.id = t.lot_id AND l.kind = 'purchased'
   AND NOT EXISTS (SELECT 1 FROM billing_ledgerentry r WHERE r.key = 'reversal:' || e.id)
 GROUP BY 1, 2
"""
# What a reconciliation act calls the movements of a wallet; Russian like every document.
OPERATIONS: dict[str, str] = {
    EntryType.TOPUP: "Поступление через платёжный сервис",
    EntryType.USAGE_DEBIT: "Оказаны услуги",
    EntryType.REFUND: "Возврат аванса",
    EntryType.ADMIN_ADJUSTMENT: "Корректировка",
    EntryType.BONUS: "Бонус",
    EntryType.PLAN_GRANT: "Начисление по тарифу",
    EntryType.PLAN_PURCHASE: PLAN_ACCESS,
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
    rendered = rendered_by_month(organisation.owner_id).get(month, NOTHING)
    last_day = _following(month) - timedelta(days=1)
    document = ClosingDocument(
        id=uuid7(),
        month=month,
        corrects=known,
        rendered_micro_rub=rendered.exact_micro_rub,
        **issuing.snapshot(
            organisation,
            seller.party(),
            services=_services(rendered, in_words.month(month)),
            day=last_day if known is None else numbers.day_of(now),
            taxed_on=last_day,
            now=now,
        ),
    )
    document.number = numbers.take(DocumentCounter.Kind.CLOSING, document.year)
    document.save(force_insert=True)
    _journal(document, actor)
    _tell(document, now)
    return document


def rendered_by_month(customer_id: UUID) -> dict[date, Rendered]:
    """By the first day of each month in which paid money paid for something that was not taken back."""
    types = [EntryType.USAGE_DEBIT.value, EntryType.PLAN_PURCHASE.value]
    with connection.cursor() as cursor:
        cursor.execute(RENDERED_SQL, [customer_id, types])
        found: dict[date, dict[str, int]] = defaultdict(dict)
        for month, type_, amount in cursor.fetchall():
            found[numbers.day_of(month)][type_] = amount
    usage, plans = types
    return {month: Rendered(sums.get(usage, 0), sums.get(plans, 0)) for month, sums in found.items()}


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
    """Months, from the organisation's first to the last, of which no document says what the ledger says.

    A month is over an hour after its end: what was written in its last moments is committed by then.
    """
    first = numbers.day_of(organisation.created_at).replace(day=1)
    current = numbers.day_of(now - daily_roots.GRACE).replace(day=1)
    told = {month: document.amount_micro_rub for month, document in _newest(organisation).items()}
    rendered = rendered_by_month(organisation.owner_id)
    return [
        month
        for month in sorted({*rendered, *told})
        if first <= month < current and rendered.get(month, NOTHING).told_micro_rub != told.get(month, 0)
    ]


def _newest(organisation: Organisation) -> dict[date, ClosingDocument]:
    """The document of each month that stands, that is, that no other corrects."""
    rows = ClosingDocument.objects.filter(organisation=organisation, closingdocument=None)
    return {document.month: document for document in rows}


def _services(rendered: Rendered, month: str) -> dict[str, int]:
    """The lines of a document: what is more than nothing; a correction to nothing says so in one line."""
    usage, plans = f"Услуги сервиса Plyrum за {month}", f"{PLAN_ACCESS} за {month}"
    lines = {
        usage: whole_kopecks(rendered.usage_micro_rub),
        plans: whole_kopecks(rendered.plans_micro_rub),
    }
    return {name: amount for name, amount in lines.items() if amount} or {usage: 0}


def _operation(type_: str, source_type: str) -> str:
    return BANK_TRANSFER if source_type == "bank_line" else OPERATIONS[type_]


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
