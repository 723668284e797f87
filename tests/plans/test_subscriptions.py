"""The life of a subscription with a moving clock: buying, renewing, changing, cancelling, ending."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog.models import AuditEvent
from billing.errors import IdempotencyMismatch, InsufficientBalance, OwnWallet, ReservedInFlight
from billing.models import LotKind
from plans import lifecycle, offers, periods, queries, subscriptions, tasks
from plans.errors import (
    AlreadySubscribed,
    NotPaidUp,
    NotSubscribed,
    PeriodPaidAhead,
    PlanNotFound,
    PlanUnchanged,
    PriceChanged,
)
from plans.models import Subscription, SubscriptionMove
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.plans import world
from tests.plans.world import (
    AUTOMATIC,
    MANUAL,
    act,
    activate,
    advance,
    asking,
    customer,
    letters,
    plan,
)
from tests.plans.world import (
    periods as paid,
)

BEGIN = datetime(2031, 1, 31, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


class Calendar:
    """The product's and the ledger's time together."""

    def __init__(self, clock: LedgerClock) -> None:
        self._clock = clock
        self.at(BEGIN)

    def at(self, moment: datetime) -> datetime:
        self._clock.stand_at(moment)
        self.now = moment
        return moment


@pytest.fixture
def calendar(clock: LedgerClock) -> Calendar:
    return Calendar(clock)


def month(number: int) -> datetime:
    return periods.boundary(BEGIN, number)


def test_purchase_takes_paid_money_alone_and_gives_the_grant(calendar: Calendar) -> None:
    user, version = customer(500), plan(300, 200, images=10)
    books.credit(user.id, 400 * RUB, kind=LotKind.BONUS)

    subscription = activate(user, version, BEGIN)

    assert world.left(user.id) == {"purchased": 200, "bonus": 400, "monthly": 200}
    (period,) = paid(subscription)
    assert (period.starts_at, period.ends_at, period.image_quota) == (BEGIN, month(1), 10)
    bought, granted = books.entries(user.id)[-2:]
    assert (bought.key, bought.credit_account) == (
        f"plan:{subscription.id}:{int(BEGIN.timestamp())}",
        "plan_revenue",
    )
    assert (granted.key, granted.debit_account) == (
        f"grant:{subscription.id}:{int(BEGIN.timestamp())}",
        "plan_revenue",
    )
    assert bought.source_id == granted.source_id == str(period.id)
    assert books.lots(user.id)[-1].expires_at == month(1)
    (event,) = AuditEvent.objects.filter(subject=f"subscription:{subscription.id}")
    assert (event.action, event.target_user_id) == ("plans.subscription.activated", user.id)
    books.assert_right(user.id)


def test_bonus_buys_no_plan_and_a_refusal_leaves_nothing(calendar: Calendar) -> None:
    user, version = customer(100), plan(300)
    books.credit(user.id, 400 * RUB, kind=LotKind.BONUS)

    with pytest.raises(InsufficientBalance) as short:
        activate(user, version, BEGIN, key="first")

    assert (short.value.extra["needed_micro_rub"], short.value.extra["balance_micro_rub"]) == (
        300 * RUB,
        100 * RUB,
    )
    assert not Subscription.objects.filter(customer_id=user.id).exists()
    books.credit(user.id, 300 * RUB)
    hold = books.held(user.id, 150 * RUB)
    with pytest.raises(ReservedInFlight):
        activate(user, version, BEGIN, key="first")
    books.settle(user.id, hold, 0)
    assert activate(user, version, BEGIN, key="first").state == "active"


def test_repeated_key_is_one_act_and_another_body_is_refused(calendar: Calendar) -> None:
    user, version = customer(), plan()
    first = activate(user, version, BEGIN, key="k1")

    again = subscriptions.activate(
        customer_id=user.id,
        plan_code=version.plan_id,
        renewal=MANUAL,
        asking=asking(user, BEGIN + DAY, key="k1"),
    )

    assert (again.subscription.id, again.is_replay) == (first.id, True)
    with pytest.raises(IdempotencyMismatch):
        activate(user, version, BEGIN, AUTOMATIC, key="k1")
    with pytest.raises(AlreadySubscribed):
        activate(user, version, BEGIN, key="k2")
    with pytest.raises(PlanNotFound):
        activate(customer(), version, BEGIN - timedelta(days=20_000))
    with pytest.raises(PriceChanged):
        activate(customer(), version, BEGIN, price_micro_rub=1)
    assert world.kinds(user.id) == ["topup", "plan_purchase", "plan_grant"]


def test_every_act_is_one_by_its_key(calendar: Calendar) -> None:
    user, version, cheap = customer(), plan(300), plan(100)
    subscription = activate(user, version, BEGIN)
    acts: list[tuple[Callable[..., subscriptions.Asked], dict[str, Any]]] = [
        (subscriptions.change, {"plan_code": cheap.plan_id}),
        (subscriptions.choose_renewal, {"renewal": AUTOMATIC}),
        (subscriptions.cancel, {}),
        (subscriptions.resume, {}),
        (subscriptions.renew, {}),
    ]
    for call, facts in acts:
        wanted = asking(user, BEGIN, key=call.__name__)
        told = [call(customer_id=user.id, asking=wanted, **facts).is_replay for _ in range(2)]
        assert told == [False, True], call.__name__

    moves = SubscriptionMove.objects.filter(subscription=subscription).order_by("id")
    kinds = ["activated", "plan_chosen", "renewal_chosen", "canceled", "resumed", "renewed"]
    assert [move.kind for move in moves] == kinds
    assert str(moves[0]).startswith("activated ")
    assert str(subscription.periods.latest("starts_at").version) == f"{cheap.plan_id} v1"
    with pytest.raises(UserNotFound):
        subscriptions.cancel(
            customer_id=uuid7(), asking=subscriptions.Asking(key="", now=BEGIN, actor=world.OPERATOR)
        )


def test_subscription_that_cannot_be_moved_keeps_nobody_waiting(calendar: Calendar) -> None:
    version = plan(300, 0)
    broken, whole = activate(customer(), version, BEGIN), activate(customer(), version, BEGIN)
    Subscription.objects.filter(pk=broken.pk).update(period_end=month(1) + TICK)  # no such period

    counts = lifecycle.keep(now=calendar.at(month(1) + DAY))

    whole.refresh_from_db()
    broken.refresh_from_db()
    assert (counts["failed"], whole.state, broken.state) == (1, "expired", "active")
    Subscription.objects.filter(pk=broken.pk).update(period_end=month(1))
    assert lifecycle.keep(now=calendar.now)["failed"] == 0


def test_round_stops_in_good_time_and_the_next_goes_on(
    calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = activate(customer(), plan(300, 0), BEGIN)
    monkeypatch.setattr(lifecycle, "SECONDS_AT_MOST", -1)

    assert lifecycle.keep(now=calendar.at(month(1)))["moved"] == 0
    monkeypatch.undo()
    lifecycle.keep(now=calendar.now)

    subscription.refresh_from_db()
    assert subscription.state == "expired"


def test_beat_moves_subscriptions_once_a_slot(calendar: Calendar) -> None:
    slot = f"test-{uuid7()}"
    assert [tasks.keep_subscriptions(slot=slot) for _ in range(2)] == ["done", "skipped"]


def test_plan_without_renewal_ends_exactly_at_the_end_of_its_period(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200)
    subscription = activate(user, version, BEGIN)

    advance(subscription, calendar.at(month(1) - TICK))
    assert (subscription.state, queries.current_period(user.id, at=calendar.now) is None) == ("active", False)
    assert books.hold(user.id, 900 * RUB)["outcome"] == "held"  # 700 paid, 200 granted
    advance(subscription, calendar.at(month(1)))

    assert subscription.state == "expired"
    assert queries.current_period(user.id, at=month(1)) is None
    assert letters(user)[-1] == "plan_ended"
    with pytest.raises(NotSubscribed):
        act(subscriptions.renew, user, calendar.now)
    (hold,) = [entry for entry in books.lots(user.id) if entry.kind == "monthly"]
    assert hold.reserved_micro_rub == 200 * RUB  # what the running request holds stays for it
    books.assert_right(user.id)


def test_fourteen_automatic_periods_neither_drift_nor_pay_twice(calendar: Calendar) -> None:
    user, version = customer(14 * 300), plan(300, 100, cap=30)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    for number in range(1, 14):
        books.spend(user.id, 10 * RUB)
        for _ in range(2):  # beat fires twice
            advance(subscription, calendar.at(month(number) + timedelta(minutes=number)))
        assert (subscription.period_start, subscription.period_end) == (month(number), month(number + 1))
        # Of what a grant left at most 30 is carried, once.
        books.expire_lots(user.id)
        rest = {"purchased": 300 * (13 - number)} if number < 13 else {}
        assert world.left(user.id) == rest | {"monthly": 100, "rollover": 30}

    assert world.kinds(user.id).count("plan_purchase") == world.kinds(user.id).count("plan_grant") == 14
    assert world.left(user.id) == {"monthly": 100, "rollover": 30}
    advance(subscription, calendar.at(month(14)))
    assert subscription.state == "past_due"
    books.expire_lots(user.id)
    assert world.left(user.id) == {}
    assert letters(user).count("plan_renewed") == 13
    books.assert_right(user.id)


def test_late_beat_skips_what_passed_and_charges_one_period(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200, cap=50)
    subscription = activate(user, version, BEGIN, AUTOMATIC)

    advance(subscription, calendar.at(month(3) + DAY))

    assert (subscription.period_start, subscription.period_end) == (month(3), month(4))
    assert [period.starts_at for period in paid(subscription)] == [BEGIN, month(3)]
    assert world.left(user.id) == {"purchased": 400, "monthly": 350, "rollover": 50}
    books.expire_lots(user.id)
    assert world.left(user.id) == {"purchased": 400, "monthly": 200, "rollover": 50}
    books.assert_right(user.id)


def test_sweep_of_lots_waits_for_the_rollover(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200, cap=50)
    subscription = activate(user, version, BEGIN, AUTOMATIC)

    calendar.at(month(1) + timedelta(hours=2))
    assert books.expire_lots(user.id) == 0  # the sweep comes first, and finds nothing to take
    advance(subscription, calendar.now)

    assert world.left(user.id)["rollover"] == 50
    assert books.expire_lots(user.id) == 1
    assert world.left(user.id) == {"purchased": 400, "monthly": 200, "rollover": 50}
    calendar.at(month(2))
    assert books.expire_lots(user.id) == 1  # what was carried once is not carried again
    books.assert_right(user.id)


def test_renewal_ahead_is_paid_once_and_begins_at_the_boundary(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200, cap=50, images=4)
    subscription = activate(user, version, BEGIN)
    act(subscriptions.cancel, user, BEGIN)

    act(subscriptions.renew, user, calendar.at(BEGIN + 20 * DAY), key="ahead")
    act(subscriptions.renew, user, calendar.now, key="ahead")
    with pytest.raises(PeriodPaidAhead):
        act(subscriptions.renew, user, calendar.now)

    subscription.refresh_from_db()
    assert (subscription.period_end, subscription.cancel_at_period_end) == (month(1), False)
    assert queries.standing(subscription, at=calendar.now).paid_until == month(2)
    lifecycle.keep(now=calendar.at(month(1) - DAY))
    assert "plan_ending" not in letters(user)  # it does not end
    advance(subscription, calendar.at(month(1)))
    assert (subscription.state, subscription.period_end) == ("active", month(2))
    assert world.left(user.id)["rollover"] == 50
    advance(subscription, calendar.at(month(2)))
    assert subscription.state == "expired"
    books.expire_lots(user.id)
    books.assert_right(user.id)


def test_cancel_and_resume_around_the_boundary(calendar: Calendar) -> None:
    user, version = customer(), plan()
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    for seconds in range(-3, 0):
        moment = month(1) + timedelta(seconds=seconds)
        assert act(subscriptions.cancel, user, moment).cancel_at_period_end
        assert not act(subscriptions.resume, user, moment).cancel_at_period_end
    act(subscriptions.cancel, user, month(1) - TICK)

    with pytest.raises(NotSubscribed):
        act(subscriptions.resume, user, calendar.at(month(1)))

    advance(subscription, month(1))
    assert subscription.state == "canceled"
    assert world.kinds(user.id).count("plan_purchase") == 1
    again = activate(user, version, month(1) + DAY)  # with an anchor of its own
    assert again.period_end == periods.boundary(month(1) + DAY, 1)


def test_act_at_the_boundary_finds_the_period_that_begins_there(calendar: Calendar) -> None:
    """Nobody has to wait for beat: the customer's own act brings the subscription to the present."""
    user, version = customer(), plan()
    activate(user, version, BEGIN, AUTOMATIC)

    found = act(subscriptions.cancel, user, calendar.at(month(1)))

    assert (found.state, found.period_start, found.cancel_at_period_end) == ("active", month(1), True)


