"""The heartbeat of a hold: its end moves while its work goes on, and only then."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection

from billing.models import Hold
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

NOON = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)
TTL = timedelta(seconds=900)


def renew(*holds: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_renew(%s::uuid[], %s)", [list(holds), int(TTL.total_seconds())])
        return int(cursor.fetchone()[0])


def test_renewed_hold_outlives_its_first_end_and_is_captured(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)

    clock.stand_at(NOON + timedelta(minutes=10))
    assert renew(hold_id) == 1
    clock.stand_at(NOON + timedelta(minutes=24))
    books.expire_holds()

    assert books.settle(customer, hold_id, 50)["outcome"] == "done"
    assert Hold.objects.get(id=hold_id).expires_at == NOON + timedelta(minutes=25)
    books.assert_right(customer)


def test_hold_that_nobody_renews_again_ends(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=900)
    clock.stand_at(NOON + timedelta(minutes=10))
    renew(hold_id)

    clock.stand_at(NOON + timedelta(minutes=25))
    books.expire_holds()

    assert books.status(hold_id) == "expired"
    assert books.settle(customer, hold_id, 50)["outcome"] == "expired"
    books.assert_right(customer)


def test_hold_that_is_over_or_resolved_is_not_brought_back(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    over, captured = books.held(customer, 30, ttl_seconds=900), books.held(customer, 30, ttl_seconds=900)
    books.settle(customer, captured, 10)

    clock.stand_at(NOON + TTL)

    assert renew(over, captured, uuid7()) == 0
    assert books.settle(customer, over, 30)["outcome"] == "expired"


def test_longer_hold_is_not_shortened(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    hold_id = books.held(customer, 60, ttl_seconds=3600)

    assert renew(hold_id) == 0
    assert Hold.objects.get(id=hold_id).expires_at == NOON + timedelta(hours=1)


def test_each_hold_is_renewed_by_itself(clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(NOON)
    holds = [books.held(customer, 10, ttl_seconds=ttl) for ttl in (60, 900, 900)]
    clock.stand_at(NOON + timedelta(minutes=5))

    assert renew(*holds) == 2


def test_no_holds_are_nothing_to_renew() -> None:
    assert renew() == 0
