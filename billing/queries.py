"""Reads of money: balance, statement, usage. Every one starts from the customer's own rows."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from billing.models import (
    Account,
    CreditLot,
    EntryType,
    FxRate,
    LedgerEntry,
    PriceVersion,
    SystemEntryType,
    UsageEvent,
)
from billing.shapes import Balance, LotView
from billing.watch_models import UsageDay
from plyrum import clock

Row = TypeVar("Row", LedgerEntry, UsageEvent)

# The two ways in which a debt moves (check V48): a dispute leaves it, the customer repays it. By the columns
# of the index by type first. Also in policies.py.
DEBT = Q(type=SystemEntryType.DEBT, customer_id=None, seq=None, debit_account=Account.RECEIVABLE)
REPAYMENT = Q(type=EntryType.CHARGEBACK, credit_account=Account.RECEIVABLE)

# Usage of closed days from the roll-ups, before and behind them from the rows; the two never meet.
SUMMARY = """
SELECT {group}, sum(requests), sum(input_tokens), sum(output_tokens), sum(charged_micro_rub)
  FROM (SELECT day, model, api_key_id, requests, input_tokens, output_tokens, charged_micro_rub
          FROM billing_usagerollup
         WHERE customer_id = %(customer)s AND day >= %(first)s::date AND day <= %(last)s::date
         UNION ALL
        SELECT (created_at AT TIME ZONE 'Europe/Moscow')::date, model, api_key_id, 1, input_tokens,
               output_tokens, charged_micro_rub
          FROM billing_usageevent
         WHERE customer_id = %(customer)s
           AND created_at >= %(since)s::timestamptz AND created_at < %(head_until)s::timestamptz
         UNION ALL
        SELECT (created_at AT TIME ZONE 'Europe/Moscow')::date, model, api_key_id, 1, input_tokens,
               output_tokens, charged_micro_rub
          FROM billing_usageevent
         WHERE customer_id = %(customer)s
           AND created_at >= %(tail_since)s::timestamptz AND created_at < %(until)s::timestamptz) usage
 WHERE %(model)s::text IS NULL OR model = %(model)s::text
 GROUP BY 1 ORDER BY {order}
"""
SUMMARIES = {
    "day": SUMMARY.format(group="day", order="1 DESC"),
    "model": SUMMARY.format(group="model", order="1"),
    "key": SUMMARY.format(group="api_key_id", order="1"),
}
# No row is older or younger: days are counted between these, whatever was asked for.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def balance(customer_id: UUID, *, now: datetime, unlimited: bool = False) -> Balance:
    """What can be spent now, what there is, what running requests hold; the lots in spend order."""
    lots = list(open_lots(customer_id))
    alive = [lot for lot in lots if lot.expires_at is None or lot.expires_at > now]
    reserved = sum(lot.reserved_micro_rub for lot in lots)
    spendable = sum(lot.remaining_micro_rub - lot.reserved_micro_rub for lot in alive)
    return Balance(
        balance_micro_rub=spendable,
        total_micro_rub=spendable + reserved,  # of an expired lot only what a running request still holds
        reserved_micro_rub=reserved,
        unlimited=unlimited,
        lots=tuple(
            LotView(lot.kind, lot.remaining_micro_rub, lot.expires_at, lot.created_at) for lot in alive
        ),
    )


def open_lots(customer_id: UUID) -> QuerySet[CreditLot]:
    """The lots that still hold money, expired ones included, in the order in which they are spent."""
    lots = CreditLot.objects.filter(customer_id=customer_id, is_spent=False)
    return lots.order_by("spend_class", F("expires_at").asc(nulls_last=True), "id")


def by_key(*keys: str) -> QuerySet[LedgerEntry]:
    """Entries of these keys. A charge for an answer is asked by its hold's id, which it has itself."""
    return LedgerEntry.objects.filter(hold_id=None, key__in=keys)


def lot_of(payment_id: UUID) -> CreditLot | None:
    """The lot that this top-up made; None for a payment that was never credited."""
    entry = by_key(f"topup:{payment_id}").values("pk")
    return CreditLot.objects.filter(source_entry_id__in=entry).first()


def refundable(payment_id: UUID) -> int:
    """What is free in the lot of this top-up, in micro-RUB; 0 for a payment that was never credited."""
    lot = lot_of(payment_id)
    return lot.remaining_micro_rub - lot.reserved_micro_rub if lot is not None else 0


def topup_of(payment_id: UUID) -> LedgerEntry | None:
    """The entry by which a paid payment was credited; bank lines are none."""
    return by_key(f"topup:{payment_id}").filter(source_type="payment").first()


