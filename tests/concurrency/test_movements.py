"""Debits, reversals and expiry meet holds and each other: money leaves once and comes back once.

The defence is the wallet's lock, taken before anything of the wallet is read.
"""

from collections import Counter

import pytest

from billing.models import LotKind
from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race

CALLERS = 8


def outcomes(answers: list[object]) -> Counter[str]:
    return Counter(str(answer) for answer in answers)


def test_debits_and_holds_never_take_more_than_there_is() -> None:
    customer = books.funded(100)

    def work(found: Client, number: int) -> str:
        if number % 2:
            (row,) = call(found, "ledger_debit", [books.debit_step(customer, 30)])
        else:
            (row,) = call(found, "ledger_hold", [books.hold_step(customer, 30)])
        return str(row["outcome"])

    told = outcomes(list(race(CALLERS, work)))

    assert told["done"] + told["held"] == 3
    assert sum(books.remaining(customer)) - sum(books.reserved(customer)) == 10
    books.assert_right(customer)


def test_charge_is_taken_back_once_by_many() -> None:
    customer = books.funded(100)
    charge = books.spend(customer, 60)

    def work(found: Client, _: int) -> str:
        step = {"entry_id": uuid7(), "customer_id": customer, "reversed_id": charge}
        (row,) = call(found, "ledger_reverse", [step])
        return str(row["outcome"])

    assert outcomes(list(race(CALLERS, work))) == {"done": 1, "replayed": CALLERS - 1}
    assert books.wallet(customer).balance_micro_rub == 100
    books.assert_right(customer)


@pytest.mark.parametrize(
    ("without", "is_safe"), [((copies.ROW_LOCK,), False), ((), True)], ids=["control", "locked"]
)
def test_lock_is_what_keeps_debits_apart(without: tuple[tuple[str, str], ...], is_safe: bool) -> None:
    then = (copies.AMOUNT_CHECK, copies.UNIQUE_KEYS)
    with copies.ledger_copy(*without, then=then) as schema:
        customer = uuid7()
        with client(schema=schema, as_owner=True) as owner:
            call(owner, "ledger_credit", [books.credit_step(customer, 100)])
            owner.execute(copies.meeting(schema, "UPDATE ON billing_wallet", 30))  # the credit met nobody

        def work(found: Client, _: int) -> str:
            (row,) = call(found, "ledger_debit", [books.debit_step(customer, 80)])
            return str(row["outcome"])

        told = outcomes(list(race(2, work, schema=schema, as_owner=True)))

    assert (told["done"] == 1) == is_safe


def test_sweeps_at_once_expire_a_lot_once() -> None:
    customer = books.funded(5)
    books.credit(customer, 40, kind=LotKind.BONUS, expires_at=books.in_seconds(-1))
    (lot,) = [lot for lot in books.lots(customer) if lot.kind == LotKind.BONUS]
    seq = books.wallet(customer).seq

    def work(found: Client, number: int) -> str:
        step = books.debit_step(
            customer, 40, lot=lot.pk, partial=True, key=f"expire:{lot.pk}:{seq + number % 2}"
        )
        (row,) = call(found, "ledger_debit", [step])
        return str(row["outcome"])

    told = outcomes(list(race(CALLERS, work)))

    assert told["done"] == 1
    assert set(told) <= {"done", "replayed", "nothing"}
    assert books.wallet(customer).balance_micro_rub == 5
    books.assert_right(customer)
