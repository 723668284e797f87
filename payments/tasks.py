"""Celery's doors: one notification, one payment, the sweeps, the end of a month. All may run twice."""

from uuid import UUID

from celery import shared_task

from auditlog import jobs
from payments import inbox, refresh, sweep
from payments.invoices import bank, closing, issuing
from plyrum import clock
from plyrum.errors import PlyrumError

PAYMENTS_EVERY_SECONDS = 60
INBOX_EVERY_SECONDS = 30
INVOICES_EVERY_SECONDS = 600
DAY_SECONDS = 86_400


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


@shared_task
def sweep_invoices(slot: str = "", **_: object) -> str:
    """Invoices whose time is over, and bank lines that a crash left unsettled."""
    now = clock.now()
    return jobs.run_job(
        name="payments.sweep_invoices",
        slot=slot or jobs.slot_of(now, INVOICES_EVERY_SECONDS),
        now=now,
        work=lambda: {
            "expired": issuing.expire(now=now, actor=sweep.ACTOR),
            "settled": bank.settle_left_over(now=now, actor=sweep.ACTOR),
        },
    )


@shared_task
def settle_bank_lines(**_: object) -> None:
    """The rest of a large file; what does not fit into the time of a task waits for the sweep."""
    while bank.settle_left_over(now=clock.now(), actor=sweep.ACTOR):
        pass


@shared_task
def close_months(slot: str = "", **_: object) -> str:
    """Closing documents of the months that are over, and corrections of older ones; once a day is enough."""
    now = clock.now()
    return jobs.run_job(
        name="payments.close_months",
        slot=slot or jobs.slot_of(now, DAY_SECONDS),
        now=now,
        work=lambda: {"documents": closing.close_months(now=now, actor=sweep.ACTOR)},
    )
