"""Celery's doors: work on one notification, ask about one payment, and the two sweeps. All may run twice."""

from uuid import UUID

from celery import shared_task

from auditlog import jobs
from payments import inbox, refresh, sweep
from plyrum import clock
from plyrum.errors import PlyrumError

PAYMENTS_EVERY_SECONDS = 60
INBOX_EVERY_SECONDS = 30


@shared_task
def process_event(event_id: str, **_: object) -> None:
    inbox.process(event_id=UUID(event_id), now=clock.now())


@shared_task
def refresh_payment(payment_id: str, **_: object) -> None:
    """An expected failure was logged where it happened; the sweep comes back to the payment."""
    try:
        refresh.refresh(payment_id=UUID(payment_id), now=clock.now(), actor=sweep.ACTOR)
    except PlyrumError:
        return


@shared_task
def sweep_payments(slot: str = "", **_: object) -> str:
    now = clock.now()
    return jobs.run_job(
        name="payments.sweep_payments",
        slot=slot or jobs.slot_of(now, PAYMENTS_EVERY_SECONDS),
        now=now,
        work=lambda: sweep.open_payments(now=now),
    )


@shared_task
def sweep_inbox(slot: str = "", **_: object) -> str:
    now = clock.now()
    return jobs.run_job(
        name="payments.sweep_inbox",
        slot=slot or jobs.slot_of(now, INBOX_EVERY_SECONDS),
        now=now,
        work=lambda: sweep.waiting_events(now=now),
    )