def test_upgrade_pays_and_gives_the_difference_for_the_rest(calendar: Calendar) -> None:
    user, small, large = customer(), plan(300, 200, images=10), plan(700, 500, images=30)
    subscription = activate(user, small, BEGIN)
    half = BEGIN + (month(1) - BEGIN) / 2

    quoted = subscriptions.upgrade_price(subscription, large, now=calendar.at(half))
    with pytest.raises(PriceChanged):
        subscriptions.change(
            customer_id=user.id,
            plan_code=large.plan_id,
            asking=asking(user, half, price_micro_rub=quoted - 1),
        )
    subscriptions.change(
        customer_id=user.id, plan_code=large.plan_id, asking=asking(user, half, price_micro_rub=quoted)
    )

    assert quoted == 200 * RUB
    assert world.left(user.id) == {"purchased": 500, "monthly": 350}
    subscription.refresh_from_db()
    (period,) = paid(subscription)
    assert (subscription.plan_id, subscription.period_end, period.image_quota) == (
        large.plan_id,
        month(1),
        20,
    )
    # The parts of both prices make what was paid: half of each.
    assert sum(row.price_micro_rub for row in period.purchases.all()) == (300 * RUB + 700 * RUB) // 2
    with pytest.raises(PlanUnchanged):
        act(subscriptions.change, user, half, plan_code=large.plan_id)
    books.assert_right(user.id)


