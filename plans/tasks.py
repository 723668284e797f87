"""Celery's door: the periodic work of subscriptions."""

from celery import shared_task

from auditlog import jobs
from plans import lifecycle
from plyrum import clock

EVERY_SECONDS = 60


@shared_task
def keep_subscriptions(slot: str = "", **_: object) -> str:
    """End, renew and warn."""
    now = clock.now()
    return jobs.run_job(
        name="plans.keep_subscriptions",
        slot=slot or jobs.slot_of(now, EVERY_SECONDS),
        now=now,
        work=lambda: lifecycle.keep(now=now),
    )
