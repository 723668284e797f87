"""Reads of money: balance, statement, usage. Every one starts from the customer's own rows."""

from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import CreditLot, EntryType, FxRate, LedgerEntry, PriceVersion, UsageEvent
from billing.shapes import Balance, LotView

Row = TypeVar("Row", LedgerEntry, UsageEvent)


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


def refundable(payment_id: UUID) -> int:
    """What is free in the lot of this top-up, in micro-RUB; 0 for a payment that was never credited."""
    entry = LedgerEntry.objects.filter(key=f"topup:{payment_id}").values("pk")
    lot = CreditLot.objects.filter(source_entry_id__in=entry).first()
    return lot.remaining_micro_rub - lot.reserved_micro_rub if lot is not None else 0


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


def usage_summary(rows: QuerySet[UsageEvent], group_by: str) -> list[dict[str, object]]:
    """Sums of usage rows: {key, requests, input_tokens, output_tokens, cost_micro_rub}, in the order of keys.

    `group_by` is day (newest first), model or key; days are those of Moscow (the money pages' zone).
    """
    field = {"day": TruncDate("created_at"), "model": F("model"), "key": F("api_key_id")}[group_by]
    grouped = rows.annotate(group=field).values("group").order_by("-group" if group_by == "day" else "group")
    return [
        {
            "key": str(row["group"]) if row["group"] is not None else None,
            "requests": row["requests"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "cost_micro_rub": int(row["cost"]),
        }
        for row in grouped.annotate(
            requests=Count("id"),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
            cost=Sum("charged_micro_rub"),
        )
    ]


def charge_of_run(run_id: UUID) -> LedgerEntry | None:
    """The entry by which a run was charged; None when it cost nothing."""
    return LedgerEntry.objects.filter(key=f"capture:{run_id}", type=EntryType.USAGE_DEBIT).first()


def reversal_of(charge_id: UUID) -> LedgerEntry | None:
    """The entry that took a charge back; None while it stands."""
    return LedgerEntry.objects.filter(key=f"reversal:{charge_id}").first()


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


def _within(rows: QuerySet[Row], since: datetime | None, until: datetime | None) -> QuerySet[Row]:
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    return rows
