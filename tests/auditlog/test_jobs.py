from datetime import UTC, datetime, timedelta
from threading import Barrier, Lock

import pytest
from django.db import transaction

from auditlog import jobs
from auditlog.models import JobRun
from plyrum import clock
from plyrum.ids import uuid7
from tests.threads import at_once


def a_name() -> str:
    return f"tests.{uuid7().hex}"


def nothing() -> dict[str, int]:
    return {}


def test_job_does_the_work_and_records_its_counts() -> None:
    name = a_name()

    outcome = jobs.run_job(name=name, slot="s1", now=clock.now(), work=lambda: {"rows": 3})

    run = JobRun.objects.get(name=name)
    assert outcome == "done"
    assert (run.outcome, run.counts, run.attempts) == ("done", {"rows": 3}, 1)
    assert run.finished_at is not None


def test_slot_that_is_done_is_skipped() -> None:
    name, calls = a_name(), []

    def work() -> dict[str, int]:
        calls.append(1)
        return {}

    first = jobs.run_job(name=name, slot="s1", now=clock.now(), work=work)
    second = jobs.run_job(name=name, slot="s1", now=clock.now(), work=work)
    other_slot = jobs.run_job(name=name, slot="s2", now=clock.now(), work=work)

    assert (first, second, other_slot) == ("done", "skipped", "done")
    assert len(calls) == 2


def test_failure_is_recorded_and_rises_and_the_slot_may_be_tried_again() -> None:
    name = a_name()

    def fail() -> dict[str, int]:
        raise ValueError("cannot reach anna@example.test")

    with pytest.raises(ValueError, match="cannot reach"):
        jobs.run_job(name=name, slot="s1", now=clock.now(), work=fail)
    failed = JobRun.objects.get(name=name)
    again = jobs.run_job(name=name, slot="s1", now=clock.now(), work=nothing)

    assert failed.outcome == "failed"
    assert failed.detail == "ValueError: cannot reach [e-mail]"
    assert again == "done"
    assert JobRun.objects.get(name=name).attempts == 2


def test_running_slot_is_left_alone_until_its_worker_must_be_dead() -> None:
    name, start = a_name(), clock.now()
    JobRun.objects.create(name=name, slot="s1", started_at=start)

    soon = jobs.run_job(name=name, slot="s1", now=start + timedelta(minutes=9), work=nothing)
    later = jobs.run_job(name=name, slot="s1", now=start + timedelta(minutes=11), work=nothing)

    assert (soon, later) == ("skipped", "done")


def test_worker_thought_dead_does_not_overwrite_its_successor() -> None:
    name, start = a_name(), clock.now()

    def slow() -> dict[str, int]:
        jobs.run_job(name=name, slot="s1", now=start + timedelta(hours=1), work=lambda: {"second": 1})
        return {"first": 1}

    jobs.run_job(name=name, slot="s1", now=start, work=slow)

    assert JobRun.objects.get(name=name).counts == {"second": 1}


def test_job_refuses_to_run_inside_a_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="outside any transaction"):
        jobs.run_job(name=a_name(), slot="s1", now=clock.now(), work=nothing)


def test_slot_names_the_period_a_moment_falls_into() -> None:
    moment = datetime(2026, 11, 20, 10, 17, 44, tzinfo=UTC)

    assert jobs.slot_of(moment, 60) == "2026-11-20T10:17:00Z"
    assert jobs.slot_of(moment, 24 * 3600) == "2026-11-20T00:00:00Z"


@pytest.mark.parametrize("is_retry", [False, True])
def test_many_beats_at_once_do_the_work_once(is_retry: bool) -> None:
    name, lock, calls = a_name(), Lock(), []
    if is_retry:
        JobRun.objects.create(name=name, slot="s1", started_at=clock.now(), outcome="failed")

    def work() -> dict[str, int]:
        with lock:
            calls.append(1)
        return {}

    outcomes = at_once(12, lambda: jobs.run_job(name=name, slot="s1", now=clock.now(), work=work))

    assert len(calls) == 1
    assert sorted(outcomes) == ["done"] + ["skipped"] * 11


def test_control_asking_first_and_inserting_later_does_the_work_twice() -> None:
    """Without the claim's one statement two beats both find the slot free."""
    name, calls, both_looked = a_name(), [], Barrier(2)

    def careless() -> str:
        is_free = not JobRun.objects.filter(name=name, slot="s1").exists()
        both_looked.wait()
        if is_free:
            calls.append(1)
            JobRun.objects.bulk_create(
                [JobRun(name=name, slot="s1", started_at=clock.now())], ignore_conflicts=True
            )
        return "done"

    at_once(2, careless)

    assert len(calls) == 2