def test_upgrade_in_the_last_second_may_cost_nothing_and_still_gives_its_part(calendar: Calendar) -> None:
    user, small, large = customer(), plan(300, 200), plan(301, 700)
    subscription = activate(user, small, BEGIN)

    act(subscriptions.change, user, calendar.at(month(1) - timedelta(seconds=1)), plan_code=large.plan_id)

    purchase = subscription.periods.get().purchases.get(number=1)
    assert (purchase.price_micro_rub, purchase.grant_micro_rub) == (0, 207)  # of 500 RUB in 28 days
    assert world.kinds(user.id) == ["topup", "plan_purchase", "plan_grant", "plan_grant"]
    assert books.lots(user.id)[-1].amount_micro_rub == 207
    books.assert_right(user.id)


def test_smaller_or_longer_plan_begins_with_the_next_period(calendar: Calendar) -> None:
    user, version, cheap, year = customer(5000), plan(300), plan(100, 50), plan(3000, 100, months=12)
    subscription = activate(user, version, BEGIN, AUTOMATIC)

    assert act(subscriptions.change, user, BEGIN, plan_code=cheap.plan_id).next_plan_id == cheap.plan_id
    assert act(subscriptions.change, user, BEGIN, plan_code=year.plan_id).next_plan_id == year.plan_id
    advance(subscription, calendar.at(month(1)))

    assert (subscription.plan_id, subscription.next_plan_id) == (year.plan_id, None)
    assert subscription.period_end == month(13)
    assert world.left(user.id)["purchased"] == 5000 - 300 - 3000
    act(subscriptions.change, user, calendar.now, plan_code=cheap.plan_id)
    assert act(subscriptions.change, user, calendar.now, plan_code=year.plan_id).next_plan_id is None


