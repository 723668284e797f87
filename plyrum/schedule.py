"""The only table of periodic work: name, task, period. Every job may run twice, late or in parallel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`task` runs every `period_seconds`; beat sends it, `auditlog.jobs` makes each slot happen once."""

    name: str
    task: str
    period_seconds: int


JOBS = (
    Job("worker-heartbeat", "plyrum.tasks.heartbeat", 30),
    Job("runs-sweep", "orchestration.tasks.sweep_runs", 15),
    Job("holds-sweep", "billing.tasks.sweep_holds", 60),
    Job("payments-sweep", "payments.tasks.sweep_payments", 60),
    Job("inbox-sweep", "payments.tasks.sweep_inbox", 30),
    Job("ledger-verify", "billing.tasks.verify_books", 24 * 3600),
    Job("tokens-prune", "accounts.tasks.prune_refresh_tokens", 24 * 3600),
)

BEAT_SCHEDULE = {
    job.name: {"task": job.task, "schedule": job.period_seconds, "options": {"expires": job.period_seconds}}
    for job in JOBS
}
