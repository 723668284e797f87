"""Clock doors of orchestration."""

from celery import shared_task

from auditlog import jobs
from orchestration import sweep
from plyrum import clock

SWEEP_SECONDS = 15


@shared_task
def sweep_runs(slot: str = "", **_: object) -> None:
    now = clock.now()
    jobs.run_job(
        name="orchestration.sweep_runs",
        slot=slot or jobs.slot_of(now, SWEEP_SECONDS),
        now=now,
        work=lambda: sweep.sweep(now=now),
    )
