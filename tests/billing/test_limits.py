"""Limits of spending and the stop of it: who may set them, what applies to whom, what is written down."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import caches
from django.db import connection, transaction
from django.db.models import Sum
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from accounts.errors import KeyNotFound, UserNotFound
from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import keys, limits, policies, request_rates, windows
from billing.errors import (
    AlreadyBlocked,
    LimitNotFound,
    NotBlocked,
    OwnWallet,
    RequestLimitExceeded,
    SpendingBlocked,
)
from billing.limit_models import LimitLift, RequestRate, SpendingBlock, SpendLimit, Window
from billing.models import LimitCounter, LotKind
from billing.policies import NO_LIMIT, Policy
from billing.shapes import MOST_MICRO_RUB
from plans import offers
from plans.models import Subscription
from plyrum import clock as real_clock
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.billing.test_rollups import rows_read
from tests.plans import world
from tests.threads import at_once

NOON = datetime(2032, 5, 1, 9, tzinfo=UTC)  # noon in Moscow
WHY = "Проверка расходов"


@pytest.fixture
def customer() -> User:
    return factories.customer()


@pytest.fixture
def operator() -> Actor:
    return Actor.operator(factories.operator("finance").id)


def own(customer: User, **amounts: int) -> None:
    wanted = {Window(name): amount for name, amount in amounts.items()}
    actor = Actor.customer(customer.id)
    limits.set_own(customer_id=customer.id, limits=wanted, now=real_clock.now(), actor=actor)


def policy_of(customer: User, *, key: UUID | None = None, now: datetime | None = None) -> Policy:
    return policies.of(customer.id, api_key_id=key, now=now or real_clock.now())


def applied(customer: User, key: UUID | None = None) -> dict[tuple[str, str], int]:
    found = policy_of(customer, key=key).limits
    return {(limit.kind, limit.window.value): limit.limit_micro_rub for limit in found}


def actions(customer: User) -> list[str]:
    rows = AuditEvent.objects.filter(target_user_id=customer.id, action__startswith="billing.")
    return list(rows.order_by("seq").values_list("action", flat=True))


def test_own_limits_replace_each_other_and_the_same_again_is_no_event(customer: User) -> None:
    own(customer, day=300 * RUB, request=5 * RUB)
    own(customer, day=300 * RUB, request=5 * RUB)
    own(customer, month=900 * RUB)

    assert applied(customer) == {("user", "month"): 900 * RUB}
    assert actions(customer) == ["billing.limits.own"] * 2
    own(customer)
    assert applied(customer) == {}


def test_lowest_limit_of_a_window_counts_whoever_set_it(customer: User, operator: Actor) -> None:
    own(customer, day=300 * RUB, hour=50 * RUB)
    subject = limits.user_subject(customer.id)

    def set_by_operator(amount: int) -> SpendLimit:
        return limits.set_limit(
            subject=subject, window=Window.DAY, limit_micro_rub=amount, reason=WHY, now=NOON, actor=operator
        )

    first = set_by_operator(400 * RUB)
    assert applied(customer)["user", "day"] == 300 * RUB

    second = set_by_operator(100 * RUB)

    assert first.pk == second.pk
    assert applied(customer) == {("user", "day"): 100 * RUB, ("user", "hour"): 50 * RUB}
    limits.remove_limit(limit_id=second.pk, reason=WHY, actor=operator)
    assert applied(customer)["user", "day"] == 300 * RUB
    with pytest.raises(LimitNotFound):  # what the customer set is not the operator's to remove
        limits.remove_limit(limit_id=_own_row(customer).pk, reason=WHY, actor=operator)
    assert actions(customer)[1:] == ["billing.limit.set"] * 2 + ["billing.limit.removed"]


def _own_row(customer: User) -> SpendLimit:
    return SpendLimit.objects.get(subject=limits.user_subject(customer.id), window="day", set_by="customer")


def test_limit_of_a_key_applies_to_that_key_only(customer: User, operator: Actor) -> None:
    key = factories.api_key(customer)[0].pk
    limits.set_limit(
        subject=f"key:{key}", window=Window.MONTH, limit_micro_rub=RUB, reason=WHY, now=NOON, actor=operator
    )

    assert applied(customer, key=key) == {("key", "month"): RUB}
    assert applied(customer, key=uuid7()) == applied(customer) == {}
    with pytest.raises(KeyNotFound):
        limits.set_limit(
            subject=f"key:{uuid7()}", window=Window.DAY, limit_micro_rub=RUB, reason=WHY, now=NOON,
            actor=operator,
        )  # fmt: skip


def test_lifted_limit_is_counted_on_until_its_window_ends(customer: User, operator: Actor) -> None:
    own(customer, day=RUB, hour=RUB)
    subject = limits.user_subject(customer.id)

    for _ in range(2):
        limits.lift(subject=subject, window=Window.DAY, reason=WHY, now=NOON, actor=operator)

    before, after = NOON + timedelta(hours=11), NOON + timedelta(hours=12)
    steps = {step["window"]: step["limit"] for step in policy_of(customer, now=before).steps()}
    assert steps == {"day": NO_LIMIT, "hour": RUB}
    assert {step["limit"] for step in policy_of(customer, now=after).steps()} == {RUB}
    assert LimitLift.objects.get(subject=subject).ends_at == after
    assert actions(customer) == ["billing.limits.own", "billing.limit.lifted"]


@pytest.fixture
def _limited_gifts(operator: Actor) -> Iterator[None]:
    """They apply to everybody: other tests must not meet them."""
    rows = [
        limits.set_limit(
            subject=subject,
            window=Window.DAY,
            limit_micro_rub=amount,
            reason=WHY,
            now=NOON,
            actor=operator,
        )
        for subject, amount in (("gift:each", NO_LIMIT // 100), ("gift:all", NO_LIMIT // 10))
    ]
    yield
    for row in rows:
        limits.remove_limit(limit_id=row.pk, reason=WHY, actor=operator)


@pytest.mark.usefixtures("_limited_gifts")
def test_gift_limits_apply_while_there_is_no_other_money(customer: User) -> None:
    books.credit(customer.id, RUB, kind=LotKind.BONUS)
    gifts = policy_of(customer)
    books.credit(customer.id, RUB)
    paid = policy_of(customer)

    assert [limit.subject for limit in gifts.limits] == [f"gift:{customer.id}", "gift:all"]
    assert [meter.limit.subject for meter in policies.meters(gifts, now=NOON)] == [f"gift:{customer.id}"]
    assert paid.limits == ()


@pytest.mark.usefixtures("_limited_gifts")
def test_own_money_that_a_run_holds_leaves_the_next_run_to_the_gift_limits(customer: User) -> None:
    books.credit(customer.id, RUB)
    books.credit(customer.id, 5 * RUB, kind=LotKind.BONUS)

    def gifts_of_all() -> int:
        rows = LimitCounter.objects.filter(subject="gift:all", window="day")
        return int(rows.aggregate(sum=Sum("reserved_micro_rub", default=0))["sum"])

    before = gifts_of_all()
    first = books.held(customer.id, RUB, limits=policy_of(customer).steps())  # all that is their own

    second = books.held(customer.id, 2 * RUB, limits=policy_of(customer).steps())

    own_counter = LimitCounter.objects.get(subject=f"gift:{customer.id}")
    assert own_counter.reserved_micro_rub == gifts_of_all() - before == 2 * RUB
    for hold_id in (first, second):
        books.settle(customer.id, hold_id, 0)
    assert policy_of(customer).limits == ()  # it is free again


@pytest.mark.usefixtures("_limited_gifts")
def test_own_money_whose_time_is_over_is_none(customer: User) -> None:
    books.credit(customer.id, RUB, kind=LotKind.MONTHLY, expires_at=books.in_seconds(3600))

    assert policy_of(customer).limits == ()
    over = policy_of(customer, now=books.in_seconds(3601))  # not swept yet
    assert [limit.subject for limit in over.limits] == [f"gift:{customer.id}", "gift:all"]


def test_policy_reads_lots_by_an_index_of_the_customer(customer: User) -> None:
    """Of those alive or those not given: which one is smaller, the planner knows."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the tables of tests are small
        parameters = policies.parameters(customer.id, None, real_clock.now())
        cursor.execute(f"EXPLAIN {policies.policy_sql()}", parameters)
        plan = "".join(line for (line,) in cursor.fetchall())

    used = set(re.findall(r"billing_lot_\w+", plan))
    assert used
    assert used <= {"billing_lot_alive", "billing_lot_not_given"}
    assert "Seq Scan on billing_lot" not in plan
    assert "Seq Scan on billing_wallet" not in plan


