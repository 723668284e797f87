"""The due work of all subscriptions, for beat: move what is due, warn who is near the end.

Any round may run late, twice or beside another: each subscription is locked, asked again what is due, and
moved in a transaction of its own. One that fails does not keep the others waiting.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q

from auditlog.actors import Actor
from plans import clockwork
from plans.models import Subscription, SubscriptionQuerySet

log = structlog.get_logger(__name__)

ACTOR = Actor.system("plans.lifecycle")
ROWS_AT_MOST = 500
SECONDS_AT_MOST = 60.0  # a task is killed after 120 s


def keep(*, now: datetime) -> dict[str, int]:
    """Move every subscription whose time has come and write the warnings; the longest waiting first."""
    due = Subscription.objects.filter(due_at__lte=now).order_by("due_at", "pk")
    near = Subscription.objects.filter(_is_unwarned(now), state=Subscription.State.ACTIVE, due_at__gt=now)
    deadline = time.monotonic() + SECONDS_AT_MOST
    moved, failed = _each(_ids(due), lambda pk: advance(subscription_id=pk, now=now), deadline)
    warned, unwarned = _each(
        _ids(near.order_by("due_at", "pk")), lambda pk: warn(subscription_id=pk, now=now), deadline
    )
    return {"moved": moved, "warned": warned, "failed": failed + unwarned}


@transaction.atomic(durable=True)
def advance(*, subscription_id: UUID, now: datetime) -> None:
    """Bring one subscription to `now`; one that was moved meanwhile stays as it is."""
    clockwork.catch_up(_locked(subscription_id), now=now, actor=ACTOR)


@transaction.atomic(durable=True)
def warn(*, subscription_id: UUID, now: datetime) -> None:
    clockwork.warn(_locked(subscription_id), now=now)


def _locked(subscription_id: UUID) -> Subscription:
    return Subscription.objects.locked().get(pk=subscription_id)


def _is_unwarned(now: datetime) -> Q:
    first, last = (now + timedelta(days=days) for days in clockwork.WARNING_DAYS)
    return Q(due_at__lte=first, warned_days=None) | Q(
        due_at__lte=last, warned_days__gt=clockwork.WARNING_DAYS[-1]
    )


def _ids(rows: SubscriptionQuerySet) -> list[UUID]:
    return list(rows.values_list("pk", flat=True)[:ROWS_AT_MOST])


def _each(ids: Iterable[UUID], work: Callable[[UUID], None], until_seconds: float) -> tuple[int, int]:
    """Do `work` on each; how many were done, how many failed."""
    done = failed = 0
    for pk in ids:
        if time.monotonic() > until_seconds:
            break
        try:
            work(pk)
            done += 1
        except Exception:  # the edge of a worker's loop: a fault of one row stays with it
            log.exception("subscription_failed", subscription_id=str(pk))
            failed += 1
    return done, failed
