"""Roll-ups of usage: sums of the rows of closed days, so that a summary does not read a year of rows.

A day closes when no usage row of it can come any more. Time alone does not tell: a row's time is taken under
the wallet's lock, and it is committed later. So once a day is over it is announced with a transaction id,
the barrier. Whoever takes a row's time has an id by then (it has locked the wallet or changed the run), so a
row of the day belongs to a transaction below the barrier. When all of these have ended, the day is summed.
Source: docs/decisions/0030-usage-roll-ups.md. Check V46 compares roll-ups and rows.
"""

from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from billing import daily_roots, queries
from billing.watch_models import UsageDay, UsageRollup
from plyrum import clock

ANNOUNCE = """
INSERT INTO billing_usageday (day, barrier) VALUES (%s, pg_current_xact_id()::text::bigint)
ON CONFLICT DO NOTHING
"""
# Locks what may be closed, in one order; whoever waited finds it closed.
WAITING = "SELECT day, barrier FROM billing_usageday WHERE closed_at IS NULL ORDER BY day FOR UPDATE"
ALL_DAYS = "SELECT day FROM billing_usageday ORDER BY day FOR UPDATE"
OLDEST_UNDER_WAY = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
SUM = """
INSERT INTO billing_usagerollup (customer_id, day, model, api_key_id, kind, requests, input_tokens,
            output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, images, cost_micro_rub,
            charged_micro_rub)
SELECT customer_id, (created_at AT TIME ZONE 'Europe/Moscow')::date, model, api_key_id, kind, count(*),
       sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), sum(cache_write_tokens),
       sum(reasoning_tokens), sum(images), sum(cost_micro_rub), sum(charged_micro_rub)
  FROM billing_usageevent
 WHERE created_at >= %(since)s::timestamptz AND created_at < %(until)s
 GROUP BY 1, 2, 3, 4, 5
"""


def roll(*, now: datetime) -> int:
    """Close the days that are over and complete; answers how many days were closed.

    Safe twice, late and in parallel. A day in which somebody still writes is closed by a later call.
    """
    last = daily_roots.last_over(now)
    closed = queries.closed_through()
    if closed is not None and last <= closed:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(ANNOUNCE, [last])  # a transaction of its own: its id is younger than the day
    return _close(now)


@transaction.atomic(durable=True)
def rebuild() -> int:
    """Sum all closed days anew; answers the number of roll-ups. Readers see the old ones or the new ones."""
    with connection.cursor() as cursor:
        cursor.execute(ALL_DAYS)
    UsageRollup.objects.all().delete()
    closed = queries.closed_through()
    return _sum(None, closed) if closed is not None else 0


@transaction.atomic(durable=True)
def _close(now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        waiting = cursor.fetchall()
        cursor.execute(OLDEST_UNDER_WAY)
        (oldest,) = cursor.fetchone()
    complete = [day for day, barrier in waiting if barrier <= oldest]
    if not complete:
        return 0
    _sum(queries.closed_through(), complete[-1])
    return UsageDay.objects.filter(day__lte=complete[-1], closed_at=None).update(closed_at=now)


def _sum(after: date | None, last: date) -> int:
    """Add the roll-ups of the days behind `after` up to `last`; without `after` from the first row on."""
    since = clock.start_of(after + timedelta(days=1)) if after else "-infinity"
    parameters: dict[str, Any] = {"since": since, "until": clock.start_of(last + timedelta(days=1))}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")  # every row of the days is read
        cursor.execute(SUM, parameters)
        return int(cursor.rowcount)
