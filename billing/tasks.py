"""Periodic work about money: what has expired, the day's rates, the proof of the books, the roots of days."""

from collections.abc import Callable
from datetime import datetime

from celery import shared_task

from auditlog import jobs
from auditlog.actors import Actor
from auditlog.models import JobRun
from billing import (
    acts,
    alerts,
    costs,
    daily_roots,
    ledger,
    limit_alerts,
    rates,
    reconciliation,
    rollups,
    verification,
)
from billing.verification import BooksBrokenError, BooksNotProvedError
from plyrum import clock

SWEEP = Actor.system("billing.sweep_requests")
MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * 3600
BATCH = 100  # holds or lots in one transaction: their wallets are locked together
MOST_BATCHES = 200  # then the next minute goes on
# Above the ordinary limit of tasks, below the time after which auditlog.jobs takes the worker for dead.
VERIFY_SECONDS = 540


@shared_task
def sweep_holds(slot: str = "", **_: object) -> str:
    """Give back the holds whose time is over."""
    now = clock.now()
    return jobs.run_job(
        name="billing.sweep_holds", slot=slot or jobs.slot_of(now, MINUTE_SECONDS), now=now, work=expire_holds
    )


@shared_task
def sweep_lots(slot: str = "", **_: object) -> str:
    """Move to the breakage what is left in lots whose time is over."""
    now = clock.now()
    return jobs.run_job(
        name="billing.sweep_lots", slot=slot or jobs.slot_of(now, MINUTE_SECONDS), now=now, work=expire_lots
    )


@shared_task
def collect_debts(slot: str = "", **_: object) -> str:
    """Repay debts of disputed payments with what running requests have given back since."""
    now = clock.now()
    return jobs.run_job(
        name="billing.collect_debts",
        slot=slot or jobs.slot_of(now, MINUTE_SECONDS),
        now=now,
        work=lambda: {"customers": ledger.collect(ledger.debtors()[:BATCH])},
    )


@shared_task
def refresh_rates(slot: str = "", **_: object) -> str:
    """Add the day's official rates; a refused list fails the job, which the next hour tries again."""
    now = clock.now()
    return jobs.run_job(
        name="billing.refresh_rates",
        slot=slot or jobs.slot_of(now, DAY_SECONDS),
        now=now,
        work=lambda: rates.refresh(now=now),
    )


@shared_task
def sweep_requests(slot: str = "", **_: object) -> str:
    """Close operators' requests that nobody decided in time."""
    now = clock.now()
    return jobs.run_job(
        name="billing.sweep_requests",
        slot=slot or jobs.slot_of(now, HOUR_SECONDS),
        now=now,
        work=lambda: {"requests": acts.expire_requests(now=now, actor=SWEEP)},
    )


@shared_task(time_limit=VERIFY_SECONDS)
def verify_books(slot: str = "", **_: object) -> str:
    """Prove the books once a day; a finding is stored and fails the job, which the next hour tries again."""
    now = clock.now()
    return jobs.run_job(
        name="billing.verify_books",
        slot=slot or jobs.slot_of(now, DAY_SECONDS),
        now=now,
        work=lambda: prove(now),
    )


@shared_task(time_limit=VERIFY_SECONDS)
def close_days(slot: str = "", **_: object) -> str:
    """Write the roots of the days that are over, once the books of today were proved.

    Its own day begins an hour late, so that the proof of the day comes first. A proof that found something
    fails this job too, which the next hour tries again: wrong books are not sealed.
    """
    now = clock.now()
    return jobs.run_job(
        name="billing.close_days",
        slot=slot or jobs.slot_of(now - daily_roots.GRACE, DAY_SECONDS),
        now=now,
        work=lambda: close_proved_days(now),
    )


@shared_task
def write_limit_letters(slot: str = "", **_: object) -> str:
    """Tell customers how much of their limits is spent, the owners of the budget of gifts."""
    now = clock.now()
    return jobs.run_job(
        name="billing.write_limit_letters",
        slot=slot or jobs.slot_of(now, MINUTE_SECONDS),
        now=now,
        work=lambda: limit_alerts.write(now=now),
    )


@shared_task(time_limit=VERIFY_SECONDS)
def roll_usage(slot: str = "", **_: object) -> str:
    """Roll up the usage of days that are over; a day in which somebody still writes waits an hour more."""
    now = clock.now()
    return jobs.run_job(
        name="billing.roll_usage",
        slot=slot or jobs.slot_of(now, HOUR_SECONDS),
        now=now,
        work=lambda: {"days": rollups.roll(now=now)},
    )


@shared_task(time_limit=VERIFY_SECONDS)
def refresh_costs(slot: str = "", **_: object) -> str:
    """Compute what answers brought and cost, and the risk of customers."""
    now = clock.now()
    return jobs.run_job(
        name="billing.refresh_costs",
        slot=slot or jobs.slot_of(now, HOUR_SECONDS),
        now=now,
        work=lambda: costs.refresh(now=now),
    )


@shared_task(time_limit=VERIFY_SECONDS)
def reconcile(slot: str = "", **_: object) -> str:
    """Compare usage and ledger of the last days; differences become findings for operators."""
    now = clock.now()
    return jobs.run_job(
        name="billing.reconcile",
        slot=slot or jobs.slot_of(now, HOUR_SECONDS),
        now=now,
        work=lambda: reconciliation.reconcile(now=now),
    )


@shared_task
def watch_balances(slot: str = "", **_: object) -> str:
    """Write to customers of whose money little is left, as they asked."""
    now = clock.now()
    return jobs.run_job(
        name="billing.watch_balances",
        slot=slot or jobs.slot_of(now, MINUTE_SECONDS),
        now=now,
        work=lambda: {"letters": alerts.watch(now=now)},
    )


def close_proved_days(now: datetime) -> dict[str, int]:
    """Raises BooksNotProvedError."""
    day = jobs.slot_of(now - daily_roots.GRACE, DAY_SECONDS)
    proof = JobRun.objects.filter(name="billing.verify_books", slot=day, outcome=JobRun.Outcome.DONE)
    if not proof.exists():
        raise BooksNotProvedError(f"The books of {day} are not proved yet.")
    return {"days": daily_roots.close(now=now)}


def expire_holds() -> dict[str, int]:
    return {"holds": _in_batches(ledger.expire_holds)}


def expire_lots() -> dict[str, int]:
    return {"lots": _in_batches(lambda most: ledger.expire(ledger.due_lots()[:most]))}


def _in_batches(expire: Callable[..., int]) -> int:
    """Batch after batch, each with a transaction of its own, until none is due; answers how many."""
    total = 0
    for _ in range(MOST_BATCHES):
        count = expire(most=BATCH)
        total += count
        if count < BATCH:
            break
    return total


def prove(now: datetime) -> dict[str, int]:
    """Raises BooksBrokenError, after the findings were stored."""
    report = verification.verify()
    covered = [check.id for check in verification.checks()]
    reconciliation.store(report.findings, covered=covered, now=now)
    if not report.is_clean:
        broken = sorted({finding.check for finding in report.findings})
        raise BooksBrokenError(f"{len(report.findings)} findings: {', '.join(broken)}")
    return {"checks": report.checks, "wallets": report.wallets, "entries": report.entries}