def test_policy_reads_debts_by_the_index_by_type(customer: User) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        parameters = policies.parameters(customer.id, None, real_clock.now())
        cursor.execute(f"EXPLAIN {policies.policy_sql()}", parameters)
        plan = "".join(line for (line,) in cursor.fetchall())

    used = set(re.findall(r"billing_entry_\w+", plan))
    assert "billing_entry_by_type" in used  # what was repaid may be asked by the wallet's few entries
    assert used <= {"billing_entry_by_type", "billing_entry_one_per_seq"}
    assert "Seq Scan on billing_ledgerentry" not in plan


def test_limit_of_a_tier_is_each_customers_own(customer: User, operator: Actor) -> None:
    own(customer, day=5 * RUB)
    facts = {"window": Window.DAY, "reason": WHY, "now": real_clock.now(), "actor": operator}
    rows = [
        limits.set_limit(subject=f"tier:{tier}", limit_micro_rub=amount, **facts)  # type: ignore[arg-type]
        for tier, amount in (("plan", 3 * RUB), ("paid", 9 * RUB))
    ]
    try:
        free = applied(customer)
        on_plan(customer)
        planned = policy_of(customer)
        assert [hold(customer, 3 * RUB), hold(customer, 1)] == ["held", "day"]
    finally:  # they apply to everybody: other tests must not meet them
        for row in rows:
            limits.remove_limit(limit_id=row.pk, reason=WHY, actor=operator)

    assert free == {("user", "day"): 5 * RUB}
    assert [(limit.subject, limit.limit_micro_rub) for limit in planned.limits] == [
        (limits.user_subject(customer.id), 3 * RUB)
    ]
    assert hold(customer, 2 * RUB) == "held"  # the same counter, now by the customer's own limit


