"""Clock doors of orchestration."""

from datetime import datetime

from auditlog import jobs
from orchestration import sweep


@jobs.periodic(15)
def sweep_runs(now: datetime) -> dict[str, int]:
    return sweep.sweep(now=now)
