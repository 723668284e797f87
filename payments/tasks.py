"""Celery's doors: one notification, one payment, the sweeps, the end of a month. All may run twice."""

from datetime import datetime
from uuid import UUID

from celery import shared_task

from auditlog import jobs
from payments import inbox, refresh, sweep
from payments.invoices import bank, closing, issuing
from plyrum import clock
from plyrum.errors import PlyrumError


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


@jobs.periodic(jobs.MINUTE)
def sweep_payments(now: datetime) -> dict[str, int]:
    return sweep.open_payments(now=now)


@jobs.periodic(30)
def sweep_inbox(now: datetime) -> dict[str, int]:
    return sweep.waiting_events(now=now)


@jobs.periodic(jobs.DAY)
def forget_bodies(now: datetime) -> dict[str, int]:
    return {"notifications": inbox.forget_bodies(now=now)}


@jobs.periodic(10 * jobs.MINUTE)
def sweep_invoices(now: datetime) -> dict[str, int]:
    """Invoices whose time is over, and bank lines that a crash left unsettled."""
    return {
        "expired": issuing.expire(now=now, actor=sweep.ACTOR),
        "settled": bank.settle_left_over(now=now, actor=sweep.ACTOR),
    }


@shared_task
def settle_bank_lines(**_: object) -> None:
    """The rest of a large file; what does not fit into the time of a task waits for the sweep."""
    while bank.settle_left_over(now=clock.now(), actor=sweep.ACTOR):
        pass


@jobs.periodic(jobs.DAY, is_long=True)
def close_months(now: datetime) -> dict[str, int]:
    """Closing documents of the months that are over, and corrections of older ones; once a day is enough."""
    return {"documents": closing.close_months(now=now, actor=sweep.ACTOR)}
