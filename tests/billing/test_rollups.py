"""Roll-ups of usage: a summary with them is the summary of the rows, whenever days were rolled."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing import queries, rollups, tasks, verification
from billing.models import UsageEvent
from billing.watch_models import UsageDay, UsageRollup
from plyrum import clock as days
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.concurrency.connections import call, client

FIRST_DAY = date(2033, 3, 1)
START = days.start_of(FIRST_DAY)
HOUR = timedelta(hours=1)
KEYS = (None, UUID(int=1), UUID(int=2))

Sums = list[tuple[object, int, int, int, int]]


@pytest.fixture(autouse=True)
def _no_rollups() -> Iterator[None]:
    """Other tests write into days that are closed here."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    UsageRollup.objects.all().delete()
    UsageDay.objects.all().delete()


def use(customer: UUID, cost: int, *, model: str = "a", key: UUID | None = None) -> None:
    """A usage row at the ledger's time. Without a hold: the clock may go back, as chains may not."""
    usage = [books.usage_row(cost, model=model) | {"api_key_id": key}]
    books.settle(customer, None, 0, usage=usage)


def summed(customer: UUID, group_by: str, since: datetime | None, until: datetime | None) -> Sums:
    rows = queries.usage_summary(customer, group_by=group_by, since=since, until=until)
    names = ("key", "requests", "input_tokens", "output_tokens", "cost_micro_rub")
    return [tuple(row[name] for name in names) for row in rows]


def by_rows(customer: UUID, group_by: str, since: datetime | None, until: datetime | None) -> Sums:
    """What the rows themselves make, added up here."""
    sums: dict[str | None, list[int]] = {}
    for row in UsageEvent.objects.filter(customer_id=customer):
        if (since is None or row.created_at >= since) and (until is None or row.created_at < until):
            key = {
                "day": days.day_of(row.created_at).isoformat(),
                "model": row.model,
                "key": str(row.api_key_id) if row.api_key_id else None,
            }[group_by]
            values = (1, row.input_tokens, row.output_tokens, row.charged_micro_rub)
            sums[key] = [a + b for a, b in zip(sums.get(key, [0, 0, 0, 0]), values, strict=True)]
    found = [(key, *values) for key, values in sums.items()]
    found.sort(key=lambda row: (row[0] is None, row[0] or ""), reverse=group_by == "day")
    return found  # type: ignore[return-value]


def findings(customer: UUID) -> list[str]:
    return [row.check for row in verification.examine(wallets=[customer], only=["V46"]).findings]


uses = st.tuples(
    st.integers(0, 4 * 24 * 60),  # minutes after START
    st.integers(1, 10**9),
    st.sampled_from(["a", "b"]),
    st.sampled_from(KEYS),
)
edges = st.none() | st.integers(-60, 5 * 24 * 60) | st.sampled_from([0, 1440, 2880, 4320])


@given(
    history=st.lists(st.lists(uses, max_size=4) | st.just("roll"), min_size=2, max_size=8),
    periods=st.lists(st.tuples(edges, edges), min_size=2, max_size=3),
)
@hypothesis_settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_summary_is_that_of_the_rows_whenever_days_were_rolled(
    clock: LedgerClock, history: list[Any], periods: list[tuple[int | None, int | None]]
) -> None:
    """Time runs on: what is used comes behind the day that was closed before it."""
    _forget()
    customer, now = uuid7(), START
    for step in history:
        if step == "roll":
            now += timedelta(hours=13)
            rollups.roll(now=now)
            continue
        for minutes, cost, model, key in sorted(step, key=str):
            moment = START + timedelta(minutes=minutes)
            closed = queries.closed_through()
            if closed is None or days.day_of(moment) > closed:
                clock.stand_at(moment)
                use(customer, cost, model=model, key=key)

    for since, until in [(None, None), *periods]:
        limits = [START + timedelta(minutes=edge) if edge is not None else None for edge in (since, until)]
        for group_by in ("day", "model", "key"):
            assert summed(customer, group_by, *limits) == by_rows(customer, group_by, *limits)
    assert findings(customer) == []


def close(now: datetime) -> int:
    """Roll until days are closed: whoever writes on the server meanwhile, in any database, delays it."""
    deadline = time.monotonic() + 60
    while not (closed := rollups.roll(now=now)):
        assert time.monotonic() < deadline, "no day is closed"
        time.sleep(0.05)
    return closed


