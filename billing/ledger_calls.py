"""The calls of the ledger's database functions, under the faces of `billing/ledger.py` and for them alone."""

from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from billing import queries
from billing.errors import InsufficientBalance, LedgerConflict, ReservedInFlight
from billing.models import Account, EntryType, LotKind
from billing.shapes import Credited, Debited
from plyrum.ids import uuid7
from plyrum.transactions import require_transaction

# Source: docs/decisions/0014-paid-money-before-bonuses.md, which is what the offer promises.
SPEND_CLASS = {LotKind.MONTHLY: 1, LotKind.ROLLOVER: 2, LotKind.PURCHASED: 3, LotKind.BONUS: 4}


def credit(*, lot_kind: LotKind, amount: int, key: str, **step: Any) -> Credited:
    require_transaction()
    if amount <= 0:
        raise ValueError("A credit is a positive amount.")
    step |= {"lot_kind": lot_kind, "spend_class": SPEND_CLASS[lot_kind], "amount": amount, "key": key}
    (answer,) = call("ledger_credit", [step])
    refuse_mismatch(answer, key)
    is_new = answer["outcome"] == "done"
    if is_new:
        repay(step["customer_id"], key=f"repay:{step['entry_id']}")
    return Credited(answer["entry_id"], is_new, answer["balance_after"])


def repay(customer_id: UUID, *, key: str) -> int:
    """Repay the customer's debt with what is free in their wallet, which is locked; returns how much."""
    owed = queries.debt(customer_id)
    if not owed:
        return 0
    return take(
        customer_id=customer_id,
        amount=owed,
        credit_account=Account.RECEIVABLE,
        lot_id=None,
        key=key,
        source_type="debt",
        source_id=str(customer_id),
    )


def take(*, type: EntryType = EntryType.CHARGEBACK, **step: Any) -> int:
    """Take what is free, up to `amount`, for a dispute or a rollover; returns how much that was."""
    step |= {"entry_id": uuid7(), "type": type, "partial": True}
    (answer,) = call("ledger_debit", [step])
    refuse_mismatch(answer, step["key"])
    return int(answer["taken"])


def debit(*, amount: int, key: str, **step: Any) -> Debited:
    require_transaction()
    if amount <= 0:
        raise ValueError("A debit is a positive amount.")
    step = {"lot_id": None, **step, "amount": amount, "key": key, "partial": False}
    (answer,) = call("ledger_debit", [step])
    refuse_mismatch(answer, key)
    short = {"insufficient_balance": InsufficientBalance, "reserved_in_flight": ReservedInFlight}
    if answer["outcome"] in short:
        raise short[answer["outcome"]](
            "There is not enough free money in this wallet.",
            needed_micro_rub=amount,
            balance_micro_rub=answer["balance_after"] or 0,
        )
    is_new = answer["outcome"] == "done"
    return Debited(answer["entry_id"], is_new, answer["taken"], answer["balance_after"])


def refuse_mismatch(answer: dict[str, Any], key: str) -> None:
    if answer["outcome"] == "mismatch":
        raise LedgerConflict(f"The key {key} was recorded with other content.")


def call(function: str, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {function}(%s)", [orjson.dumps(steps).decode()])  # noqa: S608 - our own names
        columns = [column.name for column in cursor.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
