"""Faults that earlier systems had with plans, each as one test that would have found it."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import LotKind
from plans import lifecycle, periods, subscriptions
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.plans import world
from tests.plans.world import AUTOMATIC, act, activate, advance, customer, plan

NOW = datetime(2034, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def standing(clock: LedgerClock) -> LedgerClock:
    clock.stand_at(NOW)
    return clock


def test_grant_adds_exactly_what_it_books() -> None:
    user = customer()
    subscription = activate(user, plan(300, 177), NOW)

    entry, lot = books.entries(user.id)[-1], books.lots(user.id)[-1]
    (purchase,) = subscription.periods.get().purchases.all()
    assert entry.amount_micro_rub == lot.amount_micro_rub == purchase.grant_micro_rub == 177 * RUB
    assert purchase.grant_entry_id == entry.id


def test_act_that_only_changes_the_subscription_grants_nothing() -> None:
    """An "updated" of a provider refilled the credits; here only a paid period does."""
    user, version, other = customer(), plan(), plan(100)
    subscription = activate(user, version, NOW)
    before = world.kinds(user.id)

    for _ in range(3):
        act(subscriptions.cancel, user, NOW)
        act(subscriptions.resume, user, NOW)
        act(subscriptions.choose_renewal, user, NOW, renewal=AUTOMATIC)
        advance(subscription, NOW + timedelta(days=1))
        lifecycle.warn(subscription_id=subscription.id, now=subscription.period_end - timedelta(hours=1))
    act(subscriptions.change, user, NOW, plan_code=other.plan_id)

    assert world.kinds(user.id) == before


def test_renewal_told_again_is_charged_and_credited_once(standing: LedgerClock) -> None:
    user = customer()
    subscription = activate(user, plan(), NOW, AUTOMATIC)
    end = subscription.period_end
    standing.stand_at(end)

    for _ in range(5):
        advance(subscription, end)

    bought = ["plan_purchase", "plan_grant"]
    assert world.kinds(user.id) == ["topup", *bought, *bought, "rollover", "rollover"]


def test_days_of_renewal_do_not_drift(standing: LedgerClock) -> None:
    """A renewal three days late neither moves the following ones nor keeps the day of a short month."""
    user = customer(3000)
    subscription = activate(user, plan(300, 0), NOW, AUTOMATIC)
    for number in range(1, 6):
        late = periods.boundary(NOW, number) + timedelta(days=3)
        standing.stand_at(late)
        advance(subscription, late)

    days = [f"{row.starts_at:%m-%d}" for row in world.periods(subscription)]
    assert days == ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30"]


def test_expiry_of_a_grant_books_what_was_left_before_it(standing: LedgerClock) -> None:
    user = customer(300)
    subscription = activate(user, plan(300, 200), NOW)
    books.spend(user.id, 20 * RUB)
    standing.stand_at(subscription.period_end)
    advance(subscription, subscription.period_end)

    books.expire_lots(user.id)

    expiry = books.entries(user.id)[-1]
    assert (expiry.type, expiry.amount_micro_rub, expiry.balance_after_micro_rub) == ("expiry", 180 * RUB, 0)


def test_rollover_is_what_the_grant_left_and_not_a_share_of_the_balance(standing: LedgerClock) -> None:
    user = customer(5000)
    books.credit(user.id, 700 * RUB, kind=LotKind.BONUS)
    subscription = activate(user, plan(300, 200, cap=1000), NOW, AUTOMATIC)
    books.spend(user.id, 170 * RUB)
    running = books.held(user.id, 10 * RUB)  # out of the grant too
    end = subscription.period_end
    standing.stand_at(end)

    advance(subscription, end)

    assert world.left(user.id) == {"purchased": 4400, "bonus": 700, "monthly": 210, "rollover": 20}
    books.settle(user.id, running, 0)
    books.expire_lots(user.id)
    assert world.left(user.id) == {"purchased": 4400, "bonus": 700, "monthly": 200, "rollover": 20}
    assert [row.carried_micro_rub for row in world.periods(subscription)] == [20 * RUB, 0]
    books.assert_right(user.id)


def test_reset_of_one_period_never_touches_another_customer(standing: LedgerClock) -> None:
    first, second = customer(), customer()
    version = plan()
    subscription = activate(first, version, NOW, AUTOMATIC)
    activate(second, version, NOW + timedelta(days=1), AUTOMATIC, key=str(uuid7()))
    standing.stand_at(subscription.period_end)

    advance(subscription, subscription.period_end)

    assert world.kinds(second.id) == ["topup", "plan_purchase", "plan_grant"]