def test_tier_follows_the_money_and_the_plan(customer: User) -> None:
    now = real_clock.now()
    assert policy_of(customer).tier == "free"
    books.credit(customer.id, RUB)
    assert policy_of(customer).tier == "paid"
    subscription = on_plan(customer)  # which gives no money: the plan counts, not its grant
    policy = policy_of(customer)
    assert (policy.tier, [rate.count for rate in policy.rates]) == ("plan", [600, 12_000])
    assert policy_of(customer, now=now - timedelta(days=1)).tier == "paid"
    after = subscription.period_end
    assert policy_of(customer, now=after).tier == "plan"  # until beat has ended it, within a minute
    world.advance(subscription, after)
    assert policy_of(customer, now=after).tier == "paid"


def on_plan(customer: User) -> Subscription:
    """The customer buys a plan without a grant that nobody else is offered."""
    version = world.plan(100, 0)
    books.credit(customer.id, 200 * RUB)
    bought = world.activate(customer, version, real_clock.now())
    offers.withdraw(code=version.plan_id, reason=WHY, actor=world.OPERATOR)
    return bought


def test_stop_of_spending_is_an_operators_and_nothing_clears_it(customer: User, operator: Actor) -> None:
    block = limits.block(customer_id=customer.id, reason=WHY, now=NOON, actor=operator)

    with pytest.raises(AlreadyBlocked):
        limits.block(customer_id=customer.id, reason="Остановить ещё раз", now=NOON, actor=operator)
    with pytest.raises(SpendingBlocked):
        policy_of(customer, now=NOON + timedelta(days=400)).require_allowed(0)
    limits.unblock(customer_id=customer.id, reason="Разобрались", now=NOON, actor=operator)
    with pytest.raises(NotBlocked):
        limits.unblock(customer_id=customer.id, reason="Разобрались", now=NOON, actor=operator)

    policy_of(customer).require_allowed(0)
    block.refresh_from_db()
    assert (block.reason, block.lift_reason, block.lifted_at) == (WHY, "Разобрались", NOON)
    assert actions(customer) == ["billing.spending.blocked", "billing.spending.unblocked"]


def test_two_operators_stop_spending_once(customer: User) -> None:
    operators = iter([Actor.operator(factories.operator().id) for _ in range(8)])

    def stop() -> str:
        try:
            limits.block(customer_id=customer.id, reason=WHY, now=NOON, actor=next(operators))
        except AlreadyBlocked:
            return "already"
        return "stopped"

    assert sorted(at_once(8, stop)) == ["already"] * 7 + ["stopped"]
    assert SpendingBlock.objects.filter(customer_id=customer.id).count() == 1


