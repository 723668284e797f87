"""What answers bring and cost us, by day, model and customer, and how carefully to look at a customer.

Refreshed by the hourly job; all of it is computed again from usage rows and entries, so a repeat, a late run
and two at once end alike. Source of the rules: docs/reference/money.md, "Cost and risk".
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import TypeAlias
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from accounts.models import User
from billing import prices, pricing
from billing.cost_models import CostDay, CustomerRisk
from billing.models import EntryType, FxRate, LedgerEntry, PriceVersion, SystemEntryType, UsageEvent
from billing.pricing import BASIS_POINTS, Price, Usage
from billing.shapes import MICRO_PER_RUB

RISK_DAYS = 30
NOTABLE_COST_MICRO_RUB = 10 * MICRO_PER_RUB  # below it neither loss nor margin says anything
THIN_MARGIN_PERCENT = 5
MUCH_REFUNDED_PERCENT = 50
NEW_DAYS = 30
FAST_MICRO_RUB_A_DAY = 3_000 * MICRO_PER_RUB
ROWS_READ = 5_000
MOST_LINES = 100
CUSTOMERS_JUDGED = 500  # in one transaction

Level: TypeAlias = CustomerRisk.Level
Reason: TypeAlias = CustomerRisk.Reason
DISPUTE_KEY = "chargeback:"  # of the entries that `ledger.charge_back` writes, debts included


@dataclass
class Sums:
    requests: int = 0
    revenue_micro_rub: int = 0
    cost_micro_rub: int = 0


@dataclass(frozen=True)
class Facts:
    """What a customer is judged by: the last RISK_DAYS days."""

    requests: int = 0
    revenue_micro_rub: int = 0
    cost_micro_rub: int = 0
    topped_up_micro_rub: int = 0
    refunded_micro_rub: int = 0  # disputes included
    has_dispute: bool = False
    age_days: int = NEW_DAYS


def refresh(*, now: datetime) -> dict[str, int]:
    """Bring days and risks up to date; answers how many of each."""
    days = _days_due(now)
    for day in days:
        _refresh_day(day)
    return {"days": len(days), "customers": _refresh_risks(now)}


def judge(facts: Facts) -> tuple[Level, list[Reason]]:
    """The class of risk and why. One grave reason or two others make it high."""
    grave: list[Reason] = []
    others: list[Reason] = []
    margin = facts.revenue_micro_rub - facts.cost_micro_rub
    is_notable = facts.cost_micro_rub >= NOTABLE_COST_MICRO_RUB
    if facts.has_dispute:
        grave.append(Reason.DISPUTE)
    if is_notable and margin < 0:
        grave.append(Reason.LOSS)
    elif is_notable and margin * 100 < facts.revenue_micro_rub * THIN_MARGIN_PERCENT:
        others.append(Reason.THIN_MARGIN)
    returned, paid = facts.refunded_micro_rub, facts.topped_up_micro_rub
    if returned and returned * 100 >= paid * MUCH_REFUNDED_PERCENT:
        others.append(Reason.REFUNDS)
    a_day = facts.revenue_micro_rub // max(1, facts.age_days)
    if facts.age_days < NEW_DAYS and a_day >= FAST_MICRO_RUB_A_DAY:
        others.append(Reason.FAST_SPENDING)
    if grave or len(others) > 1:
        return Level.HIGH, grave + others
    return (Level.MEDIUM if others else Level.LOW), others


def provider_cost(usage: UsageEvent, price: Price) -> int:
    """What the provider takes for it, in micro-RUB: the arithmetic of the price, without markup."""
    units = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        images=usage.images,
    )
    return pricing.cost(units, replace(price, markup_bp=BASIS_POINTS, minimum_micro_rub=0))


@dataclass(frozen=True)
class Line:
    """A day, a model or a customer of the report."""

    key: str
    requests: int
    revenue_micro_rub: int
    cost_micro_rub: int

    @property
    def margin_micro_rub(self) -> int:
        return self.revenue_micro_rub - self.cost_micro_rub

    @property
    def margin_share(self) -> float | None:
        """Of the revenue; None without revenue."""
        return self.margin_micro_rub / self.revenue_micro_rub if self.revenue_micro_rub else None


def report(rows: QuerySet[CostDay], by: str) -> list[Line]:
    """Sums by `day` (oldest first), `model` or `customer_id` (dearest first)."""
    grouped = rows.values(by).annotate(
        all_requests=Sum("requests"), revenue=Sum("revenue_micro_rub"), cost=Sum("cost_micro_rub")
    )
    ordered = grouped.order_by("day") if by == "day" else grouped.order_by("-cost", by)[:MOST_LINES]
    return [
        Line(str(row[by]), int(row["all_requests"]), int(row["revenue"]), int(row["cost"])) for row in ordered
    ]


def start_of(day: date) -> datetime:
    """The first moment of a day of Moscow."""
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())


def _days_due(now: datetime) -> list[date]:
    """Yesterday, whose last rows may have been missed, today, and what lies behind the newest known day."""
    today = timezone.localdate(now, timezone.get_default_timezone())
    newest = CostDay.objects.filter(day__lte=today).aggregate(day=Max("day"))["day"]
    if newest is None:
        first_row = UsageEvent.objects.aggregate(at=Min("created_at"))["at"]
        newest = timezone.localdate(first_row, timezone.get_default_timezone()) if first_row else today
    first = min(newest, today) - timedelta(days=1)
    return [first + timedelta(days=number) for number in range((today - first).days + 1)]


@transaction.atomic
def _refresh_day(day: date) -> None:
    found: dict[tuple[UUID, str], Sums] = defaultdict(Sums)
    price_of = _Prices()
    since, until = start_of(day), start_of(day + timedelta(days=1))
    for row in UsageEvent.objects.filter(created_at__gte=since, created_at__lt=until).iterator(ROWS_READ):
        sums = found[row.customer_id, row.model]
        sums.requests += 1
        sums.revenue_micro_rub += row.charged_micro_rub
        price = price_of(row)
        if price is not None:
            sums.cost_micro_rub += provider_cost(row, price)
    for row in _taken_back(since, until):
        found[row.customer_id, row.model].revenue_micro_rub -= row.charged_micro_rub
    CostDay.objects.bulk_create(
        [
            CostDay(day=day, customer_id=customer_id, model=model, **vars(sums))
            for (customer_id, model), sums in sorted(found.items())  # two at once wait in one direction
        ],
        batch_size=ROWS_READ,
        update_conflicts=True,
        unique_fields=["day", "customer_id", "model"],
        update_fields=["requests", "revenue_micro_rub", "cost_micro_rub"],
    )


def _taken_back(since: datetime, until: datetime) -> Iterator[UsageEvent]:
    """Usage rows whose charge was taken back in this time; the day it was earned on keeps it."""
    reversals = LedgerEntry.objects.filter(
        type=EntryType.REVERSAL, created_at__gte=since, created_at__lt=until
    )
    charges = [UUID(source_id) for source_id in reversals.values_list("source_id", flat=True)]
    runs = LedgerEntry.objects.filter(pk__in=charges, source_type="run").values_list("source_id", flat=True)
    rows = UsageEvent.objects.filter(run_id__in=[UUID(run) for run in runs], ledger_entry_id__in=charges)
    return rows.iterator(ROWS_READ)


class _Prices:
    """Price versions with their rates, each read once; None for one that is not there, which V27 tells of."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int | None], Price | None] = {}

    def __call__(self, row: UsageEvent) -> Price | None:
        key = (row.price_version_id, row.fx_rate_id)
        if key not in self._known:
            version = PriceVersion.objects.filter(pk=row.price_version_id).first()
            rate = FxRate.objects.filter(pk=row.fx_rate_id).first() if row.fx_rate_id is not None else None
            self._known[key] = prices.price_of(version, rate) if version is not None else None
        return self._known[key]