def debt(customer_id: UUID) -> int:
    """What the customer still owes after disputed payments, in micro-RUB."""
    rows = LedgerEntry.objects.filter(source_id=str(customer_id))
    owed = rows.filter(DEBT).aggregate(sum=Sum("amount_micro_rub"))["sum"]
    if not owed:
        return 0
    repaid = rows.filter(REPAYMENT, customer_id=customer_id).aggregate(sum=Sum("amount_micro_rub"))["sum"]
    return int(owed - (repaid or 0))


def statement(
    customer_id: UUID,
    *,
    type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[LedgerEntry]:
    """The customer's entries; order them by `seq`."""
    rows = LedgerEntry.objects.filter(customer_id=customer_id)
    if type is not None:
        rows = rows.filter(type=type)
    return _within(rows, since, until)


def usage(
    customer_id: UUID,
    *,
    model: str | None = None,
    api_key_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[UsageEvent]:
    """The customer's usage rows; order them by `id`."""
    rows = UsageEvent.objects.filter(customer_id=customer_id)
    if model is not None:
        rows = rows.filter(model=model)
    if api_key_id is not None:
        rows = rows.filter(api_key_id=api_key_id)
    return _within(rows, since, until)


def usage_summary(
    customer_id: UUID,
    *,
    group_by: str,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Sums of usage rows: {key, requests, input_tokens, output_tokens, cost_micro_rub}, in the order of keys.

    `group_by` is day (newest first), model or key; days are those of Moscow (the money pages' zone). Closed
    days are read from their roll-ups, all else from the rows: the answer is that of summing rows.
    """
    parameters: dict[str, Any] = {"customer": customer_id, "model": model, **_parts(since, until)}
    with connection.cursor() as cursor:
        cursor.execute(SUMMARIES[group_by], parameters)
        return [
            {
                "key": str(key) if key is not None else None,
                "requests": int(requests),
                "input_tokens": int(input_tokens),
                "output_tokens": int(output_tokens),
                "cost_micro_rub": int(charged),
            }
            for key, requests, input_tokens, output_tokens, charged in cursor.fetchall()
        ]


def closed_through() -> date | None:
    """The newest closed day: it and every day before it are rolled up. None while there is none."""
    rows = UsageDay.objects.filter(closed_at__isnull=False).order_by("-day")
    return rows.values_list("day", flat=True).first()


def charge_of_run(run_id: UUID) -> LedgerEntry | None:
    """The entry by which a run was charged; None when it cost nothing."""
    return LedgerEntry.objects.filter(pk=run_id, hold_id=run_id).first()


def reversal_of(charge_id: UUID) -> LedgerEntry | None:
    """The entry that took a charge back; None while it stands."""
    return by_key(f"reversal:{charge_id}").first()


def current_prices() -> list[PriceVersion]:
    """The newest version of each SKU's price."""
    return list(PriceVersion.objects.order_by("sku", "-number").distinct("sku"))


def current_rates() -> dict[str, FxRate]:
    """The newest rate of each currency."""
    rows = FxRate.objects.order_by("currency", "-rate_date", "-id").distinct("currency")
    return {row.currency: row for row in rows}


def fresh_rates(*, now: datetime) -> dict[str, FxRate]:
    """The newest rates that are young enough to sell by: at most PLYRUM_FX_MAX_AGE_DAYS old."""
    oldest = now.date() - timedelta(days=settings.PLYRUM_FX_MAX_AGE_DAYS)
    return {name: rate for name, rate in current_rates().items() if rate.rate_date >= oldest}


def _parts(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    """The period as whole closed days, and what lies before and behind them; parameters of SUMMARY."""
    first = clock.day_of(min(max(since, EARLIEST), LATEST)) if since else None
    if first is not None and since != clock.start_of(first):
        first += timedelta(days=1)  # the day begins before the period
    last = clock.day_of(min(max(until, EARLIEST), LATEST)) - timedelta(days=1) if until else None
    closed = closed_through()
    if closed is not None and (last is None or closed < last):
        last = closed
    begin, end = since or "-infinity", until or "infinity"
    if closed is None or last is None or (first is not None and first > last):
        return {
            "first": None,
            "last": None,
            "since": begin,
            "head_until": end,
            "tail_since": end,
            "until": end,
        }
    return {
        "first": first or "-infinity",
        "last": last,
        "since": begin,
        "head_until": clock.start_of(first) if first else begin,
        "tail_since": clock.start_of(last + timedelta(days=1)),
        "until": end,
    }


def _within(rows: QuerySet[Row], since: datetime | None, until: datetime | None) -> QuerySet[Row]:
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    return rows
