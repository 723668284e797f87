"""Periodic work about the records of periodic work."""

from datetime import datetime, timedelta

from celery import shared_task

from auditlog import jobs
from auditlog.models import JobRun
from plyrum import clock

DAY_SECONDS = 24 * 3600
KEEP = timedelta(days=30)


@shared_task
def prune_job_runs(slot: str = "", **_: object) -> str:
    """Delete records older than KEEP and say of abandoned ones that they failed."""
    now = clock.now()
    return jobs.run_job(
        name="auditlog.prune_job_runs",
        slot=slot or jobs.slot_of(now, DAY_SECONDS),
        now=now,
        work=lambda: prune(now),
    )


def prune(now: datetime) -> dict[str, int]:
    deleted, _ = JobRun.objects.filter(started_at__lt=now - KEEP).delete()
    abandoned = JobRun.objects.filter(
        outcome=JobRun.Outcome.RUNNING, started_at__lt=now - jobs.ABANDONED_AFTER
    ).update(outcome=JobRun.Outcome.FAILED, detail="abandoned", finished_at=now)
    return {"deleted": deleted, "abandoned": abandoned}
