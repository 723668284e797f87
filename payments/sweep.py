"""The periodic work that finishes what a lost webhook, a lost nudge or a crash left. Called by `tasks`.

Every round takes the longest waiting rows first and stops in good time; the next round goes on.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from uuid import UUID

import structlog
from django.db.models import F

from auditlog.actors import Actor
from payments import inbox, refresh
from payments.models import Payment, WebhookEvent
from plyrum.errors import PlyrumError

log = structlog.get_logger(__name__)

ACTOR = Actor.system("payments.sweep")
ROWS_AT_MOST = 200
SECONDS_AT_MOST = 60.0  # a task is killed after 120 s, and one call may take 40


def open_payments(*, now: datetime) -> dict[str, int]:
    """Ask the provider about every open payment whose time has come; answers {asked, failed}."""
    longest_first = F("last_asked_at").asc(nulls_first=True)
    rows = Payment.objects.due_for_asking(now).order_by(longest_first, "id").values_list("pk", flat=True)
    return _each(
        rows[:ROWS_AT_MOST],
        lambda payment_id: refresh.refresh(payment_id=payment_id, now=now, actor=ACTOR),
    )


def waiting_events(*, now: datetime) -> dict[str, int]:
    """Work on every stored notification that nobody worked on; answers {asked, failed}."""
    rows = WebhookEvent.objects.due(now).order_by("next_attempt_at", "id").values_list("pk", flat=True)
    return _each(rows[:ROWS_AT_MOST], lambda event_id: inbox.process(event_id=event_id, now=now))


def _each(ids: Iterable[UUID], work: Callable[[UUID], object]) -> dict[str, int]:
    """Do `work` on each; one row's failure does not keep the others waiting."""
    counts = {"asked": 0, "failed": 0}
    deadline = time.monotonic() + SECONDS_AT_MOST
    for row_id in ids:
        if time.monotonic() > deadline:
            break
        counts["asked"] += 1
        try:
            work(row_id)
        except PlyrumError:
            counts["failed"] += 1
        except Exception:  # the edge of a worker's loop: a fault of one row stays with it
            log.exception("sweep_failed", row_id=str(row_id))
            counts["failed"] += 1
    return counts
