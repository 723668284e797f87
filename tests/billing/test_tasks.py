"""The sweep of holds as a job: once a slot, batch after batch, recorded."""

from datetime import timedelta

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from auditlog import jobs
from auditlog.models import JobRun
from billing import tasks
from billing.models import LotKind
from plyrum import clock as real_clock
from plyrum import schedule
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock


def test_sweep_frees_what_is_due_and_leaves_the_rest(clock: LedgerClock) -> None:
    customer = books.funded(1000)
    due = [books.held(customer, 1, ttl_seconds=60) for _ in range(5)]
    later = books.held(customer, 1, ttl_seconds=7200)
    clock.stand_at(real_clock.now() + timedelta(hours=1))
    slot = str(uuid7())

    assert tasks.sweep_holds(slot=slot) == "done"

    assert {books.status(hold_id) for hold_id in due} == {"expired"}
    assert books.status(later) == "open"
    run = JobRun.objects.get(name="billing.sweep_holds", slot=slot)
    assert run.outcome == "done"
    assert run.counts["holds"] >= 5
    books.assert_right(customer)


def test_lots_whose_time_is_over_are_swept_once_a_slot(clock: LedgerClock) -> None:
    customer = books.funded(7)
    books.credit(customer, 30, kind=LotKind.BONUS, expires_at=real_clock.now() + timedelta(minutes=30))
    clock.stand_at(real_clock.now() + timedelta(hours=1))
    slot = str(uuid7())

    assert (tasks.sweep_lots(slot=slot), tasks.sweep_lots(slot=slot)) == ("done", "skipped")

    assert books.wallet(customer).balance_micro_rub == 7
    assert JobRun.objects.get(name="billing.sweep_lots", slot=slot).counts["lots"] >= 1
    books.assert_right(customer)


def test_sweep_goes_on_until_nothing_is_due(clock: LedgerClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)
    customer = books.funded(1000)
    due = [books.held(customer, 1, ttl_seconds=60) for _ in range(7)]
    clock.stand_at(real_clock.now() + timedelta(hours=1))

    assert tasks.expire_holds()["holds"] >= 7

    assert {books.status(hold_id) for hold_id in due} == {"expired"}


def test_broken_row_keeps_no_other_waiting(clock: LedgerClock, owner: BaseDatabaseWrapper) -> None:
    """What the database refuses to give back, because more is held than the lot says, is passed over."""
    broken, whole = books.funded(100), books.funded(100)
    later = real_clock.now() + timedelta(minutes=30)
    for customer in (broken, whole):
        books.credit(customer, 30, kind=LotKind.BONUS, expires_at=later)
    stuck, free = (books.held(customer, 10, ttl_seconds=60) for customer in (broken, whole))
    clock.stand_at(real_clock.now() + timedelta(hours=1))

    def tell(reserved: int, balance: int) -> None:
        with owner.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_wallet SET lot_reserved[1] = %s, balance_micro_rub = %s"
                " WHERE customer_id = %s",
                [reserved, balance, broken],
            )

    tell(reserved=9, balance=1)
    try:
        tasks.expire_holds()
        tasks.sweep_lots(slot=str(uuid7()))
        assert (books.status(stuck), books.status(free)) == ("open", "expired")
        assert (books.remaining(broken), books.remaining(whole)) == ([100, 30], [100, 0])
    finally:
        tell(reserved=10, balance=130)
    tasks.expire_holds()
    books.expire_lots(broken)
    books.assert_right(broken, whole)


def test_sweep_stops_after_its_share_and_the_next_goes_on(
    clock: LedgerClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = books.funded(1000)
    clock.stand_at(real_clock.now() + timedelta(days=1))
    tasks.expire_holds()  # what others left
    for _ in range(5):
        books.held(customer, 1, ttl_seconds=60)
    clock.stand_at(real_clock.now() + timedelta(days=1, hours=1))
    monkeypatch.setattr(tasks, "BATCH", 2)
    monkeypatch.setattr(tasks, "MOST_BATCHES", 2)

    assert [tasks.expire_holds()["holds"] for _ in range(3)] == [4, 1, 0]


def test_same_slot_is_swept_once() -> None:
    slot = str(uuid7())

    assert [tasks.sweep_holds(slot=slot) for _ in range(2)] == ["done", "skipped"]


def test_schedule_comes_at_least_once_in_every_slot() -> None:
    periods = {job.task: job.period_seconds for job in schedule.JOBS}

    assert periods["billing.tasks.sweep_holds"] <= jobs.MINUTE
    assert periods["billing.tasks.verify_books"] <= jobs.DAY
    assert periods["billing.tasks.close_days"] <= jobs.DAY