def test_row_that_is_committed_late_is_not_missed(
    clock: LedgerClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control closes the day by time alone."""
    customer, now = uuid7(), START + timedelta(days=1) + 2 * HOUR
    clock.stand_at(START + HOUR)
    use(customer, 5)

    with client() as slow:
        with slow.transaction():
            slow.execute("SELECT set_config('tests.moment', %s, false)", [(START + HOUR).isoformat()])
            call(slow, "ledger_settle", [settled(customer, 7)])
            assert rollups.roll(now=now) == 0
            assert rollups.roll(now=now) == 0
            assert summed(customer, "model", None, None) == [("a", 1, 5, 0, 5)]
        assert close(now) == 1

        assert UsageRollup.objects.filter(customer_id=customer).count() == 1
        assert summed(customer, "model", None, None) == [("a", 2, 12, 0, 12)]
        assert findings(customer) == []

        _forget()
        monkeypatch.setattr(rollups, "OLDEST_UNDER_WAY", "SELECT 9223372036854775807")
        with slow.transaction():
            call(slow, "ledger_settle", [settled(customer, 1)])
            assert rollups.roll(now=now) == 1
        assert summed(customer, "model", None, None) == [("a", 2, 12, 0, 12)]
        assert findings(customer) == ["V46"]


def settled(customer: UUID, cost: int) -> books.Step:
    return books.settle_step(customer, None, 0, usage=[books.usage_row(cost, model="a")])


def test_days_close_late_twice_and_are_rebuilt(clock: LedgerClock) -> None:
    customer = uuid7()
    for day in range(3):
        clock.stand_at(START + timedelta(days=day))
        use(customer, 10, key=KEYS[1])
        use(customer, 20, key=KEYS[day])
    clock.run_on()

    assert rollups.rebuild() == 0
    assert close(START + timedelta(days=1)) == 1  # the day before; its last hour is not over yet
    assert close(START + timedelta(days=3) + HOUR) == 1  # three days at once
    assert rollups.roll(now=START + timedelta(days=3) + HOUR) == 0
    assert rollups.roll(now=START + timedelta(days=2)) == 0

    rows = UsageRollup.objects.filter(customer_id=customer).order_by("day", "requests", "input_tokens")
    assert [(row.day - FIRST_DAY).days for row in rows] == [0, 0, 1, 2, 2]
    assert [row.charged_micro_rub for row in rows] == [10, 20, 30, 10, 20]
    rows.update(charged_micro_rub=1)
    assert set(findings(customer)) == {"V46"}
    out = io.StringIO()
    call_command("rebuild_usage", stdout=out)
    assert "roll-ups written" in out.getvalue()
    assert [row.charged_micro_rub for row in rows.all()] == [10, 20, 30, 10, 20]
    assert findings(customer) == []


def test_job_rolls_and_far_periods_are_answered(clock: LedgerClock) -> None:
    customer = uuid7()
    clock.stand_at(START)
    use(customer, 3)
    clock.run_on()

    for hours in range(1, 24):  # who writes meanwhile delays it
        with time_machine.travel(START + timedelta(days=1) + hours * HOUR, tick=False):
            assert (tasks.roll_usage(), tasks.roll_usage()) == ("done", "skipped")
        if queries.closed_through() is not None:
            break
        time.sleep(0.5)
    assert queries.closed_through() == FIRST_DAY
    far = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    assert summed(customer, "day", *far) == [("2033-03-01", 1, 3, 0, 3)]
    assert summed(customer, "day", far[1], far[0]) == summed(customer, "day", None, far[0]) == []


def test_summary_does_not_read_the_rows_of_closed_days(clock: LedgerClock) -> None:
    customer = uuid7()
    for day, count in ((0, 400), (1, 2)):
        clock.stand_at(START + timedelta(days=day))
        steps = [
            books.settle_step(customer, None, 0, usage=[books.usage_row(1, model="a") for _ in range(count)])
        ]
        books.call("ledger_settle", steps)
    clock.run_on()

    close(START + timedelta(days=1) + HOUR)

    parameters: dict[str, Any] = {"customer": customer, "model": None, **queries._parts(START, None)}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_usageevent")
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + queries.SUMMARIES["day"], parameters)
        plan = cursor.fetchone()[0][0]["Plan"]
    assert sum(rows_read(plan)) == 2
    assert summed(customer, "day", START, None) == [
        ("2033-03-02", 2, 2, 0, 2),
        ("2033-03-01", 400, 400, 0, 400),
    ]


def rows_read(plan: dict[str, Any]) -> Iterator[int]:
    """Rows of usage that the nodes of a plan read, thrown away ones included."""
    if plan.get("Relation Name") == "billing_usageevent":
        yield int(plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    for part in plan.get("Plans", ()):
        yield from rows_read(part)
