"""What a click does while time and other hands move the subscription: one period, nothing lost, no circle."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from billing import ledger
from billing.errors import ReservedInFlight
from plans import lifecycle, queries, quota, subscriptions
from plans.errors import PeriodChanged
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.plans import world

BEGIN = datetime(2031, 1, 31, 9, 0, tzinfo=UTC)


def test_one_click_at_the_boundary_pays_one_period(clock: LedgerClock) -> None:
    clock.stand_at(BEGIN)
    user, version = world.customer(10_000), world.plan(300, 200)
    subscription = world.activate(user, version, BEGIN, world.AUTOMATIC)

    world.act(subscriptions.renew, user, subscription.period_end, key="one click")

    assert world.kinds(user.id).count("plan_purchase") == 2


def test_one_click_beside_a_due_attempt_pays_one_period(clock: LedgerClock) -> None:
    clock.stand_at(BEGIN)
    user, version = world.customer(300), world.plan(300, 200)
    subscription = world.activate(user, version, BEGIN, world.AUTOMATIC)
    world.advance(subscription, end := subscription.period_end)
    books.topped_up(user.id, 1000 * RUB)

    world.act(subscriptions.renew, user, end + timedelta(days=1, seconds=5), key="pay")

    assert world.kinds(user.id).count("plan_purchase") == 2


def test_period_that_was_shown_is_paid_once_by_two_tabs_and_beat(clock: LedgerClock) -> None:
    clock.stand_at(BEGIN)
    user, version = world.customer(300), world.plan(300, 200)
    subscription = world.activate(user, version, BEGIN, world.AUTOMATIC)
    world.advance(subscription, end := subscription.period_end)
    books.topped_up(user.id, 1000 * RUB)
    later = end + timedelta(days=1)
    subscription.refresh_from_db()
    shown = queries.standing(subscription, at=later - timedelta(seconds=1)).next_period_start
    world.advance(subscription, later)  # beat was first

    for key in ("tab 1", "tab 2"):
        with pytest.raises(PeriodChanged):
            subscriptions.renew(
                customer_id=user.id,
                asking=replace(world.asking(user, later + timedelta(seconds=1), key=key), period_start=shown),
            )

    assert world.kinds(user.id).count("plan_purchase") == 2


def test_extension_waits_for_what_running_requests_hold(clock: LedgerClock) -> None:
    clock.stand_at(BEGIN)
    user, version = world.customer(300), world.plan(300, 200)
    world.activate(user, version, BEGIN)
    hold = books.held(user.id, 150 * RUB)

    def extend() -> None:
        subscriptions.extend(
            customer_id=user.id,
            days=30,
            asking=subscriptions.Asking(
                key="", now=BEGIN + timedelta(days=1), actor=world.OPERATOR, reason="Сбой сервиса"
            ),
        )

    with pytest.raises(ReservedInFlight):
        extend()
    books.settle(user.id, hold, 0)
    extend()

    assert world.left(user.id) == {"monthly": 200}


def test_image_request_and_renewal_do_not_wait_in_a_circle() -> None:
    """Both take the period before the wallet."""
    user, version = world.customer(10_000), world.plan(300, 200, images=5)
    subscription = world.activate(user, version, real_clock.now(), world.AUTOMATIC)
    end = subscription.period_end
    has_period = threading.Event()

    def image() -> str:
        try:
            with transaction.atomic():
                quota.take(customer_id=user.id, key=f"run:{uuid7()}", now=end - timedelta(seconds=1))
                has_period.set()
                time.sleep(0.5)  # the renewal begins meanwhile
                return str(ledger.hold([books.hold_step(user.id, 1)])[0]["outcome"])
        finally:
            connection.close()

    def renewal() -> str:
        try:
            has_period.wait(5)
            lifecycle.advance(subscription_id=subscription.id, now=end)
            return "renewed"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        found = [future.result() for future in (pool.submit(image), pool.submit(renewal))]

    assert found == ["held", "renewed"]