def test_new_price_counts_for_a_renewal_only_when_the_warning_could_name_it(calendar: Calendar) -> None:
    user, version = customer(2000), plan(300)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    plan(400, code=version.plan_id, valid_from=month(1) - 7 * DAY + TICK)

    advance(subscription, calendar.at(month(1)))
    assert paid(subscription)[-1].price_micro_rub == 300 * RUB
    advance(subscription, calendar.at(month(2)))

    assert paid(subscription)[-1].price_micro_rub == 400 * RUB
    offers.withdraw(code=version.plan_id, reason="Больше не продаём", actor=world.OPERATOR)
    advance(subscription, calendar.at(month(3)))
    assert subscription.state == "active"  # who has it goes on
    with pytest.raises(PlanNotFound):
        activate(customer(), version, calendar.now)


def test_dunning_calendar_then_payment_restores_the_anchor(calendar: Calendar) -> None:
    user, version = customer(300), plan(300, 200)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    failed = month(1) + timedelta(minutes=5)
    seen = []
    for day in range(9):
        for hours in (0, 12):
            advance(subscription, calendar.at(failed + day * DAY + timedelta(hours=hours)))
        seen.append((subscription.state, letters(user).count("plan_past_due")))

    assert seen == [
        ("past_due", 1), ("past_due", 2), ("past_due", 2), ("past_due", 3), ("past_due", 3), ("past_due", 4),
        ("past_due", 4), ("suspended", 5), ("suspended", 5),
    ]  # fmt: skip
    with pytest.raises(NotPaidUp):
        act(subscriptions.change, user, calendar.now, plan_code=version.plan_id)
    books.credit(user.id, 300 * RUB)
    found = act(subscriptions.renew, user, calendar.at(failed + 20 * DAY))

    assert (found.state, found.period_start, found.period_end) == ("active", month(1), month(2))
    assert world.left(user.id) == {"monthly": 400}  # the old grant waits for the sweep
    books.expire_lots(user.id)
    assert world.left(user.id) == {"monthly": 200}
    books.assert_right(user.id)


