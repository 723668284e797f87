"""A step alone, by the functions with typed arguments, ends in every way as by the functions of arrays."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from billing import ledger, pricing
from billing.models import Hold, LedgerEntry, UsageEvent
from billing.pricing import Usage
from orchestration import catalogue
from orchestration.models import Attempt, Run, RunFrames
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.orchestration.conftest import RUB, credited
from tests.orchestration.run_steps import HOLD, Row, attempts, call, open_step, settle_step

pytestmark = pytest.mark.usefixtures("both_forms")
USED = Usage(input_tokens=10, output_tokens=20)
STORY = {"story": '{"balance_micro_rub":null}'}


def begin(*steps: Row) -> list[tuple[Any, ...]]:
    rows = [call("run_open", step)[0] for step in steps]
    return [(row["outcome"], row["state"], row["held"], row["spendable"]) for row in rows]


def end(*steps: Row) -> list[tuple[Any, ...]]:
    rows = [call("run_settle", step)[0] for step in steps]
    return [(row["outcome"], row["charged"], row["released"], row["spendable"]) for row in rows]


def test_run_that_begins_is_kept_as_it_was_asked() -> None:
    customer = credited(factories.customer(), RUB)
    step = open_step(customer.id, uuid7(), str(uuid4())) | {"api_key_id": uuid7()}

    assert begin(step) == [("opened", "running", HOLD, None)]

    run = Run.objects.get(id=step["id"])
    columns = {name: getattr(run, name) for name in step if name not in ("lease_seconds", "hold")}
    assert columns == {name: step[name] for name in columns}
    assert (run.hold_micro_rub, run.cost_micro_rub, run.input_tokens, run.output_tokens) == (HOLD, 0, 0, 0)
    assert (run.error_code, run.finish_reason, run.estimated, run.fence) == ("", "", False, 1)
    assert (run.lease_until - run.created_at).total_seconds() == step["lease_seconds"]
    assert (run.finished_at, run.ledger_entry_id) == (None, None)
    hold = Hold.objects.get(id=run.id)
    assert (hold.amount_micro_rub, (hold.expires_at - hold.created_at).total_seconds()) == (HOLD, 900)


def test_known_key_begins_nothing() -> None:
    customer = credited(factories.customer(), RUB)
    key = str(uuid4())
    first = open_step(customer.id, uuid7(), key)
    others = [open_step(customer.id, uuid7(), key), open_step(customer.id, uuid7(), key, body="e")]

    assert begin(first, *others) == [
        ("opened", "running", HOLD, None),
        ("known", "running", HOLD, None),
        ("mismatch", "running", HOLD, None),
    ]

    assert [run.id for run in Run.objects.filter(customer_id=customer.id)] == [first["id"]]
    assert books.reserved(customer.id) == [HOLD]


def test_run_without_money_ends_as_it_begins() -> None:
    poor, busy = (credited(factories.customer(), 1000) for _ in range(2))
    refused, held, short, limited, soft, free = (
        open_step(person.id, uuid7(), str(uuid4()), amount=amount, soft=amount == HOLD + 1)
        for person, amount in (
            (poor, HOLD), (busy, 900), (busy, 500), (busy, 50), (poor, HOLD + 1), (poor, 1),
        )
    )  # fmt: skip
    limited["hold"]["limits"] = [{"subject": f"user:{busy.id}", "window": "day", "limit": 10}]

    assert begin(refused, held, short, limited, soft, free | {"hold": None}) == [
        ("insufficient_balance", "refused", 0, 1000),
        ("opened", "running", 900, None),
        ("reserved_in_flight", "refused", 0, 100),
        ("limit_exceeded", "refused", 0, None),
        ("opened", "running", 1000, None),
        ("opened", "running", 0, None),
    ]

    kept = Run.objects.filter(customer_id__in=[poor.id, busy.id])
    assert dict(kept.values_list("id", "hold_micro_rub")) == {
        refused["id"]: 0, held["id"]: 900, soft["id"]: 1000, free["id"]: 0,
    }  # fmt: skip
    run = kept.get(id=refused["id"])
    assert (run.error_code, run.route["refused"]) == (
        "insufficient_balance",
        {"needed_micro_rub": HOLD, "balance_micro_rub": 1000},
    )
    books.assert_right(poor.id, busy.id)


def test_run_that_ends_pays_once_and_keeps_its_story() -> None:
    customer = credited(factories.customer(), RUB)
    cost = worth()
    step = open_step(customer.id, uuid7(), str(uuid4()))
    begin(step)
    last = settle_step(customer.id, step["id"]) | STORY | attempts(customer.id, step["id"])
    last["money"] = paid(customer.id, step["id"], cost)

    assert end(last, last, last | {"fence": 2}) == [
        ("done", cost, HOLD - cost, RUB - cost),
        ("replayed", cost, HOLD - cost, None),
        ("fenced", 0, 0, None),
    ]

    run = Run.objects.get(id=step["id"])
    charge = LedgerEntry.objects.get(customer_id=customer.id, type="usage_debit")
    assert (run.state, run.cost_micro_rub, run.ledger_entry_id) == ("done", cost, charge.id)
    assert (charge.id, charge.source_type, charge.source_id) == (run.id, "test", str(run.id))
    usage = UsageEvent.objects.get(run_id=run.id)
    assert (usage.customer_id, usage.ledger_entry_id, usage.charged_micro_rub) == (
        customer.id,
        charge.id,
        cost,
    )
    assert usage.created_at == charge.created_at
    assert Attempt.objects.get(run_id=run.id).status == "done"
    assert RunFrames.objects.get(run_id=run.id).frames == f'{{"balance_micro_rub":{RUB - cost}}}'
    books.assert_right(customer.id)


def test_run_whose_hold_was_charged_already_names_that_charge() -> None:
    customer = credited(factories.customer(), RUB)
    step = open_step(customer.id, uuid7(), str(uuid4()))
    begin(step)
    last = settle_step(customer.id, step["id"])
    last["money"] = paid(customer.id, step["id"], worth())
    ledger.settle([last["money"]])

    assert end(last) == [("replayed", worth(), 0, RUB - worth())]

    run = Run.objects.get(id=step["id"])
    charge = LedgerEntry.objects.get(customer_id=customer.id, type="usage_debit")
    assert (run.state, run.cost_micro_rub, run.ledger_entry_id) == ("done", worth(), charge.id)
    books.assert_right(customer.id)


def test_run_that_cannot_be_paid_keeps_neither_charge_nor_story() -> None:
    customer = credited(factories.customer(), RUB)
    above, late = (open_step(customer.id, uuid7(), str(uuid4())) for _ in range(2))
    late["hold"]["ttl_seconds"] = -1
    begin(above, late)
    steps = [
        settle_step(customer.id, step["id"]) | STORY | attempts(customer.id, step["id"])
        for step in (above, late)
    ]
    steps[0]["money"]["amount"] = HOLD + 1
    steps[1]["money"] = paid(customer.id, late["id"], 700)

    assert end(*steps) == [
        ("over_hold", 0, 0, RUB - 2 * HOLD),
        ("expired", 0, 0, RUB - 2 * HOLD),
    ]

    kept = Run.objects.filter(customer_id=customer.id).order_by("id")
    assert list(kept.values_list("state", "error_code", "cost_micro_rub")) == [
        ("failed", "settle_over_hold", 0),
        ("failed", "settle_expired", 0),
    ]
    assert set(Attempt.objects.filter(customer_id=customer.id).values_list("cost_micro_rub", flat=True)) == {
        0
    }
    usage = UsageEvent.objects.get(customer_id=customer.id)  # what it cost us is known
    assert (usage.run_id, usage.ledger_entry_id, usage.cost_micro_rub) == (late["id"], None, worth())
    assert usage.charged_micro_rub == 0
    assert not RunFrames.objects.filter(customer_id=customer.id).exists()


def test_run_of_an_account_that_is_never_charged_leaves_usage_and_story() -> None:
    nobody = factories.customer()
    step = open_step(nobody.id, uuid7(), str(uuid4())) | {"hold": None}
    begin(step)
    last = settle_step(nobody.id, step["id"], amount=0) | STORY
    last["money"] = paid(nobody.id, None, 0, run_id=step["id"])

    assert end(last) == [("done", 0, 0, None)]

    usage = UsageEvent.objects.get(run_id=step["id"])
    assert (usage.ledger_entry_id, usage.cost_micro_rub, usage.charged_micro_rub) == (None, worth(), 0)
    assert RunFrames.objects.get(run_id=step["id"]).frames == '{"balance_micro_rub":null}'


def test_run_without_a_hold_costs_nothing_whatever_it_is_told() -> None:
    """The charge of a run has its id: a cost without a charge would name one that is not there."""
    nobody = factories.customer()
    step = open_step(nobody.id, uuid7(), str(uuid4())) | {"hold": None}
    begin(step)
    last = settle_step(nobody.id, step["id"])
    last["money"] = paid(nobody.id, None, 700, run_id=step["id"])

    assert end(last) == [("done", 0, 0, None)]

    run = Run.objects.get(id=step["id"])
    assert (run.state, run.cost_micro_rub, run.ledger_entry_id) == ("done", 0, None)


def worth() -> int:
    return paid(uuid7(), None, 0)["usage"][0]["cost_micro_rub"]  # type: ignore[no-any-return]


def paid(customer_id: UUID, hold_id: UUID | None, amount: int, run_id: UUID | None = None) -> Row:
    """Money of a settle step with a usage row."""
    catalogue.refresh()
    price = catalogue.current().offers["sandbox/small"].price
    assert price is not None
    line = ledger.usage_row(
        run_id=hold_id or run_id or uuid7(), model="sandbox/small", provider="sandbox", usage=USED,
        price=price, cost=pricing.cost(USED, price), charged=amount, api_key_id=None, estimated=False,
    )  # fmt: skip
    return ledger.settle_step(
        hold_id=hold_id, customer_id=customer_id, amount=amount, usage=[line], source_type="test"
    )
