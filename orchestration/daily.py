"""Spending by day, as the charts show it: days of Moscow, oldest first, without gaps. Reads only."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from billing import queries
from billing.models import UsageEvent


def start_of(day: date) -> datetime:
    """The first moment of a day of Moscow (the zone of the money pages)."""
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())


def days(rows: QuerySet[UsageEvent], *, first: date, last: date) -> list[dict[str, Any]]:
    """{date, cost_micro_rub} of every day from `first` to `last`; nothing when `rows` is empty."""
    spent = {row["key"]: row["cost_micro_rub"] for row in queries.usage_summary(rows, "day")}
    if not spent:
        return []
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [{"date": day, "cost_micro_rub": spent.get(day.isoformat(), 0)} for day in dates]
