"""Daily roots: one hash over the heads of all wallets, and all other entries, at the end of a day of Moscow.

Written by the daily job, compared by check V44 and by the command `daily_root` with what was stored outside.
A root is never changed; closing a day twice or late writes what closing it once in time would have written.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import connection, transaction

from billing.models import DailyRoot
from plyrum import clock

# Whoever wrote an entry before midnight has committed by then: a statement and a pause may take 30 s each.
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Root:
    """`digest` is SHA-256 in hex; `wallets` that had an entry by then; `entries` are theirs and nobody's."""

    day: date
    digest: str
    wallets: int
    entries: int

    def __str__(self) -> str:
        """The line that is stored outside and read back by `daily_root --check`."""
        return f"{self.day} {self.digest} {self.wallets} {self.entries}"


def last_over(now: datetime) -> date:
    """The newest day that may be closed at `now`."""
    return clock.day_of(now - GRACE) - timedelta(days=1)


@transaction.atomic(durable=True)
def close(*, now: datetime) -> int:
    """Write the roots of all days that are over and not closed; answers how many.

    The first root ever is that of the newest day: it covers every day before it.
    """
    last = last_over(now)
    newest = DailyRoot.objects.order_by("-day").values_list("day", flat=True).first()
    first = newest + timedelta(days=1) if newest else last
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")  # every wallet is looked at
        for day in days:
            cursor.execute(
                "INSERT INTO billing_dailyroot (day, root, wallets, entries, created_at)"
                " SELECT %s, root, wallets, entries, now() FROM ledger_root(%s) ON CONFLICT DO NOTHING",
                [day, day],
            )
    return len(days)


def stored(day: date | None = None) -> Root | None:
    """The root that was written for `day`, without it the newest; None while there is none."""
    rows = DailyRoot.objects.order_by("-day")
    row = (rows.filter(day=day) if day else rows).first()
    return Root(row.day, bytes(row.root).hex(), row.wallets, row.entries) if row else None


@transaction.atomic(durable=True)
def recompute(day: date) -> Root:
    """The root of `day` as the entries make it now."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SELECT root, wallets, entries FROM ledger_root(%s)", [day])
        digest, wallets, entries = cursor.fetchone()
    return Root(day, bytes(digest).hex(), wallets, entries)
