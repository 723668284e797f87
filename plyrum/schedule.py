"""The only table of periodic work: name and period. Every job may run twice, late or in parallel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`task` runs every `period_seconds`; beat sends it, `auditlog.jobs` makes each slot happen once."""

    name: str  # the app and the function in its tasks.py
    period_seconds: int

    @property
    def task(self) -> str:
        app, function = self.name.split(".")
        return f"{app}.tasks.{function}"


# Daily work is sent every hour: its slot is the day, so it happens once, and again after a failure.
HOUR = 3600

JOBS = (
    Job("plyrum.heartbeat", 30),
    Job("orchestration.sweep_runs", 15),
    Job("billing.sweep_holds", 60),
    Job("billing.sweep_lots", 60),
    Job("billing.collect_debts", 60),
    Job("billing.sweep_requests", HOUR),
    Job("plans.keep_subscriptions", 60),
    Job("payments.sweep_payments", 60),
    Job("payments.sweep_inbox", 30),
    Job("payments.forget_bodies", HOUR),
    Job("payments.sweep_invoices", 600),
    Job("payments.close_months", HOUR),
    Job("billing.refresh_rates", HOUR),
    Job("billing.verify_books", HOUR),
    Job("billing.close_days", HOUR),
    Job("billing.roll_usage", HOUR),
    Job("billing.reconcile", HOUR),
    Job("billing.watch_balances", 60),
    Job("accounts.send_notices", 60),
    Job("billing.write_limit_letters", 60),
    Job("billing.refresh_costs", HOUR),
    Job("accounts.prune_refresh_tokens", HOUR),
    Job("auditlog.prune_job_runs", HOUR),
)

BEAT_SCHEDULE = {
    job.name: {"task": job.task, "schedule": job.period_seconds, "options": {"expires": job.period_seconds}}
    for job in JOBS
}
