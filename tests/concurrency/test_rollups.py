"""Two workers roll up the same day or build anew: it is summed once, also when the first one dies."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, connection
from psycopg import Rollback

from billing import rollups
from billing.watch_models import UsageDay, UsageRollup
from plyrum import clock
from tests.billing import books
from tests.concurrency.connections import client, wait_until_blocked

DAY = date(2034, 3, 1)
NOW = clock.start_of(DAY) + timedelta(hours=26)


@pytest.fixture(autouse=True)
def _no_rollups() -> Iterator[None]:
    yield
    UsageRollup.objects.all().delete()
    UsageDay.objects.all().delete()


@pytest.mark.parametrize(
    ("first_dies", "lock", "second_closes"),
    [(False, "FOR UPDATE", 0), (True, "FOR UPDATE", 1), (False, "", IntegrityError)],
    ids=["both live", "first dies", "control without the lock"],
)
def test_second_worker_waits_for_the_first(
    monkeypatch: pytest.MonkeyPatch, first_dies: bool, lock: str, second_closes: int | type[Exception]
) -> None:
    monkeypatch.setattr(rollups, "WAITING", rollups.WAITING.replace("FOR UPDATE", lock))
    customer = books.funded(10)
    books.spend(customer, 10)
    UsageDay.objects.create(day=DAY, barrier=0)

    with client() as first, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            first.execute(rollups.WAITING.encode())
            first.execute(
                rollups.SUM.encode(),
                {"since": "-infinity", "until": clock.start_of(DAY + timedelta(days=1))},
            )
            second = pool.submit(_roll)
            wait_until_blocked(second, first.info.backend_pid)
            first.execute("UPDATE billing_usageday SET closed_at = now()")
            if first_dies:
                raise Rollback
        if isinstance(second_closes, int):
            assert second.result(timeout=30) == second_closes
        else:
            with pytest.raises(second_closes):
                second.result(timeout=30)

    assert UsageRollup.objects.get(customer_id=customer).charged_micro_rub == 10


@pytest.mark.parametrize(
    ("lock", "error"), [("FOR UPDATE", None), ("", IntegrityError)], ids=["lock", "control"]
)
def test_two_rebuilds_take_turns(
    monkeypatch: pytest.MonkeyPatch, lock: str, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(rollups, "ALL_DAYS", rollups.ALL_DAYS.replace("FOR UPDATE", lock))
    customer = books.funded(10)
    books.spend(customer, 10)
    UsageDay.objects.create(day=DAY, barrier=0)
    rollups.roll(now=NOW)

    with client() as first, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            first.execute(rollups.ALL_DAYS.encode())
            first.execute("DELETE FROM billing_usagerollup")
            first.execute(rollups.SUM.encode(), {"since": "-infinity", "until": NOW})
            second = pool.submit(_closing, rollups.rebuild)
            wait_until_blocked(second, first.info.backend_pid)
        assert isinstance(second.exception(timeout=30), error or type(None))

    assert UsageRollup.objects.get(customer_id=customer).charged_micro_rub == 10


def _roll() -> int:
    return _closing(lambda: rollups.roll(now=NOW))


def _closing(work: Callable[[], int]) -> int:
    try:
        return work()
    finally:
        connection.close()
