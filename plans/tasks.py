"""Celery's door: the periodic work of subscriptions."""

from datetime import datetime

from auditlog import jobs
from plans import lifecycle


@jobs.periodic(jobs.MINUTE)
def keep_subscriptions(now: datetime) -> dict[str, int]:
    """End, renew and warn."""
    return lifecycle.keep(now=now)
