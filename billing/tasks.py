"""Periodic work about money: what has expired, the day's rates, the proof of the books, the roots of days."""

from collections.abc import Callable
from datetime import datetime

import structlog
from django.db import DataError, IntegrityError

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

log = structlog.get_logger(__name__)

SWEEP = Actor.system("billing.sweep_requests")
BATCH = 100  # holds or lots in one transaction: their wallets are locked together
MOST_BATCHES = 200  # then the next minute goes on


@jobs.periodic(jobs.MINUTE)
def sweep_holds(now: datetime) -> dict[str, int]:
    """Give back the holds whose time is over."""
    return expire_holds()


@jobs.periodic(jobs.MINUTE)
def sweep_lots(now: datetime) -> dict[str, int]:
    """Move to the breakage what is left in lots whose time is over."""
    return {"lots": _in_batches(lambda most, past: ledger.expire(ledger.due_lots()[past : past + most]))}


@jobs.periodic(jobs.MINUTE)
def collect_debts(now: datetime) -> dict[str, int]:
    """Repay debts of disputed payments with what running requests have given back since."""
    collected = 0
    for customer_id in ledger.debtors()[:BATCH]:
        try:
            collected += ledger.collect(customer_id)
        except (IntegrityError, DataError):  # its books are broken: it keeps no other waiting
            log.exception("debt_not_collected", customer_id=str(customer_id))
    return {"customers": collected}


@jobs.periodic(jobs.DAY)
def refresh_rates(now: datetime) -> dict[str, int]:
    """Add the day's official rates; a refused list fails the job, which the next hour tries again."""
    return rates.refresh(now=now)


@jobs.periodic(jobs.HOUR)
def sweep_requests(now: datetime) -> dict[str, int]:
    """Close operators' requests that nobody decided in time."""
    return {"requests": acts.expire_requests(now=now, actor=SWEEP)}


@jobs.periodic(jobs.DAY, is_long=True)
def verify_books(now: datetime) -> dict[str, int]:
    """Prove the books once a day; a finding is stored and fails the job, which the next hour tries again."""
    return prove(now)


@jobs.periodic(jobs.DAY, delay=daily_roots.GRACE, is_long=True)
def close_days(now: datetime) -> dict[str, int]:
    """Write the roots of the days that are over, once the books of today were proved.

    Its own day begins an hour late, so that the proof of the day comes first. A proof that found something
    fails this job too, which the next hour tries again: wrong books are not sealed.
    """
    day = jobs.slot_of(now - daily_roots.GRACE, jobs.DAY)
    proof = JobRun.objects.filter(name="billing.verify_books", slot=day, outcome=JobRun.Outcome.DONE)
    if not proof.exists():
        raise BooksNotProvedError(f"The books of {day} are not proved yet.")
    return {"days": daily_roots.close(now=now)}


@jobs.periodic(jobs.MINUTE)
def write_limit_letters(now: datetime) -> dict[str, int]:
    """Tell customers how much of their limits is spent, the owners of the budget of gifts."""
    return limit_alerts.write(now=now)


@jobs.periodic(jobs.HOUR, is_long=True)
def roll_usage(now: datetime) -> dict[str, int]:
    """Roll up the usage of days that are over; a day in which somebody still writes waits an hour more."""
    return {"days": rollups.roll(now=now)}


@jobs.periodic(jobs.HOUR, is_long=True)
def refresh_costs(now: datetime) -> dict[str, int]:
    """Compute what answers brought and cost, and the risk of customers."""
    return costs.refresh(now=now)


@jobs.periodic(jobs.HOUR, is_long=True)
def reconcile(now: datetime) -> dict[str, int]:
    """Compare usage and ledger of the last days; differences become findings for operators."""
    return reconciliation.reconcile(now=now)


@jobs.periodic(jobs.MINUTE)
def watch_balances(now: datetime) -> dict[str, int]:
    """Write to customers of whose money little is left, as they asked."""
    return {"letters": alerts.watch(now=now)}


def expire_holds() -> dict[str, int]:
    return {"holds": _in_batches(ledger.expire_holds)}


def _in_batches(expire: Callable[..., int]) -> int:
    """Batch after batch, each with a transaction of its own, until none is due; answers how many.

    A row that the database refuses to move (its books are broken, V14 and V15 tell) keeps no other waiting:
    its batch goes one by one, and it is passed over.
    """
    total = broken = 0
    most = BATCH
    for _ in range(MOST_BATCHES):
        try:
            count = expire(most=most, past=broken)
        except (IntegrityError, DataError):
            if most == 1:
                log.exception("expiry_failed", passed=broken)
                broken += 1
            most = 1 if most > 1 else BATCH
            continue
        total += count
        if count < most:
            break
    return total


def prove(now: datetime) -> dict[str, int]:
    """Raises BooksBrokenError for findings that nobody has explained, after all of them were stored."""
    report = verification.verify()
    covered = [check.id for check in verification.checks()]
    reconciliation.store(report.findings, covered=covered, now=now)
    if alarming := reconciliation.unexplained(report.findings):
        broken = sorted({finding.check for finding in alarming})
        raise BooksBrokenError(f"{len(alarming)} findings: {', '.join(broken)}")
    return {"checks": report.checks, "wallets": report.wallets, "entries": report.entries}
