"""The image quota of a period: one request is taken when its run opens and given back when it fails.

Exact here, shown to customers in steps of 20 % only (`bucket`). Called inside the transaction that opens or
ends an image run; the period's row is locked before anything of it is read, before the wallet.
"""

from datetime import datetime
from uuid import UUID

from django.db.models import F

from plans.errors import NoImageQuota, QuotaSpent
from plans.models import QuotaUse, SubscriptionPeriod
from plyrum.clock import rfc3339
from plyrum.transactions import require_transaction

STEPS = 5  # 100, 80, 60, 40, 20, 0


def take(*, customer_id: UUID, key: str, now: datetime) -> bool:
    """Take one request from the period that is running, once per key; False when the key has one already.

    Must run inside the caller's transaction. Raises NoImageQuota, QuotaSpent.
    """
    require_transaction()
    running = SubscriptionPeriod.objects.filter(
        customer_id=customer_id, starts_at__lte=now, ends_at__gt=now, image_quota__gt=0
    )
    period = running.select_for_update(no_key=True).order_by("-starts_at").first()
    if QuotaUse.objects.filter(pk=key).exists():
        return False
    if period is None:
        raise NoImageQuota
    if period.images_used >= period.image_quota:
        raise QuotaSpent(renews_at=rfc3339(period.ends_at))
    QuotaUse.objects.create(key=key, period=period, created_at=now)
    SubscriptionPeriod.objects.filter(pk=period.pk).update(images_used=F("images_used") + 1)
    return True


def give_back(*, key: str) -> bool:
    """Return the request of a failed run to its own period; False when it was returned before.

    Must run inside the caller's transaction.
    """
    require_transaction()
    use = QuotaUse.objects.filter(pk=key).first()
    if use is None:
        return False
    SubscriptionPeriod.objects.select_for_update(no_key=True).get(pk=use.period_id)
    if not QuotaUse.objects.filter(pk=key).delete()[0]:
        return False
    SubscriptionPeriod.objects.filter(pk=use.period_id).update(images_used=F("images_used") - 1)
    return True


def bucket(period: SubscriptionPeriod | None) -> int:
    """What remains, in per cent, rounded up to the next 20: all that a customer is told."""
    if period is None or not period.image_quota:
        return 0
    left = period.image_quota - period.images_used
    return -(-left * STEPS // period.image_quota) * 100 // STEPS
