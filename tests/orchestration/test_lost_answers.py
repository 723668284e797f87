"""The database did it, but its answer was lost: the same step sent again finds its own effect."""

from typing import Any
from uuid import UUID, uuid4

import orjson
from django.db import connection

from auditlog.actors import SYSTEM
from billing import ledger
from billing.models import LedgerEntry
from orchestration import catalogue, switching
from orchestration.models import Run
from plyrum.ids import uuid7
from tests import factories
from tests.orchestration.conftest import RUB, Client, credited
from tests.orchestration.test_runs import eventually, wait_for_archive

HOLD = 5_000


def call(function: str, step: dict[str, Any]) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {function}(%s)", [orjson.dumps([step]).decode()])  # noqa: S608
        columns = [column.name for column in cursor.description or ()]
        return dict(zip(columns, cursor.fetchone(), strict=True))


def open_step(customer_id: UUID, run_id: UUID, key: str) -> dict[str, Any]:
    return {
        "id": run_id,
        "customer_id": customer_id,
        "idempotency_key": key,
        "fingerprint": "f" * 64,
        "surface": "api",
        "mode": "single",
        "profile": "balanced",
        "model": "sandbox/small",
        "provider": "sandbox",
        "route": {"candidates": [], "input_bound_tokens": 0},
        "estimate_micro_rub": 1,
        "api_key_id": None,
        "lease_seconds": 600,
        "hold": ledger.hold_step(
            hold_id=run_id, customer_id=customer_id, amount=HOLD, ttl_seconds=900, soft=False
        ),
    }


def settle_step(customer_id: UUID, run_id: UUID, *, fence: int = 1, amount: int = 700) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "customer_id": customer_id,
        "fence": fence,
        "state": "done",
        "finish_reason": "stop",
        "error_code": "",
        "model": "sandbox/small",
        "provider": "sandbox",
        "cost_micro_rub": amount,
        "input_tokens": 1,
        "output_tokens": 1,
        "estimated": False,
        "attempts": [],
        "money": ledger.settle_step(
            hold_id=run_id,
            customer_id=customer_id,
            amount=amount,
            entry_id=uuid7(),
            usage=[],
            source_type="test",
        ),
    }


def test_opening_again_finds_the_own_run_with_its_hold() -> None:
    customer = credited(factories.customer(), RUB)
    step = open_step(customer.id, uuid7(), str(uuid4()))

    first, again = call("run_open", step), call("run_open", step)

    assert (first["outcome"], first["held"]) == ("opened", HOLD)
    assert (again["outcome"], again["held"], again["run_id"]) == ("opened", HOLD, step["id"])
    assert Run.objects.filter(customer_id=customer.id).count() == 1


def test_another_run_under_the_key_is_known_and_not_opened() -> None:
    customer = credited(factories.customer(), RUB)
    key, first_id = str(uuid4()), uuid7()
    call("run_open", open_step(customer.id, first_id, key))

    other = call("run_open", open_step(customer.id, uuid7(), key))

    assert (other["outcome"], other["run_id"]) == ("known", first_id)


def test_settling_again_answers_what_was_charged() -> None:
    customer = credited(factories.customer(), RUB)
    run_id = uuid7()
    call("run_open", open_step(customer.id, run_id, str(uuid4())))
    step = settle_step(customer.id, run_id)

    first, again = call("run_settle", step), call("run_settle", step)

    assert (first["outcome"], first["charged"], first["released"]) == ("done", 700, HOLD - 700)
    assert (again["outcome"], again["charged"], again["released"]) == ("replayed", 700, HOLD - 700)
    assert again["entry_id"] == first["entry_id"]
    assert LedgerEntry.objects.filter(customer_id=customer.id, type="usage_debit").count() == 1


def test_settling_with_another_fence_is_shut_out() -> None:
    customer = credited(factories.customer(), RUB)
    run_id = uuid7()
    call("run_open", open_step(customer.id, run_id, str(uuid4())))
    call("run_settle", settle_step(customer.id, run_id))

    late = call("run_settle", settle_step(customer.id, run_id, fence=2, amount=900))

    assert (late["outcome"], late["charged"]) == ("fenced", 0)


def test_replay_is_answered_although_the_model_is_switched_off(client: Client) -> None:
    model, key = "fault/unknown-finish", str(uuid4())
    first = client.run(model, idempotency_key=key)
    wait_for_archive(first.headers["x-plyrum-run"])
    switching.switch_model(model_id=model, is_enabled=False, reason="test of replays", actor=SYSTEM)
    try:
        eventually(lambda: client.run(model).status_code == 503, seconds=20)

        again = client.run(model, idempotency_key=key)
    finally:
        switching.switch_model(model_id=model, is_enabled=True, reason="test of replays", actor=SYSTEM)
        catalogue.refresh()

    assert again.status_code == 200
    assert again.content == first.content
