"""Steps of the functions that open and settle runs, and their calls."""

from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from billing import ledger
from orchestration.engine import OPEN_FIELDS
from orchestration.execution import SETTLE_FIELDS
from plyrum.ids import uuid7

HOLD = 5_000
FIELDS = {"run_open": OPEN_FIELDS, "run_settle": SETTLE_FIELDS}
is_alone_by_itself = True  # a step alone is asked as the engine asks; see the fixture `both_forms`
Row = dict[str, Any]


def call(function: str, *steps: Row) -> list[Row]:
    """The answers of one call, in the order of the steps."""
    name = "given_id" if function == "run_open" else "run_id"
    arguments: list[Any] = [list(steps)]
    called = function
    if any("story" in step for step in steps):
        arguments = [[_without_story(step) for step in steps], Texts(step.get("story") for step in steps)]
    if len(steps) == 1 and is_alone_by_itself:
        called = f"{function}_one"
        arguments = [_value(steps[0], *field.split(".")) for field in FIELDS[function]]
    values = [_sent(argument) for argument in arguments]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {called}({', '.join(['%s'] * len(values))})", values)  # noqa: S608
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    answers = {row[name]: row for row in rows}
    assert len(answers) == len(rows) == len(steps)
    return [answers[step["id" if function == "run_open" else "run_id"]] for step in steps]


class Texts(list[str | None]):
    """An array of its own beside the steps."""


def _without_story(step: Row) -> Row:
    return {name: value for name, value in step.items() if name != "story"}


def _sent(argument: Any) -> Any:
    if isinstance(argument, Texts):
        return list(argument)
    return orjson.dumps(argument).decode() if isinstance(argument, dict | list) else argument


def _value(step: Row, name: str, inner: str = "") -> Any:
    value = step.get(name)
    return value.get(inner) if inner and value is not None else value


def open_step(
    customer_id: UUID, run_id: UUID, key: str, *, amount: int = HOLD, soft: bool = False, body: str = "f"
) -> Row:
    return {
        "id": run_id,
        "customer_id": customer_id,
        "idempotency_key": key,
        "fingerprint": body * 64,
        "surface": "api",
        "mode": "single",
        "profile": "balanced",
        "model": "sandbox/small",
        "provider": "sandbox",
        "route": {"candidates": [], "input_bound_tokens": 0},
        "estimate_micro_rub": 1,
        "api_key_id": None,
        "lease_seconds": 86_400,  # what tests leave running never fills the sweep of another one
        "hold": ledger.hold_step(
            hold_id=run_id, customer_id=customer_id, amount=amount, ttl_seconds=900, soft=soft
        ),
    }


def settle_step(customer_id: UUID, run_id: UUID, *, fence: int = 1, amount: int = 700) -> Row:
    return {
        "run_id": run_id,
        "customer_id": customer_id,
        "fence": fence,
        "state": "done",
        "finish_reason": "stop",
        "error_code": "",
        "model": "sandbox/small",
        "provider": "sandbox",
        "input_tokens": 1,
        "output_tokens": 1,
        "estimated": False,
        "attempts": [],
        "money": ledger.settle_step(
            hold_id=run_id, customer_id=customer_id, amount=amount, usage=[], source_type="test"
        ),
    }


def attempts(customer_id: UUID, run_id: UUID) -> Row:
    """One attempt of a step of run_settle."""
    row = {
        "id": uuid7(),
        "run_id": run_id,
        "customer_id": customer_id,
        "stage": "final",
        "number": 1,
        "model": "sandbox/small",
        "provider": "sandbox",
        "key_fingerprint": "abc",
        "status": "done",
        "error_class": "",
        "http_status": None,
        "input_tokens": 1,
        "output_tokens": 1,
        "cost_micro_rub": 700,
        "first_token_ms": 1,
        "duration_ms": 2,
        "started_at": "2026-11-20T12:00:00Z",
    }
    return {"attempts": [row]}
