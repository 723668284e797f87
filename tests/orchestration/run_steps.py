"""Steps of the functions that open and settle runs, and their calls."""

from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from billing import ledger
from plyrum.ids import uuid7

HOLD = 5_000
Row = dict[str, Any]


def call(function: str, *steps: Row) -> list[Row]:
    """The answers of one call, in the order of the steps."""
    name = "given_id" if function == "run_open" else "run_id"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {function}(%s)", [orjson.dumps(list(steps)).decode()])  # noqa: S608
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    answers = {row[name]: row for row in rows}
    assert len(answers) == len(rows) == len(steps)
    return [answers[step["id" if function == "run_open" else "run_id"]] for step in steps]


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
        "lease_seconds": 600,
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
            hold_id=run_id,
            customer_id=customer_id,
            amount=amount,
            entry_id=uuid7(),
            usage=[],
            source_type="test",
        ),
    }
