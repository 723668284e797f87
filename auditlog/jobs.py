"""Periodic work: each slot of a job happens once, whoever starts it and however often, and leaves a record.

Called by `tasks.py` of every app. The claim is a committed row, not a lock on a connection, so it also holds
behind a connection pool and survives the worker that made it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db import connection
from django.db.models import F, Q

from auditlog.models import JobRun
from auditlog.redaction import clean_text
from plyrum import clock

# A task is killed after two minutes (CELERY_TASK_TIME_LIMIT), a long one (over many rows) after nine; a claim
# older than this is a dead worker's.
ABANDONED_AFTER = timedelta(minutes=10)
LONG_SECONDS = 540

MINUTE, HOUR, DAY = 60, 3600, 86_400


def periodic(
    every_seconds: int, *, delay: timedelta = timedelta(0), is_long: bool = False
) -> Callable[[Callable[[datetime], dict[str, int]]], Any]:
    """Make `work(now)`, which returns counts for the record, the task of the job "<app>.<function's name>".

    A slot is a period of `every_seconds` that begins `delay` late. The task does the slot it is given, or the
    one of now, and answers as `run_job` does. How often it is sent is said in `plyrum/schedule.py`.
    """

    def door(work: Callable[[datetime], dict[str, int]]) -> Any:
        def task(slot: str = "", **_: object) -> str:
            now = clock.now()
            due = slot or slot_of(now - delay, every_seconds)
            return run_job(name=name, slot=due, now=now, work=lambda: work(now))

        name = f"{work.__module__.split('.')[0]}.{work.__name__}"
        task.__doc__ = work.__doc__
        limit = LONG_SECONDS if is_long else settings.CELERY_TASK_TIME_LIMIT
        return shared_task(name=f"{work.__module__}.{work.__name__}", time_limit=limit)(task)

    return door


def slot_of(now: datetime, period_seconds: int) -> str:
    """The name of the period that `now` falls into: the same for every beat that fires within it."""
    start = int(now.timestamp()) // period_seconds * period_seconds
    return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_job(*, name: str, slot: str, now: datetime, work: Callable[[], dict[str, int]]) -> str:
    """Do `work` unless this slot of the job is done or under way; answer "done" or "skipped".

    `work` returns counts for the record. A failed or abandoned slot may be claimed again. What `work` raises
    is recorded (the last line of the traceback) and rises. Must not run inside a transaction: the claim must
    be visible to others at once.
    """
    if connection.in_atomic_block:
        raise RuntimeError("A job claims its slot outside any transaction.")
    run = _claim(name, slot, now)
    if run is None:
        return str(JobRun.Outcome.SKIPPED.value)
    try:
        counts = work()
    except Exception as error:
        _finish(run, JobRun.Outcome.FAILED, detail=clean_text(f"{type(error).__name__}: {error}"))
        raise
    _finish(run, JobRun.Outcome.DONE, counts=counts)
    return str(JobRun.Outcome.DONE.value)


def _claim(name: str, slot: str, now: datetime) -> JobRun | None:
    fresh = JobRun(name=name, slot=slot, started_at=now)
    JobRun.objects.bulk_create([fresh], ignore_conflicts=True)
    if JobRun.objects.filter(pk=fresh.pk).exists():
        return fresh
    is_dead = Q(outcome=JobRun.Outcome.RUNNING, started_at__lt=now - ABANDONED_AFTER)
    # One statement decides the winner: the loser's condition is judged again after the winner's commit.
    taken = JobRun.objects.filter(Q(name=name, slot=slot), Q(outcome=JobRun.Outcome.FAILED) | is_dead).update(
        outcome=JobRun.Outcome.RUNNING,
        started_at=now,
        finished_at=None,
        detail="",
        attempts=F("attempts") + 1,
    )
    return JobRun.objects.get(name=name, slot=slot) if taken else None


def _finish(
    run: JobRun, outcome: JobRun.Outcome, *, detail: str = "", counts: dict[str, int] | None = None
) -> None:
    """Only the claim's own holder writes the end: a worker thought dead does not overwrite its successor."""
    JobRun.objects.filter(pk=run.pk, attempts=run.attempts, outcome=JobRun.Outcome.RUNNING).update(
        outcome=outcome, finished_at=clock.now(), detail=detail[:500], counts=counts or {}
    )
