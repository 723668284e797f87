"""The only table of periodic work: name, task, period. Every job may run twice, late or in parallel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`task` runs every `period_seconds`; beat sends it, `auditlog.jobs` makes each slot happen once."""

    name: str
    task: str
    period_seconds: int


# Daily work is sent every hour: its slot is the day, so it happens once, and again after a failure.
HOUR = 3600

JOBS = (
    Job("plyrum.heartbeat", "plyrum.tasks.heartbeat", 30),
    Job("orchestration.sweep_runs", "orchestration.tasks.sweep_runs", 15),
    Job("billing.sweep_holds", "billing.tasks.sweep_holds", 60),
    Job("billing.sweep_lots", "billing.tasks.sweep_lots", 60),
    Job("billing.collect_debts", "billing.tasks.collect_debts", 60),
    Job("billing.sweep_requests", "billing.tasks.sweep_requests", HOUR),
    Job("plans.keep_subscriptions", "plans.tasks.keep_subscriptions", 60),
    Job("payments.sweep_payments", "payments.tasks.sweep_payments", 60),
    Job("payments.sweep_inbox", "payments.tasks.sweep_inbox", 30),
    Job("payments.sweep_invoices", "payments.tasks.sweep_invoices", 600),
    Job("payments.close_months", "payments.tasks.close_months", HOUR),
    Job("billing.refresh_rates", "billing.tasks.refresh_rates", HOUR),
    Job("billing.verify_books", "billing.tasks.verify_books", HOUR),
    Job("billing.close_days", "billing.tasks.close_days", HOUR),
    Job("billing.roll_usage", "billing.tasks.roll_usage", HOUR),
    Job("billing.reconcile", "billing.tasks.reconcile", HOUR),
    Job("billing.watch_balances", "billing.tasks.watch_balances", 60),
    Job("accounts.send_notices", "accounts.tasks.send_notices", 60),
    Job("billing.write_limit_letters", "billing.tasks.write_limit_letters", 60),
    Job("billing.refresh_costs", "billing.tasks.refresh_costs", HOUR),
    Job("accounts.prune_refresh_tokens", "accounts.tasks.prune_refresh_tokens", HOUR),
    Job("auditlog.prune_job_runs", "auditlog.tasks.prune_job_runs", HOUR),
)

BEAT_SCHEDULE = {
    job.name: {"task": job.task, "schedule": job.period_seconds, "options": {"expires": job.period_seconds}}
    for job in JOBS
}