def test_limit_that_refused_leaves_no_flag(customer: User, clock: LedgerClock) -> None:
    """A limit is judged anew for every request: raised or in its next window it refuses no more."""
    own(customer, request=5 * RUB)
    with pytest.raises(RequestLimitExceeded) as refused:
        policy_of(customer).require_allowed(5 * RUB + 1)
    assert refused.value.extra == {"limit_micro_rub": 5 * RUB, "needed_micro_rub": 5 * RUB + 1}
    policy_of(customer).require_allowed(5 * RUB)

    own(customer, request=6 * RUB)

    policy_of(customer).require_allowed(5 * RUB + 1)
    books.credit(customer.id, 100 * RUB)
    clock.stand_at(NOON)
    own(customer, hour=5 * RUB, day=7 * RUB)
    assert [hold(customer, 5 * RUB), hold(customer, 1)] == ["held", "hour"]
    own(customer, hour=6 * RUB, day=7 * RUB)
    assert [hold(customer, RUB), hold(customer, 1)] == ["held", "hour"]
    clock.stand_at(NOON + timedelta(hours=1))
    assert [hold(customer, RUB), hold(customer, 1)] == ["held", "day"]
    clock.stand_at(NOON + timedelta(days=1))
    assert hold(customer, RUB) == "held"


def test_acts_refuse_what_makes_no_sense(customer: User, operator: Actor) -> None:
    subject = limits.user_subject(customer.id)
    good = {"subject": subject, "window": Window.DAY, "limit_micro_rub": RUB, "reason": WHY, "now": NOON}
    wrong: list[tuple[dict[str, object], type[Exception]]] = [
        ({"subject": "user:x"}, InvalidRequest),
        ({"subject": f"gift:{customer.id}"}, InvalidRequest),  # the policy row is gift:each
        ({"limit_micro_rub": -1}, InvalidRequest),
        ({"limit_micro_rub": MOST_MICRO_RUB + 1}, InvalidRequest),
        ({"reason": " "}, InvalidRequest),
        ({"subject": f"user:{uuid7()}"}, UserNotFound),
        ({"subject": f"user:{operator.id}"}, OwnWallet),
    ]
    for facts, error in wrong:
        with pytest.raises(error):
            limits.set_limit(**{**good, **facts}, actor=operator)  # type: ignore[arg-type]
    for subject_, window in (("gift:each", Window.DAY), (subject, Window.REQUEST)):
        with pytest.raises(InvalidRequest):
            limits.lift(subject=subject_, window=window, reason=WHY, now=NOON, actor=operator)
    with pytest.raises(InvalidRequest):
        own(customer, day=-1)
    with pytest.raises(InvalidRequest):
        limits.block(customer_id=customer.id, reason="", now=NOON, actor=operator)

    assert applied(customer) == {}
    assert actions(customer) == []


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.HOUR, "2032-02-29T20:00", "2032-02-29T21:00"),
        (Window.DAY, "2032-02-28T21:00", "2032-02-29T21:00"),
        (Window.MONTH, "2032-01-31T21:00", "2032-02-29T21:00"),
    ],
)
def test_windows_are_those_of_moscow(window: Window, start: str, end: str) -> None:
    last = datetime(2032, 2, 29, 20, 59, 59, 999_999, tzinfo=UTC)  # 23:59:59 in Moscow

    assert windows.start_of(window, last) == datetime.fromisoformat(f"{start}:00+00:00")
    assert windows.end_of(window, last) == datetime.fromisoformat(f"{end}:00+00:00")
    assert windows.start_of(window, last + timedelta(microseconds=1)) == windows.end_of(window, last)


def test_single_request_has_no_calendar() -> None:
    with pytest.raises(ValueError, match="no window"):
        windows.start_of(Window.REQUEST, NOON)


