"""Faults that earlier systems of this kind had, each as one test that would have found it.

Those of plans and of limits stand with their own tests.
"""

import ast
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accounts.models import User
from billing import models
from billing.models import EntryType, LotKind
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.concurrency.connections import Client, call, race

NOON = datetime(2034, 1, 1, 12, 0, tzinfo=UTC)
ROOT = Path(models.__file__).resolve().parent.parent


@pytest.mark.parametrize("kind", list(LotKind))
def test_grant_adds_exactly_what_it_books(kind: LotKind) -> None:
    customer = uuid7()
    answer = books.credit(customer, 777, kind=kind)

    (entry,), (lot,) = books.entries(customer), books.lots(customer)
    assert entry.amount_micro_rub == lot.amount_micro_rub == lot.remaining_micro_rub == 777
    assert answer["balance_after"] == books.wallet(customer).balance_micro_rub == 777


def test_inflow_told_again_is_credited_once() -> None:
    customer, key = uuid7(), f"paid:{uuid7()}"

    outcomes = [books.credit(customer, 500, key=key)["outcome"] for _ in range(3)]

    assert outcomes == ["done", "replayed", "replayed"]
    assert books.remaining(customer) == [500]


def test_expiry_books_what_was_left_before_it(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = books.funded()
    books.credit(customer, 90, kind=LotKind.BONUS, expires_at=NOON + timedelta(minutes=1))
    books.spend(customer, 20)
    clock.stand_at(NOON + timedelta(minutes=1))

    books.expire_lots(customer)

    expiry = books.entries(customer)[-1]
    assert (expiry.type, expiry.amount_micro_rub, expiry.balance_after_micro_rub) == ("expiry", 70, 0)


def test_refunds_at_once_never_give_back_more_than_was_free() -> None:
    customer = books.funded(100, 1000)
    lot = books.lots(customer)[0]

    def work(found: Client, _: int) -> str:
        (row,) = call(
            found, "ledger_debit", [books.debit_step(customer, 30, lot=lot.pk, type=EntryType.REFUND)]
        )
        return str(row["outcome"])

    told = Counter(str(answer) for answer in race(8, work))

    assert told == {"done": 3, "insufficient_balance": 5}
    assert books.remaining(customer) == [10, 1000]
    books.assert_right(customer)


def test_partial_refund_leaves_the_rest_of_its_top_up() -> None:
    customer = books.funded(100)
    lot = books.lots(customer)[0]

    books.debit(customer, 40, lot=lot.pk, type=EntryType.REFUND)

    lot.refresh_from_db()
    assert (lot.remaining_micro_rub, lot.is_spent) == (60, False)
    assert books.hold(customer, 60)["outcome"] == "held"
    books.settle(customer, books.entries(customer)[0].pk, 0)


def test_money_is_set_aside_before_the_work_and_not_looked_up_after_it() -> None:
    """Two requests that each saw enough money: only one of them is let through to the provider."""
    customer = books.funded(100)

    def work(found: Client, _: int) -> str:
        (row,) = call(found, "ledger_hold", [books.hold_step(customer, 80)])
        return str(row["outcome"])

    told = Counter(str(answer) for answer in race(2, work))

    assert told == {"held": 1, "reserved_in_flight": 1}


def test_ledger_outlives_the_user() -> None:
    user = factories.customer()
    books.credit(user.id, 500)
    books.spend(user.id, 20)
    before = [(entry.pk, entry.hash) for entry in books.entries(user.id)]

    User.objects.filter(pk=user.pk).delete()

    tables = (models.LedgerEntry, models.CreditLot, models.Hold, models.Wallet, models.UsageEvent)
    assert not [field for table in tables for field in table._meta.get_fields() if field.is_relation]
    books.assert_right(user.id)
    assert [(entry.pk, entry.hash) for entry in books.entries(user.id)] == before


@pytest.mark.parametrize("app", ["billing", "plans", "payments"])
def test_money_is_never_a_float(app: str) -> None:
    """No literal with a point, no `float`, no float column, but for seconds and shares."""
    found = []
    for path in sorted((ROOT / app).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
            is_name = isinstance(node, ast.Name) and node.id == "float"
            is_column = isinstance(node, ast.Attribute) and node.attr == "FloatField"
            if is_literal or is_name or is_column:
                line = text.splitlines()[node.lineno - 1]  # type: ignore[attr-defined]
                if not re.search(r"seconds|share|Progress", line, re.IGNORECASE):
                    found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert found == []