@pytest.mark.parametrize("pays_on", [1, 3, 5, 7])
def test_attempt_takes_the_price_when_it_is_there(calendar: Calendar, pays_on: int) -> None:
    user, version = customer(300), plan(300)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    advance(subscription, calendar.at(month(1)))
    calendar.at(month(1) + (pays_on - 1) * DAY)
    advance(subscription, calendar.now)
    books.credit(user.id, 300 * RUB)

    advance(subscription, calendar.at(month(1) + pays_on * DAY))

    assert (subscription.state, subscription.period_end) == ("active", month(2))
    assert world.kinds(user.id).count("plan_purchase") == 2


def test_unpaid_subscription_ends_after_thirty_days_and_a_canceled_one_at_once(calendar: Calendar) -> None:
    user, other, version = customer(300), customer(300), plan(300)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    second = activate(other, version, BEGIN, AUTOMATIC)
    for one in (subscription, second):
        advance(one, calendar.at(month(1)))

    assert act(subscriptions.cancel, other, month(1) + DAY).state == "canceled"
    advance(subscription, calendar.at(month(1) + 7 * DAY))
    assert subscription.state == "suspended"
    advance(subscription, month(1) + 30 * DAY - TICK)
    assert subscription.state == "suspended"
    advance(subscription, month(1) + 30 * DAY)

    assert subscription.state == "canceled"
    moves = SubscriptionMove.objects.filter(subscription=subscription).order_by("id")
    assert [move.kind for move in moves] == ["activated", "past_due", "suspended", "ended"]


def test_blocked_customer_is_not_charged(calendar: Calendar) -> None:
    version = plan()
    running, owing = customer(1000), customer(300)
    first = activate(running, version, BEGIN, AUTOMATIC)
    second = activate(owing, version, BEGIN, AUTOMATIC)
    advance(second, calendar.at(month(1)))
    books.credit(owing.id, 300 * RUB)
    User.objects.filter(pk__in=[running.id, owing.id]).update(is_active=False)

    advance(first, calendar.now)
    advance(second, calendar.at(month(1) + DAY))

    assert (first.state, second.state) == ("canceled", "canceled")
    for user in (running, owing):
        books.expire_lots(user.id)
        assert world.kinds(user.id).count("plan_purchase") == 1
        books.assert_right(user.id)


def test_warnings_come_once_each_before_the_end(calendar: Calendar) -> None:
    user, version = customer(), plan()
    subscription = activate(user, version, BEGIN)
    counts = []
    for before in (8 * DAY, 7 * DAY, 6 * DAY, DAY, DAY / 2):
        lifecycle.keep(now=calendar.at(month(1) - before))
        counts.append(letters(user).count("plan_ending"))

    assert counts == [0, 1, 1, 2, 2]
    lifecycle.keep(now=calendar.at(month(1)))
    subscription.refresh_from_db()
    assert (subscription.state, letters(user)[-1]) == ("expired", "plan_ended")