def test_customer_sets_and_reads_limits_over_the_api(client: Client, customer: User, operator: Actor) -> None:
    bearer = factories.bearer(customer)
    wanted = {"day_micro_rub": 300 * RUB, "request_micro_rub": 5 * RUB}

    put = client.put("/api/account/limits", wanted, content_type="application/json", headers=bearer)
    got = client.get("/api/account/limits", headers=bearer)

    assert (put.status_code, got.status_code, put.json()) == (200, 200, got.json())
    shown = got.json()
    assert shown["own"] == {**wanted, "hour_micro_rub": None, "month_micro_rub": None}
    by_window = {row["window"]: row for row in shown["limits"]}
    assert by_window["day"]["resets_at"] > real_clock.rfc3339(real_clock.now())
    assert (by_window["day"]["used_micro_rub"], by_window["request"]["resets_at"]) == (0, None)
    assert shown["requests"] == {"tier": "free", "per_minute": 30, "per_hour": 600}
    assert (shown["spending_blocked"], shown["debt_micro_rub"]) == (False, 0)
    assert client.get("/api/account", headers=bearer).json()["limits"] == wanted
    for body in ({"day_micro_rub": -1}, {"day_micro_rub": 1.5}, {"day_micro_rub": 10**15}, {"week": 1}):
        refused = client.put("/api/account/limits", body, content_type="application/json", headers=bearer)
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    stranger = factories.bearer(factories.stranger())
    assert client.get("/api/account/limits", headers=stranger).json()["limits"] == []


def test_refusal_of_a_common_budget_keeps_its_numbers_to_itself(customer: User) -> None:
    common = policies.AppliedLimit("gift:all", Window.DAY, 500 * RUB, 0, is_lifted=False)

    refused = policies.limit_reached(common, None, now=NOON)

    assert refused.extra == {
        "subject_kind": "gift",
        "window": "day",
        "resets_at": "2032-05-01T21:00:00.000000Z",
    }
    assert refused.retry_after_seconds == 12 * 3600
    of_key = policies.limit_reached(
        policies.AppliedLimit(f"key:{uuid7()}", Window.MONTH, 5, 2, is_lifted=False), None, now=NOON
    )
    assert "this API key's limit of the month" in str(of_key)
    own_limit = policies.AppliedLimit(f"user:{customer.id}", Window.DAY, 5, 2, is_lifted=False)
    assert policies.limit_reached(own_limit, None, now=NOON).extra["used_micro_rub"] == 2


def test_act_stands_when_engines_cannot_be_told(customer: User) -> None:
    dead = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=dead):
        own(customer, day=RUB)
    caches.close_all()

    assert limits.own(customer.id) == {"day": RUB}


def hold(customer: User, amount: int) -> str:
    """What the engine sends at this moment of the ledger's clock: held, or the window that is full."""
    policy = policy_of(customer, now=clock_now())
    answer = books.hold(customer.id, amount, limits=policy.steps())
    if answer["outcome"] == "limit_exceeded":
        return policy.counted[answer["limit_place"]].window.value
    return str(answer["outcome"])


def clock_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_clock()")
        moment: datetime = cursor.fetchone()[0]
        return moment


def test_day_ends_at_midnight_of_moscow(customer: User, clock: LedgerClock) -> None:
    midnight = NOON + timedelta(hours=12)
    books.credit(customer.id, 100 * RUB)
    actor = Actor.customer(customer.id)
    wanted = {Window.DAY: 10 * RUB, Window.MONTH: 15 * RUB}
    limits.set_own(customer_id=customer.id, limits=wanted, now=NOON, actor=actor)
    clock.stand_at(midnight - timedelta(microseconds=1))
    assert [hold(customer, 10 * RUB), hold(customer, 1)] == ["held", "day"]

    clock.stand_at(midnight)

    assert [hold(customer, 6 * RUB), hold(customer, 5 * RUB)] == ["month", "held"]
    used = {
        meter.limit.window: meter.used_micro_rub
        for meter in policies.meters(policy_of(customer), now=midnight)
    }
    assert used == {Window.DAY: 5 * RUB, Window.MONTH: 15 * RUB}
    books.assert_right(customer.id)


def test_what_was_spent_before_the_limit_counts_in_its_window(customer: User, operator: Actor) -> None:
    books.credit(customer.id, 100 * RUB)
    books.spend(customer.id, 7 * RUB)
    own(customer, day=10 * RUB)

    assert [hold(customer, 3 * RUB + 1), hold(customer, 3 * RUB)] == ["day", "held"]
    own(customer, day=20 * RUB)  # what its counter knows is not counted twice
    (meter,) = policies.meters(policy_of(customer), now=real_clock.now())
    assert (meter.spent_micro_rub, meter.reserved_micro_rub) == (7 * RUB, 3 * RUB)
    now = real_clock.now()
    assert policy_of(customer, now=now).holds_until(now) == windows.end_of(Window.DAY, now)
    tomorrow = policy_of(customer, now=real_clock.now() + timedelta(days=1))
    assert tomorrow.limits[0].before_micro_rub == 0
    lifted = limits.lift(
        subject=limits.user_subject(customer.id),
        window=Window.DAY,
        reason=WHY,
        now=real_clock.now(),
        actor=operator,
    )
    assert lifted.ends_at > real_clock.now()
    assert hold(customer, 50 * RUB) == "held"
    (meter,) = policies.meters(policy_of(customer), now=real_clock.now())
    assert meter.used_micro_rub == 60 * RUB  # counted on