def _refresh_risks(now: datetime) -> int:
    """Judge whoever asked, paid or took back lately, and whoever was judged before."""
    since = now - timedelta(days=RISK_DAYS)
    costs = CostDay.objects.filter(day__gte=timezone.localdate(since, timezone.get_default_timezone()))
    moves = _moves(since)
    customers = {*costs.values_list("customer_id", flat=True).distinct(), *moves}
    customers |= set(CustomerRisk.objects.values_list("customer_id", flat=True))
    ordered = sorted(customers)
    for place in range(0, len(ordered), CUSTOMERS_JUDGED):
        _judge_all(ordered[place : place + CUSTOMERS_JUDGED], costs.order_by(), moves, now)
    return len(ordered)


def _judge_all(
    customers: list[UUID], costs: QuerySet[CostDay], moves: dict[UUID, Facts], now: datetime
) -> None:
    sums = {
        row["customer_id"]: row
        for row in costs.filter(customer_id__in=customers)
        .values("customer_id")
        .annotate(requests=Sum("requests"), revenue=Sum("revenue_micro_rub"), cost=Sum("cost_micro_rub"))
    }
    joined = dict(User.objects.filter(pk__in=customers).values_list("pk", "created_at"))
    rows = []
    for customer_id in customers:
        spent = sums.get(customer_id, {"requests": 0, "revenue": 0, "cost": 0})
        facts = replace(
            moves.get(customer_id, Facts()),
            requests=int(spent["requests"]),
            revenue_micro_rub=int(spent["revenue"]),
            cost_micro_rub=int(spent["cost"]),
            age_days=(now - joined.get(customer_id, now - timedelta(days=NEW_DAYS))).days,
        )
        level, reasons = judge(facts)
        rows.append(_risk(customer_id, level, reasons, facts, now))
    CustomerRisk.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["customer_id"],
        update_fields=[field.name for field in CustomerRisk._meta.concrete_fields if not field.primary_key],
    )


def _risk(
    customer_id: UUID, level: Level, reasons: list[Reason], facts: Facts, now: datetime
) -> CustomerRisk:
    return CustomerRisk(
        customer_id=customer_id,
        level=level,
        reasons=reasons,
        requests=facts.requests,
        revenue_micro_rub=facts.revenue_micro_rub,
        cost_micro_rub=facts.cost_micro_rub,
        topped_up_micro_rub=facts.topped_up_micro_rub,
        refunded_micro_rub=facts.refunded_micro_rub,
        computed_at=now,
    )


def _moves(since: datetime) -> dict[UUID, Facts]:
    """Top-ups, refunds and disputes since then, by customer."""
    entries = LedgerEntry.objects.filter(
        Q(type__in=[EntryType.TOPUP, EntryType.REFUND])
        | Q(type__in=[EntryType.CHARGEBACK, SystemEntryType.DEBT], key__startswith=DISPUTE_KEY),
        created_at__gte=since,
    )
    found: dict[UUID, Facts] = defaultdict(Facts)
    for entry in entries.iterator(ROWS_READ):
        customer_id = entry.customer_id or UUID(entry.source_id)  # a debt is booked between system accounts
        facts = found[customer_id]
        if entry.type == EntryType.TOPUP:
            paid = facts.topped_up_micro_rub + entry.amount_micro_rub
            found[customer_id] = replace(facts, topped_up_micro_rub=paid)
        else:
            found[customer_id] = replace(
                facts,
                refunded_micro_rub=facts.refunded_micro_rub + entry.amount_micro_rub,
                has_dispute=facts.has_dispute or entry.type != EntryType.REFUND,
            )
    return found
