"""A letter when little is left: the customer names a sum, the watch writes once per fall below it.

What running requests reserve counts as still there: it mostly comes back, and a letter for each request would
teach nobody anything. Money that comes in above the sum arms the alert again.
"""

from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from accounts import notices
from auditlog import journal
from auditlog.actors import Actor
from billing.watch_models import BalanceAlert

LETTER = "balance_low"
BATCH = 200
# Those whose state is not what it should be, so that the ordinary minute locks nobody.
CHANGED = """
SELECT a.customer_id, l.left_micro_rub
  FROM billing_balancealert a
 CROSS JOIN LATERAL (SELECT coalesce(sum(remaining_micro_rub), 0)::bigint AS left_micro_rub
                       FROM billing_creditlot
                      WHERE customer_id = a.customer_id AND NOT is_spent
                        AND (expires_at IS NULL OR expires_at > ledger_clock())) l
 WHERE a.is_low <> (l.left_micro_rub < a.threshold_micro_rub)
 ORDER BY a.customer_id LIMIT %s FOR UPDATE OF a SKIP LOCKED
"""


def threshold(customer_id: UUID) -> int | None:
    """In micro-RUB; None when the customer wants no letter."""
    rows = BalanceAlert.objects.filter(customer_id=customer_id)
    return rows.values_list("threshold_micro_rub", flat=True).first()


@transaction.atomic(durable=True)
def set_threshold(*, customer_id: UUID, micro_rub: int | None, now: datetime, actor: Actor) -> None:
    """Write when less than `micro_rub` is left; None is never. Another sum arms the alert anew.

    `micro_rub` is above zero and at most shapes.MOST_MICRO_RUB.
    """
    BalanceAlert.objects.bulk_create(
        [BalanceAlert(customer_id=customer_id, created_at=now)], ignore_conflicts=True
    )
    alert = BalanceAlert.objects.select_for_update(no_key=True).get(customer_id=customer_id)
    if alert.threshold_micro_rub == micro_rub:
        return
    alert.threshold_micro_rub, alert.is_low = micro_rub, False
    alert.save(update_fields=["threshold_micro_rub", "is_low"])
    journal.record(
        actor=actor,
        action="billing.alert.set",
        subject=f"wallet:{customer_id}",
        data={"threshold_micro_rub": micro_rub},
        target_user_id=customer_id,
    )


def watch(*, now: datetime) -> int:
    """Write the letters that are due and arm what has risen; answers how many letters were written."""
    letters = 0
    while (found := _watch_some(now)) is not None:
        letters += found
    return letters


@transaction.atomic(durable=True)
def _watch_some(now: datetime) -> int | None:
    """None when nothing has changed any more. A row that another worker holds is left to it."""
    with connection.cursor() as cursor:
        cursor.execute(CHANGED, [BATCH])
        changed = dict(cursor.fetchall())
    if not changed:
        return None
    letters = 0
    for alert in BalanceAlert.objects.filter(customer_id__in=changed).order_by("customer_id"):
        alert.is_low = changed[alert.customer_id] < (alert.threshold_micro_rub or 0)
        alert.number += alert.is_low
        alert.save(update_fields=["is_low", "number"])
        if alert.is_low:
            facts = {
                "left_micro_rub": changed[alert.customer_id],
                "threshold_micro_rub": alert.threshold_micro_rub,
            }
            key = f"{LETTER}:{alert.customer_id}:{alert.number}"
            letters += notices.write(user_id=alert.customer_id, letter=LETTER, key=key, facts=facts, now=now)
    return letters