def test_limits_of_a_key_are_told_apart(customer: User, operator: Actor) -> None:
    row, _ = factories.api_key(customer, month_limit_micro_rub=300 * RUB)
    now = real_clock.now()
    facts: dict[str, Any] = {
        "subject": f"key:{row.pk}", "window": Window.MONTH, "reason": WHY, "now": now, "actor": operator,
    }  # fmt: skip

    def told(at: datetime = now) -> tuple[int | None, int | None]:
        found = keys.view(row, now=at)
        return found.month_limit_micro_rub, found.month_limit_in_force_micro_rub

    assert told() == (300 * RUB, 300 * RUB)
    limits.set_limit(limit_micro_rub=400 * RUB, **facts)
    assert told() == (300 * RUB, 300 * RUB)
    limit = limits.set_limit(limit_micro_rub=40 * RUB, **facts)
    assert told() == (300 * RUB, 40 * RUB)
    limits.lift(**facts)
    assert told() == (300 * RUB, None)
    assert applied(customer, key=row.pk) == {("key", "month"): 40 * RUB}
    assert all(one.is_lifted for one in policy_of(customer, key=row.pk).limits)
    assert told(windows.end_of(Window.MONTH, now)) == (300 * RUB, 40 * RUB)
    limits.remove_limit(limit_id=limit.pk, reason=WHY, actor=operator)
    assert told(windows.end_of(Window.MONTH, now)) == (300 * RUB, 300 * RUB)


def test_new_key_asks_for_no_usage(customer: User) -> None:
    with CaptureQueriesContext(connection) as asked:
        factories.api_key(customer, month_limit_micro_rub=RUB)

    assert not [query["sql"] for query in asked if "billing_usage" in query["sql"]]


def test_limit_of_a_key_reads_the_usage_of_its_owner_only(customer: User) -> None:
    row, _ = factories.api_key(customer)
    actor = Actor.customer(customer.id)
    spenders = [customer.id] + [books.funded(100) for _ in range(40)]
    books.credit(customer.id, 100)
    for spender in spenders:
        hold_id = books.held(spender, 10)
        usage = [
            books.usage_row(1) | {"api_key_id": row.pk if spender == customer.id else uuid7()}
            for _ in range(10)
        ]
        books.settle(spender, hold_id, 10, usage=usage)

    with CaptureQueriesContext(connection) as asked:
        keys.change(
            customer_id=customer.id, key_id=row.pk, changes={"month_limit_micro_rub": RUB},
            now=real_clock.now(), actor=actor,
        )  # fmt: skip

    (query,) = [one["sql"] for one in asked if "SUM" in one["sql"] and '"billing_usageevent"' in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_usageevent")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        plan = cursor.fetchone()[0][0]["Plan"]
    assert sum(rows_read(plan)) == 10
    assert SpendLimit.objects.get(subject=f"key:{row.pk}").spent_before_micro_rub == 10


def test_operator_changes_the_rate_of_a_tier(operator: Actor) -> None:
    before = RequestRate.objects.get(pk="plan")

    def change(minute: int, hour: int, reason: str = "Растём вместе", tier: str = "plan") -> None:
        request_rates.change(tier=tier, per_minute=minute, per_hour=hour, reason=reason, actor=operator)

    try:
        change(700, 14_000)
        assert RequestRate.objects.get(pk="plan").per_minute == 700
    finally:
        change(before.per_minute, before.per_hour)
    for wrong in ((0, 1), (10, 9), (1, 10**9)):
        with pytest.raises(InvalidRequest):
            change(*wrong)
    with pytest.raises(InvalidRequest):
        change(1, 2, reason=" ")
    with pytest.raises(LimitNotFound):
        change(1, 2, tier="gold")
