"""Periodic work about the records of periodic work."""

from datetime import datetime, timedelta

from auditlog import jobs
from auditlog.models import JobRun

KEEP = timedelta(days=30)


@jobs.periodic(jobs.DAY)
def prune_job_runs(now: datetime) -> dict[str, int]:
    """Delete records older than KEEP and say of abandoned ones that they failed."""
    deleted, _ = JobRun.objects.filter(started_at__lt=now - KEEP).delete()
    abandoned = JobRun.objects.filter(
        outcome=JobRun.Outcome.RUNNING, started_at__lt=now - jobs.ABANDONED_AFTER
    ).update(outcome=JobRun.Outcome.FAILED, detail="abandoned", finished_at=now)
    return {"deleted": deleted, "abandoned": abandoned}
