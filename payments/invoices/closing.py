"""Closing documents of a month and the reconciliation act, out of the ledger, in days of Moscow.

What was rendered in a month is what paid money paid for: charges without those that were taken back, whenever
that happened, and plans. A document is never changed: when a charge of a closed month is taken back, a new
document corrects the newest one.
Source: legal guide 13, docs/decisions/0029-closing-documents.md.
"""

from collections import defaultdict
from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from typing import Any
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
# By month of Moscow and type of entry. Money that the firm paid in is the lot of a top-up; what
# a grant or a rollover gave is paid with the plan, a bonus or an operator's credit not at all. A wallet's
# numbers have no gaps and time runs with them, to the second that V33 lets pass: the numbers that bound the
# time are found by halves, and no other entry is read.
RENDERED_SQL = """
WITH RECURSIVE narrowed (moment, low, high) AS (
    SELECT m.moment, 1::bigint, w.seq + 1
      FROM billing_wallet w,
           (VALUES (%(since)s::timestamptz - interval '1 second'),
                   (%(until)s::timestamptz + interval '1 second')) m (moment)
     WHERE w.customer_id = %(customer)s
     UNION ALL
    SELECT n.moment, CASE WHEN e.created_at < n.moment THEN e.seq + 1 ELSE n.low END,
           CASE WHEN e.created_at < n.moment THEN n.high ELSE e.seq END
      FROM narrowed n
     CROSS JOIN LATERAL (  -- LIMIT: looked up, never joined with the whole history
           SELECT seq, created_at FROM billing_ledgerentry
            WHERE customer_id = %(customer)s AND seq = (n.low + n.high) / 2 LIMIT 1) e
     WHERE n.low < n.high
), bound AS (
    SELECT min(low) AS first, max(low) AS beyond FROM narrowed WHERE low = high
    HAVING count(*) = 2  -- a gap, which V03 tells, hides nothing: all is read
), paid AS MATERIALIZED (  -- an operator's credit is of the same kind; each lot is asked once
    SELECT l.id FROM billing_creditlot l
     WHERE l.customer_id = %(customer)s AND l.kind = 'purchased'
       AND (SELECT s.type FROM billing_ledgerentry s WHERE s.id = l.source_entry_id) = 'topup'
)
SELECT date_trunc('month', e.created_at, 'Europe/Moscow') AS month, e.type, sum(t.amount)::bigint
  FROM billing_ledgerentry e, unnest(e.lot_ids, e.lot_amounts) AS t (lot_id, amount), paid
 WHERE e.customer_id = %(customer)s AND e.seq >= coalesce((SELECT first FROM bound), 1)
   AND e.seq < coalesce((SELECT beyond FROM bound), 9223372036854775807)
   AND e.created_at >= %(since)s AND e.created_at < %(until)s AND e.type = ANY (%(types)s)
   AND paid.id = t.lot_id
   -- Taken back: few, which the index by type finds. Not joined, so they are read once.
   AND e.id::text NOT IN (SELECT r.source_id FROM billing_ledgerentry r
                           WHERE r.type = 'reversal' AND r.customer_id = %(customer)s)
 GROUP BY 1, 2
"""
# The told months of which a charge was taken back since they were told. Whoever wrote an entry before a
# document was made has committed within the grace. The index by type finds all reversals, which are few.
TAKEN_BACK_SQL = """
SELECT d.organisation_id, d.month
  FROM billing_ledgerentry r
  JOIN billing_ledgerentry e ON e.id = r.source_id::uuid AND e.customer_id = r.customer_id
  JOIN payments_closingdocument d ON d.customer_id = r.customer_id
   AND d.month = date_trunc('month', e.created_at AT TIME ZONE 'Europe/Moscow')::date
   AND d.issued_at < r.created_at + make_interval(secs => %(grace)s)
 WHERE r.type = 'reversal'
   AND NOT EXISTS (SELECT FROM payments_closingdocument c WHERE c.corrects_id = d.id)
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
    made, taken_back = 0, _months_taken_back()
    for organisation in Organisation.objects.order_by("id").iterator(chunk_size=200):
        try:
            for month in _due(organisation, taken_back[organisation.id], now):
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
    first, current = _span(organisation, now)
    known = _newest(organisation).get(month)
    rendered = _rendered_in(organisation.owner_id, month)
    if not first <= month < current or not _differs(rendered, known):
        return None
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


def rendered_by_month(customer_id: UUID, *, since: date, until: date) -> dict[date, Rendered]:
    """By the first day of each month in which paid money paid for something that was not taken back.

    `since` and `until` are first days; the month of `until` is left out.
    """
    types = [EntryType.USAGE_DEBIT.value, EntryType.PLAN_PURCHASE.value]
    parameters: dict[str, Any] = {
        "customer": customer_id, "since": _midnight(since), "until": _midnight(until), "types": types
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(RENDERED_SQL, parameters)
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


def _due(organisation: Organisation, taken_back: Collection[date], now: datetime) -> list[date]:
    """Months, from the organisation's first to the last, of which no document says what the ledger says.

    Months are told in their order, so those up to the newest document changed only by what was taken back.
    """
    first, current = _span(organisation, now)
    told = _newest(organisation)
    since = max([first, *map(_following, told)])
    rendered = {month: _rendered_in(organisation.owner_id, month) for month in taken_back}
    if since < current:
        rendered |= rendered_by_month(organisation.owner_id, since=since, until=current)
    return [
        month
        for month, sums in sorted(rendered.items())
        if first <= month < current and _differs(sums, told.get(month))
    ]


def _span(organisation: Organisation, now: datetime) -> tuple[date, date]:
    """The first month that is told, and the one that is not over yet.

    A month is over an hour after its end: what was written in its last moments is committed by then.
    """
    first = numbers.day_of(organisation.created_at).replace(day=1)
    return first, numbers.day_of(now - daily_roots.GRACE).replace(day=1)


def _months_taken_back() -> defaultdict[UUID, set[date]]:
    """By organisation, the told months that a charge taken back later may have changed."""
    with connection.cursor() as cursor:
        cursor.execute(TAKEN_BACK_SQL, {"grace": daily_roots.GRACE.total_seconds()})
        found: defaultdict[UUID, set[date]] = defaultdict(set)
        for organisation_id, month in cursor.fetchall():
            found[organisation_id].add(month)
    return found


def _rendered_in(customer_id: UUID, month: date) -> Rendered:
    return rendered_by_month(customer_id, since=month, until=_following(month)).get(month, NOTHING)


def _differs(rendered: Rendered, document: ClosingDocument | None) -> bool:
    return rendered.told_micro_rub != (document.amount_micro_rub if document else 0)


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
    is_transfer = (type_, source_type) == (EntryType.TOPUP, "bank_line")
    return BANK_TRANSFER if is_transfer else OPERATIONS[type_]


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
