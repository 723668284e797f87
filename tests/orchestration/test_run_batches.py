"""Runs opened and settled in one call: each step ends as it would alone, and its neighbours with it."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from django.db import connection, transaction

from billing.models import Hold, LedgerEntry
from orchestration.models import Attempt, Run, RunFrames
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.orchestration.conftest import RUB, credited
from tests.orchestration.run_steps import HOLD, attempts, call, open_step, settle_step


def opened(customer_id: Any, *amounts: int) -> list[Any]:
    """Ids of runs that were opened together, each with its hold."""
    steps = [open_step(customer_id, uuid7(), str(uuid4()), amount=amount) for amount in amounts]
    assert [row["outcome"] for row in call("run_open", *steps)] == ["opened"] * len(amounts)
    return [step["id"] for step in steps]


def test_each_step_of_a_mixed_batch_ends_as_it_would_alone() -> None:
    rich, poor, busy = (credited(factories.customer(), amount) for amount in (RUB, 1000, 1000))
    opened(busy.id, 900)
    known_key, known_id = str(uuid4()), uuid7()
    call("run_open", open_step(rich.id, known_id, known_key))
    free = open_step(rich.id, uuid7(), str(uuid4())) | {"hold": None}
    steps = [
        open_step(rich.id, uuid7(), str(uuid4())),
        open_step(poor.id, uuid7(), str(uuid4())),
        open_step(busy.id, uuid7(), str(uuid4()), amount=500),
        open_step(rich.id, uuid7(), known_key),
        open_step(rich.id, uuid7(), known_key, body="e"),
        open_step(poor.id, uuid7(), str(uuid4()), soft=True),
        free,
    ]

    rows = call("run_open", *steps)

    assert [(row["outcome"], row["state"], row["held"]) for row in rows] == [
        ("opened", "running", HOLD),
        ("insufficient_balance", "refused", 0),
        ("reserved_in_flight", "refused", 0),
        ("known", "running", HOLD),
        ("mismatch", "running", HOLD),
        ("opened", "running", 1000),
        ("opened", "running", 0),
    ]
    assert rows[3]["run_id"] == known_id
    assert (rows[1]["spendable"], rows[2]["spendable"]) == (1000, 100)
    kept = {run.id: run for run in Run.objects.filter(id__in=[step["id"] for step in steps])}
    assert {steps.index(step) for step in steps if step["id"] in kept} == {0, 1, 5, 6}
    refused = kept[steps[1]["id"]]
    assert (refused.state, refused.error_code, refused.hold_micro_rub) == (
        "refused",
        "insufficient_balance",
        0,
    )
    assert refused.finished_at is not None
    assert refused.route["refused"] == {"needed_micro_rub": HOLD, "balance_micro_rub": 1000}
    assert kept[steps[5]["id"]].hold_micro_rub == 1000
    books.assert_right(rich.id, poor.id, busy.id)


def test_twins_of_one_batch_are_one_run_with_one_hold() -> None:
    customer = credited(factories.customer(), RUB)
    key = str(uuid4())
    steps = [open_step(customer.id, uuid7(), key) for _ in range(3)]

    rows = call("run_open", *steps)

    assert [row["outcome"] for row in rows] == ["opened", "known", "known"]
    assert {row["run_id"] for row in rows} == {steps[0]["id"]}
    assert Hold.objects.filter(customer_id=customer.id).count() == 1
    assert books.reserved(customer.id) == [HOLD]


def test_twins_of_a_run_that_could_not_be_kept_are_refused_as_it_is() -> None:
    customer = credited(factories.customer(), HOLD + 20)
    opened(customer.id, HOLD)
    key = str(uuid4())

    rows = call("run_open", *(open_step(customer.id, uuid7(), key, amount=100) for _ in range(30)))

    assert [(row["outcome"], row["held"], row["spendable"]) for row in rows] == [
        ("reserved_in_flight", 0, 20)
    ] * 30
    assert not Run.objects.filter(idempotency_key=key).exists()


def test_settlements_of_a_batch_answer_each_by_itself() -> None:
    one, other = (credited(factories.customer(), RUB) for _ in range(2))
    first, second, third = (*opened(one.id, HOLD, HOLD), *opened(other.id, HOLD))
    call("run_settle", settle_step(one.id, second))
    steps = [
        settle_step(other.id, third, amount=HOLD + 1),
        settle_step(one.id, second),
        settle_step(one.id, first, amount=300),
        settle_step(other.id, first),
        settle_step(one.id, uuid7()),
    ]
    steps[3]["run_id"] = uuid7()  # a run of nobody

    rows = call("run_settle", *steps)

    assert [(row["outcome"], row["charged"], row["released"]) for row in rows] == [
        ("over_hold", 0, 0),
        ("replayed", 700, HOLD - 700),
        ("done", 300, HOLD - 300),
        ("fenced", 0, 0),
        ("fenced", 0, 0),
    ]
    assert rows[2]["spendable"] == RUB - 700 - 300
    run = Run.objects.get(id=first)
    assert (run.state, run.cost_micro_rub, run.ledger_entry_id) == ("done", 300, rows[2]["entry_id"])
    failed = Run.objects.get(id=third)
    assert (failed.state, failed.error_code, failed.cost_micro_rub) == ("failed", "settle_over_hold", 0)
    assert failed.ledger_entry_id is None
    assert LedgerEntry.objects.filter(customer_id=one.id, type="usage_debit").count() == 2
    books.assert_right(one.id, other.id)


def test_each_story_stays_with_its_run_when_steps_fall_out() -> None:
    customer = credited(factories.customer(), RUB)
    over, *rest = opened(customer.id, *[1000] * 6)
    call("run_settle", settle_step(customer.id, over))
    order = [*rest[3:], over, *rest[:3]]  # neither by id nor all of them ours any more
    stories = {run_id: f"story of {run_id}" for run_id in order if run_id != order[1]}
    steps = [
        settle_step(customer.id, run_id, amount=place) | ({"story": stories[run_id]} if place != 2 else {})
        for place, run_id in enumerate(order, start=1)
    ]

    rows = call("run_settle", *steps)

    kept = dict(RunFrames.objects.filter(run_id__in=order).values_list("run_id", "frames"))
    assert kept == {run_id: story for run_id, story in stories.items() if run_id != over}
    charged = [row["charged"] for row in rows]
    assert charged == [700 if run_id == over else place for place, run_id in enumerate(order, start=1)]


def test_run_of_another_customer_is_not_ended() -> None:
    one, other = (credited(factories.customer(), RUB) for _ in range(2))
    first, second = opened(one.id, HOLD, HOLD)

    rows = call("run_settle", settle_step(other.id, first), settle_step(one.id, second))

    assert [row["outcome"] for row in rows] == ["fenced", "done"]
    assert Run.objects.get(id=first).state == "running"
    call("run_settle", settle_step(one.id, first))


def test_who_has_no_wallet_has_nothing_left() -> None:
    """A soft hold of nothing needs none."""
    rich, nobody = credited(factories.customer(), RUB).id, uuid7()
    steps = [open_step(person, uuid7(), str(uuid4()), soft=True) for person in (rich, nobody)]
    call("run_open", *steps)

    rows = call(
        "run_settle",
        *(
            settle_step(step["customer_id"], step["id"], amount=0) | {"story": '"balance_micro_rub":null'}
            for step in steps
        ),
    )

    assert [(row["outcome"], row["spendable"]) for row in rows] == [("done", RUB), ("done", 0)]
    assert RunFrames.objects.get(run_id=steps[1]["id"]).frames == '"balance_micro_rub":0'


def test_only_runs_that_end_now_get_attempts() -> None:
    customer = credited(factories.customer(), RUB)
    run_id, over = opened(customer.id, HOLD, HOLD)
    call("run_settle", settle_step(customer.id, over))

    call(
        "run_settle",
        *(settle_step(customer.id, each) | attempts(customer.id, each) for each in (over, run_id)),
    )

    assert list(Attempt.objects.filter(customer_id=customer.id).values_list("run_id", flat=True)) == [run_id]


def test_attempts_of_a_run_that_is_not_charged_cost_nothing() -> None:
    """Its customer reads them beside a run of nothing."""
    customer = credited(factories.customer(), RUB)
    paid, unpaid = opened(customer.id, HOLD, HOLD)

    call(
        "run_settle",
        settle_step(customer.id, paid) | attempts(customer.id, paid),
        settle_step(customer.id, unpaid, amount=HOLD + 1) | attempts(customer.id, unpaid),
    )

    costs = dict(Attempt.objects.filter(customer_id=customer.id).values_list("run_id", "cost_micro_rub"))
    assert costs == {paid: 700, unpaid: 0}


def test_second_step_for_one_run_in_a_call_is_a_replay_of_the_first() -> None:
    customer = credited(factories.customer(), RUB)
    (run_id,) = opened(customer.id, HOLD)
    steps = [settle_step(customer.id, run_id, amount=amount) for amount in (700, 600)]
    stale = settle_step(customer.id, run_id, fence=0, amount=500)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT outcome, charged FROM run_settle(%s)", [orjson.dumps([stale, *steps]).decode()]
        )
        rows = cursor.fetchall()

    run = Run.objects.get(id=run_id)
    charge = LedgerEntry.objects.get(customer_id=customer.id, type="usage_debit")
    assert sorted(rows) == [("done", 700), ("fenced", 0), ("replayed", 700)]
    assert (run.state, run.cost_micro_rub, run.ledger_entry_id) == ("done", 700, charge.id)
    books.assert_right(customer.id)


@pytest.mark.usefixtures("both_forms")
def test_run_that_ends_is_found_by_its_id_with_a_plan_of_an_empty_table() -> None:
    """A connection keeps the plan of its first call: it may not read all runs of the customer later."""
    rich = credited(factories.customer(), RUB)
    connection.close()
    call("run_settle", settle_step(rich.id, uuid7()))
    run_ids = [opened(rich.id, 1000)[0] for _ in range(30)]

    with transaction.atomic(), connection.cursor() as cursor:
        rows = call("run_settle", settle_step(rich.id, run_ids[-1]))
        cursor.execute(
            "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'orchestration_run'"
        )
        (read,) = cursor.fetchone()

    assert rows[0]["outcome"] == "done"
    assert read == 1
