"""Plans while money is held by running requests, spending is stopped, or a disputed payment left a debt."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from billing import ledger, limits
from billing.errors import DebtOutstanding, ReservedInFlight, SpendingBlocked
from plans import subscriptions
from plans.clockwork import ASKED_AGAIN_AFTER, LONGEST_HOLD
from plans.errors import NotPaidUp
from plans.models import Subscription
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.plans import world
from tests.plans.test_subscriptions import BEGIN, DAY, TICK, Calendar, calendar, month
from tests.plans.world import AUTOMATIC, act, activate, advance, customer, letters, plan

__all__ = ["calendar"]
WHY = "Проверка расходов"
HOLD_SECONDS = int(LONGEST_HOLD.total_seconds())


def test_stop_of_spending_buys_no_plan_and_renews_none(calendar: Calendar) -> None:
    user, small, large = customer(2000), plan(300, 200), plan(700, 500)
    stop: dict[str, Any] = {"customer_id": user.id, "reason": WHY, "actor": world.OPERATOR}
    limits.block(**stop, now=BEGIN)
    with pytest.raises(SpendingBlocked):
        activate(user, small, BEGIN, AUTOMATIC, key="first")
    assert not Subscription.objects.filter(customer_id=user.id).exists()
    limits.unblock(**stop, now=BEGIN)
    subscription = activate(user, small, BEGIN, AUTOMATIC, key="first")
    limits.block(**stop, now=BEGIN)

    with pytest.raises(SpendingBlocked):
        act(subscriptions.renew, user, BEGIN)
    with pytest.raises(SpendingBlocked):
        act(subscriptions.change, user, BEGIN, plan_code=large.plan_id)
    advance(subscription, calendar.at(month(1)))

    assert (subscription.state, letters(user)) == ("past_due", ["plan_past_due"])
    assert world.kinds(user.id) == ["topup", "plan_purchase", "plan_grant"]
    limits.unblock(**stop, now=calendar.now)
    advance(subscription, calendar.at(month(1) + DAY))
    assert (subscription.state, subscription.period_end) == ("active", month(2))
    books.expire_lots(user.id)
    books.assert_right(user.id)


def test_debtor_buys_no_plan_whose_grant_would_repay_the_debt(calendar: Calendar) -> None:
    user, small, large = customer(300), plan(300, 200), plan(700, 500)
    subscription = activate(user, small, BEGIN, AUTOMATIC)
    with transaction.atomic():
        ledger.charge_back(
            customer_id=user.id,
            payment_id=uuid7(),
            dispute_id=str(uuid7()),
            amount_micro_rub=250 * RUB,
            effective_at=BEGIN,
        )
    books.credit(user.id, 2000 * RUB)  # before the sweep that collects debts has come

    for call, facts in ((subscriptions.renew, {}), (subscriptions.change, {"plan_code": large.plan_id})):
        with pytest.raises(DebtOutstanding) as refused:
            act(call, user, BEGIN, **facts)
        assert refused.value.extra["debt_micro_rub"] == 50 * RUB
    advance(subscription, calendar.at(month(1)))

    assert subscription.state == "past_due"
    assert world.kinds(user.id).count("plan_purchase") == 1
    ledger.collect(user.id)
    assert act(subscriptions.renew, user, calendar.now).state == "active"
    books.assert_right(user.id)


def test_renewal_waits_for_what_a_running_request_holds(calendar: Calendar) -> None:
    user, version, other = customer(600), plan(300, 200, cap=50), plan(100)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    calendar.at(month(1) - TICK)
    hold = books.held(user.id, 250 * RUB, ttl_seconds=HOLD_SECONDS)  # the grant and 50 of the 300 paid

    for minute in range(3):
        advance(subscription, calendar.at(month(1) + minute * ASKED_AGAIN_AFTER))
        assert (subscription.state, subscription.due_at) == ("active", calendar.now + ASKED_AGAIN_AFTER)
    assert letters(user) == []
    with pytest.raises(ReservedInFlight):
        act(subscriptions.renew, user, calendar.now)
    with pytest.raises(NotPaidUp):
        act(subscriptions.change, user, calendar.now, plan_code=other.plan_id)
    books.settle(user.id, hold, 0)
    assert books.expire_lots(user.id) == 0  # the rollover has not come yet
    advance(subscription, calendar.at(month(1) + 3 * ASKED_AGAIN_AFTER))

    assert (subscription.state, subscription.period_start) == ("active", month(1))
    assert (subscription.period_end, subscription.waits_until) == (month(2), None)
    books.expire_lots(user.id)
    assert world.left(user.id) == {"monthly": 200, "rollover": 50}
    assert letters(user) == ["plan_renewed"]
    books.assert_right(user.id)


def test_customer_who_waits_renews_as_soon_as_the_money_is_free(calendar: Calendar) -> None:
    user, version = customer(600), plan(300, 200, cap=50)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    hold = books.held(user.id, 250 * RUB)
    late = calendar.at(month(2) + DAY)  # beat was away: the first period is not the next one
    advance(subscription, late)
    books.settle(user.id, hold, 0)

    found = act(subscriptions.renew, user, late)

    assert (found.state, found.period_start, found.waits_until) == ("active", month(2), None)
    assert [period.closed_at for period in world.periods(found)] == [late, None]
    books.expire_lots(user.id)
    assert world.left(user.id) == {"monthly": 200, "rollover": 50}
    books.assert_right(user.id)


def test_waiting_ends_with_the_longest_hold_and_every_attempt_may_wait(calendar: Calendar) -> None:
    user, version = customer(600), plan(300, 0)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    calendar.at(month(1))
    hold = books.held(user.id, 50 * RUB, ttl_seconds=3 * HOLD_SECONDS)
    seen = []
    for passed in (timedelta(0), LONGEST_HOLD - TICK, LONGEST_HOLD):
        advance(subscription, calendar.at(month(1) + passed))
        seen.append((subscription.state, letters(user)))

    assert seen == [("active", []), ("active", []), ("past_due", ["plan_past_due"])]
    failed = calendar.now
    assert (subscription.past_due_at, subscription.due_at) == (failed, failed + DAY)
    books.settle(user.id, hold, 0)
    again = books.held(user.id, 50 * RUB, ttl_seconds=2 * 86_400)
    advance(subscription, calendar.at(failed + DAY))
    assert (subscription.state, subscription.due_at) == ("past_due", calendar.now + ASKED_AGAIN_AFTER)
    assert letters(user) == ["plan_past_due"]
    books.settle(user.id, again, 0)
    advance(subscription, calendar.at(calendar.now + ASKED_AGAIN_AFTER))
    assert (subscription.state, letters(user)) == ("active", ["plan_past_due", "plan_renewed"])
    books.assert_right(user.id)
