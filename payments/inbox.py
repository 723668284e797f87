"""The inbox of notifications: store once, answer at once, work later. A notification is a hint, never proof.

`store` is called by the webhook door, `process` by the worker. What a notification says about money is never
believed: the object is read from the provider with our credentials, and only that is applied.
"""

import hashlib
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, Q

from auditlog.actors import Actor
from payments import queries, settlement, yookassa
from payments.errors import RemoteNotFoundError
from payments.models import Payment, Provider, WebhookEvent
from payments.shapes import Notification
from plyrum.errors import AdapterError
from plyrum.nudges import nudge

log = structlog.get_logger(__name__)

ACTOR = Actor.system("payments.inbox")
Outcome = WebhookEvent.Outcome
ATTEMPTS_AT_MOST = 20  # with the pauses below about half a day; the sweep of open payments never gives up
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
LEASE = timedelta(minutes=3)  # longer than a task may live
KEEP_BODIES = timedelta(days=90)  # legal guide 14
# A settled row is worked on again when it arrives again, but not more often than this.
REOPEN_EVERY = timedelta(minutes=1)


@transaction.atomic(durable=True)
def store(*, notification: Notification, raw_body: bytes, source_ip: str, now: datetime) -> UUID:
    """Keep the notification once by (event, object) and nudge the worker; answers the row's id.

    Arriving again wakes a row that waits, or that found nothing of ours or gave up.
    """
    fresh = WebhookEvent(
        provider=Provider.YOOKASSA,
        event_key=f"{notification.event}:{notification.object_id}",
        event=notification.event,
        object_id=notification.object_id,
        payload_sha256=hashlib.sha256(raw_body).hexdigest(),
        raw_body=raw_body,
        source_ip=source_ip or None,
        received_at=now,
        next_attempt_at=now,
    )
    WebhookEvent.objects.bulk_create([fresh], ignore_conflicts=True)
    kept = WebhookEvent.objects.only("id").get(provider=Provider.YOOKASSA, event_key=fresh.event_key)
    if kept.pk == fresh.pk or _wake(kept.pk, now):
        nudge("payments.tasks.process_event", event_id=str(kept.pk))
    return kept.pk


def process(*, event_id: UUID, now: datetime) -> str:
    """Work on one notification; answers its outcome, "" while it waits or somebody else works on it.

    What raises leaves the row waiting: the lease ends and the sweep takes it again.
    """
    event = _claim(event_id, now)
    if event is None:
        return ""
    if event.attempts > ATTEMPTS_AT_MOST:
        return _finish(event, Outcome.PARKED, now, event.error)
    try:
        outcome, note = _work(event, now)
    except AdapterError as failure:
        outcome, note = Outcome.WAITING, failure.detail
    if outcome == Outcome.WAITING:
        return _postpone(event, note, now)
    return _finish(event, outcome, now, note)


def forget_bodies(*, now: datetime) -> int:
    """Of old notifications only hash and outcome stay: a body may hold the payer's data. Answers how many."""
    old = WebhookEvent.objects.filter(received_at__lt=now - KEEP_BODIES).exclude(raw_body=b"")
    return old.update(raw_body=b"", source_ip=None)


def _wake(event_id: UUID, now: datetime) -> bool:
    is_waiting = Q(processed_at__isnull=True)
    is_open_question = Q(
        outcome__in=(Outcome.FOREIGN, Outcome.PARKED), processed_at__lte=now - REOPEN_EVERY, attempts__gt=0
    )
    changed = WebhookEvent.objects.filter(is_waiting | is_open_question, pk=event_id).update(
        next_attempt_at=now, processed_at=None, outcome=Outcome.WAITING, attempts=0
    )
    return changed == 1


def _claim(event_id: UUID, now: datetime) -> WebhookEvent | None:
    """One statement decides who works on the row for the time of the lease."""
    claimed = WebhookEvent.objects.due(now).filter(pk=event_id)
    if claimed.update(attempts=F("attempts") + 1, next_attempt_at=now + LEASE) != 1:
        return None
    return WebhookEvent.objects.get(pk=event_id)


def _work(event: WebhookEvent, now: datetime) -> tuple[Outcome, str]:
    """Read the object and apply it. Refunds and other kinds are kept and left alone.

    What the provider still calls open was announced too early, or not by the provider: look again later.
    """
    if not event.event.startswith("payment."):
        return Outcome.UNHANDLED, ""
    try:
        remote = yookassa.get(event.object_id)
    except RemoteNotFoundError as failure:
        return Outcome.FOREIGN, failure.detail
    payment_id = queries.behind(remote)
    if payment_id is None:
        log.error("notification_of_foreign_payment", event_id=str(event.pk), object_id=event.object_id)
        return Outcome.FOREIGN, "no payment of ours is behind this object"
    before = Payment.objects.values_list("status", flat=True).get(pk=payment_id)
    payment = settlement.apply(payment_id=payment_id, remote=remote, now=now, actor=ACTOR)
    if payment.is_open:
        return Outcome.WAITING, f"the provider says {remote.status[:40]}"
    return (Outcome.UNCHANGED if payment.status == before else Outcome.APPLIED), ""


def _postpone(event: WebhookEvent, note: str, now: datetime) -> str:
    pause = min(FIRST_PAUSE * 2 ** min(event.attempts - 1, 16), LONGEST_PAUSE)
    WebhookEvent.objects.filter(pk=event.pk, processed_at__isnull=True).update(
        next_attempt_at=now + pause, error=note[:300]
    )
    log.warning("notification_postponed", event_id=str(event.pk), attempts=event.attempts, reason=note)
    return ""


def _finish(event: WebhookEvent, outcome: Outcome, now: datetime, note: str) -> str:
    WebhookEvent.objects.filter(pk=event.pk).update(
        outcome=outcome, processed_at=now, next_attempt_at=None, error=note[:300]
    )
    if outcome == Outcome.PARKED:
        log.error("notification_parked", event_id=str(event.pk), attempts=event.attempts)
    return outcome.value
