"""Spending by day, as the charts show it: days of Moscow, oldest first, without gaps. Reads only."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

from billing import queries
from plyrum import clock


def days(customer_id: UUID, *, first: date, last: date, model: str | None = None) -> list[dict[str, Any]]:
    """{date, cost_micro_rub} of every day from `first` to `last`; nothing when nothing was used in them."""
    rows = queries.usage_summary(
        customer_id,
        group_by="day",
        model=model,
        since=clock.start_of(first),
        until=clock.start_of(last + timedelta(days=1)),
    )
    if not rows:
        return []
    spent = {row["key"]: row["cost_micro_rub"] for row in rows}
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [{"date": day, "cost_micro_rub": spent.get(day.isoformat(), 0)} for day in dates]