def test_extended_period_is_warned_of_again_before_its_new_end(calendar: Calendar) -> None:
    user = customer()
    activate(user, plan(), BEGIN)
    lifecycle.keep(now=calendar.at(month(1) - 2 * DAY))
    asked = subscriptions.Asking(
        key="", now=calendar.now, actor=world.OPERATOR, reason="Сбой на нашей стороне"
    )
    subscriptions.extend(customer_id=user.id, days=30, asking=asked)

    counts = []
    for before in (8 * DAY, 7 * DAY, DAY):
        lifecycle.keep(now=calendar.at(month(1) + 30 * DAY - before))
        counts.append(letters(user).count("plan_ending"))

    assert counts == [1, 2, 3]


def test_extension_takes_what_was_carried_over_along(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200, cap=50)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    advance(subscription, calendar.at(month(1)))
    asked = subscriptions.Asking(
        key="", now=calendar.now, actor=world.OPERATOR, reason="Сбой на нашей стороне"
    )
    subscriptions.extend(customer_id=user.id, days=5, asking=asked)

    calendar.at(month(2) + DAY)
    books.expire_lots(user.id)
    assert world.left(user.id) == {"purchased": 400, "rollover": 50, "monthly": 200}
    advance(subscription, calendar.at(month(2) + 5 * DAY))
    books.expire_lots(user.id)
    assert world.left(user.id) == {"purchased": 100, "rollover": 50, "monthly": 200}  # never carried twice
    books.assert_right(user.id)


def test_member_of_an_organisation_pays_its_price(calendar: Calendar) -> None:
    user, version = customer(), plan(300, member=150)
    offers.add_member(
        email=user.email, organisation_id=uuid7(), reason="Договор с фирмой", now=BEGIN, actor=world.OPERATOR
    )

    subscription = activate(user, version, BEGIN, AUTOMATIC)
    offers.remove_member(customer_id=user.id, reason="Договор закончился", actor=world.OPERATOR)
    advance(subscription, calendar.at(month(1)))

    assert [period.price_micro_rub for period in paid(subscription)] == [150 * RUB, 300 * RUB]


@pytest.mark.parametrize("days", [0, -1, 367])
def test_extension_is_a_day_to_a_year(calendar: Calendar, days: int) -> None:
    user = customer()
    subscription = activate(user, plan(), BEGIN)

    with pytest.raises(ValueError, match="one day to a year"):
        act(subscriptions.extend, user, BEGIN, days=days)

    subscription.refresh_from_db()
    assert subscription.period_end == month(1)


def test_operator_extends_a_period_and_later_ones_follow(calendar: Calendar) -> None:
    user, version = customer(), plan(300, 200)
    subscription = activate(user, version, BEGIN, AUTOMATIC)
    books.spend(user.id, 20 * RUB)
    asked = subscriptions.Asking(
        key="e1", now=calendar.at(BEGIN + DAY), actor=world.OPERATOR, reason="Сбой на нашей стороне"
    )

    subscriptions.extend(customer_id=user.id, days=5, asking=asked)
    assert subscriptions.extend(customer_id=user.id, days=5, asking=asked).is_replay

    end = month(1) + 5 * DAY
    assert [(lot.remaining_micro_rub // RUB, lot.expires_at) for lot in books.lots(user.id)][1:] == [
        (0, month(1)), (180, end)
    ]  # fmt: skip
    advance(subscription, calendar.at(month(1)))
    assert (subscription.state, subscription.period_end) == ("active", end)
    advance(subscription, calendar.at(end))
    assert (subscription.period_start, subscription.period_end) == (end, periods.boundary(end, 1))
    assert world.left(user.id)["rollover"] == 50
    books.expire_lots(user.id)
    books.assert_right(user.id)
    own = subscriptions.Asking(
        key="", now=BEGIN, actor=type(world.OPERATOR).operator(user.id), reason="Себе самому"
    )
    with pytest.raises(OwnWallet):
        subscriptions.cancel(customer_id=user.id, asking=own)


def test_user_is_deleted_but_the_books_stay(calendar: Calendar) -> None:
    user = customer()
    activate(user, plan(), BEGIN)
    User.objects.filter(pk=user.pk).delete()
    books.assert_right(user.id)
