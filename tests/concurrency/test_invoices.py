"""Invoices and bank lines in parallel: numbers without gaps, a document credited once, with controls."""

import threading
from datetime import date
from functools import partial

import pytest
from django.db import transaction
from django.db.models import Max

from accounts.models import User
from billing import ledger
from billing.models import Account
from payments.invoices import bank, numbers
from payments.invoices.models import BankDecision, BankLine, BankStatement, DocumentCounter, Invoice
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.payments.invoices.firm import (
    Paid,
    attach,
    exchange,
    firm,
    give_back,
    import_,
    invoice,
    operator,
    pays,
)
from tests.payments.shop import RUB, at_once

CALLERS = 8
PARALLEL_ISSUES = 30


class Undone(Exception):
    """The act fails after it has taken its number."""


@pytest.fixture
def owner() -> User:
    found = factories.customer()
    firm(found)
    return found


def failures(found: list[object]) -> list[object]:
    return [one for one in found if isinstance(one, Exception) and not hasattr(one, "code")]


def test_thirty_issues_at_once_take_thirty_numbers_though_one_is_undone(owner: User) -> None:
    now = clock.now()
    first = invoice(owner.id, now=now)

    def undone() -> None:
        with transaction.atomic():
            numbers.take(DocumentCounter.Kind.INVOICE, first.year)
            raise Undone

    found = at_once([lambda: invoice(owner.id, now=now)] * (PARALLEL_ISSUES - 1) + [undone])

    assert [type(one) for one in found if isinstance(one, Exception)] == [Undone]
    issued = sorted(row.number for row in found if isinstance(row, Invoice))
    assert issued == list(range(first.number + 1, first.number + PARALLEL_ISSUES))


def test_one_key_at_once_is_one_invoice(owner: User) -> None:
    key = str(uuid7())

    found = at_once([lambda: invoice(owner.id, key=key)] * CALLERS)

    assert not failures(found)
    assert len({row.id for row in found}) == 1
    assert Invoice.objects.filter(customer_id=owner.id).count() == 1


def test_without_the_counter_two_issues_take_one_number() -> None:
    """The control: read the highest number, then write the next one. The unique column alone refuses."""
    statement = BankStatement.objects.create(
        format="csv", sha256="0" * 64, imported_by=uuid7(), imported_at=clock.now(), incoming=0, fresh=0,
        outgoing=0, foreign=0,
    )  # fmt: skip
    both_have_looked = threading.Barrier(2)

    def careless() -> int:
        with transaction.atomic():
            rows = BankLine.objects.filter(statement=statement)
            highest = rows.aggregate(highest=Max("amount_micro_rub"))["highest"] or 0
            both_have_looked.wait(60)
            BankLine.objects.create(
                statement=statement, number=uuid7().hex[-16:], document_date=date(2026, 1, 1),
                booked_on=date(2026, 1, 1), amount_micro_rub=highest + 1, payer_account="1",
                status="returned",
            )  # fmt: skip
            return int(highest + 1)

    assert at_once([careless, careless]) == [1, 1]


def test_a_file_imported_many_times_at_once_credits_once(owner: User) -> None:
    """Named regression: redelivered success credits twice."""
    row = invoice(owner.id)
    content = exchange(pays(row, number="7"), Paid("3.00", "x", number=uuid7().hex[-15:]))

    found = at_once([lambda: bank.import_file(content=content, now=clock.now(), actor=operator())] * CALLERS)

    assert not failures(found)
    assert sorted(one.fresh for one in found) == [0] * (CALLERS - 1) + [2]
    assert [entry.signed_micro_rub for entry in books.entries(owner.id)] == [5_000 * RUB]
    books.assert_right(owner.id)


def test_without_line_lock_and_key_the_same_line_credits_twice(owner: User) -> None:
    """The control: look at the line's state, then credit under a key of one's own."""
    row = invoice(owner.id)
    (line,) = import_(pays(row, purpose="x"))
    both_have_looked = threading.Barrier(2)

    def careless() -> None:
        with transaction.atomic():
            found = BankLine.objects.get(pk=line.pk)
            both_have_looked.wait(60)
            if found.status == "suspense":
                ledger.bonus(
                    entry_id=uuid7(),
                    customer_id=owner.id,
                    amount_micro_rub=found.amount_micro_rub,
                    key=f"control-{uuid7()}",
                    expires_at=None,
                )

    at_once([careless, careless])

    assert sum(entry.signed_micro_rub for entry in books.entries(owner.id)) == 2 * 5_000 * RUB


def test_the_ledger_key_alone_credits_a_line_once(owner: User) -> None:
    """The second defence, behind the lock of the line; undone, since no line stands behind it."""
    line_id = uuid7()

    def credit() -> bool:
        return ledger.topup(
            entry_id=uuid7(),
            customer_id=owner.id,
            amount_micro_rub=RUB,
            payment_id=line_id,
            effective_at=clock.now(),
            debit_account=Account.BANK,
            source_type="bank_line",
        ).is_new

    with transaction.atomic():
        assert [credit(), credit()] == [True, False]
        transaction.set_rollback(True)


def test_attaching_and_returning_at_once_leave_one_decision(owner: User) -> None:
    row = invoice(owner.id)
    (line,) = import_(pays(row, purpose="x"))

    found = at_once([lambda: attach(line, row), lambda: give_back(line)] * (CALLERS // 2))

    assert not failures(found)
    assert sum(isinstance(one, BankDecision) for one in found) == 1
    line.refresh_from_db()
    credited = 5_000 * RUB if line.status == "credited" else 0
    assert sum(entry.signed_micro_rub for entry in books.entries(owner.id)) == credited
    assert BankDecision.objects.filter(line=line).count() == 1


def test_two_lines_that_pay_one_invoice_at_once_credit_it_once(owner: User) -> None:
    row = invoice(owner.id)
    now = clock.now()
    files = [exchange(pays(row)) for _ in range(CALLERS)]

    found = at_once(
        [partial(bank.import_file, content=content, now=now, actor=operator()) for content in files]
    )

    assert not failures(found)
    assert [entry.signed_micro_rub for entry in books.entries(owner.id)] == [5_000 * RUB]
    reasons = BankLine.objects.filter(purpose=row.purpose).values_list("reason", flat=True)
    assert sorted(reasons) == [""] + ["invoice_closed"] * (CALLERS - 1)
