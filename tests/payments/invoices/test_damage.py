"""Each damage to invoices, bank lines and their money is told by its own check, and by no other."""

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from billing import verification
from payments.invoices.models import BankLine, Invoice
from payments.verification import INVOICES_SQL
from plyrum.ids import uuid7
from tests.billing.damaging import Damage, damage
from tests.billing.fixtures import LedgerClock, clock
from tests.payments.invoices.firm import Paid, firm, import_, invoice, pays

__all__ = ["clock", "damage"]

MOSCOW = ZoneInfo("Europe/Moscow")

OURS = [check.id for check in verification.checks_in(INVOICES_SQL)]
INVOICE = """
ALTER TABLE payments_invoice DISABLE TRIGGER payments_invoice_is_frozen;
{};
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE payments_invoice ENABLE ALWAYS TRIGGER payments_invoice_is_frozen
"""
SET_STATUS = "UPDATE payments_invoice SET status = '{}' WHERE id = %({})s"
DAMAGE = {
    "total of a paid invoice changed": (
        INVOICE.format(
            "UPDATE payments_invoice SET amount_micro_rub = 1, vat_micro_rub = 0 WHERE id = %(paid)s"
        ),
        {"V34"},
    ),
    "unpaid invoice called paid": (
        "UPDATE payments_invoice SET status = 'paid' WHERE id = %(open)s",
        {"V34"},
    ),
    "paid invoice called void": (SET_STATUS.format("void", "paid"), {"V34"}),
    "number left out": (
        INVOICE.format("UPDATE payments_invoice SET number = number + 1000 WHERE id = %(open)s"),
        {"V34"},
    ),
    "invoice deleted": (INVOICE.format("DELETE FROM payments_invoice WHERE id = %(open)s"), {"V34"}),
    "counter moved": ("UPDATE payments_documentcounter SET last = last + 1", {"V34"}),
    "line forgotten in suspense": (
        "UPDATE payments_bankline SET status = 'returned' WHERE id = %(suspended)s",
        {"V50"},
    ),
    "line in suspense without money": (
        "UPDATE payments_bankline SET amount_micro_rub = amount_micro_rub + 1 WHERE id = %(suspended)s",
        {"V50"},
    ),
    "money in suspense of no line": (
        "UPDATE billing_ledgerentry SET source_id = %(stranger)s WHERE key = 'suspense:' || %(suspended)s",
        {"V50"},
    ),
    "line credited for more than came": (
        "UPDATE payments_bankline SET amount_micro_rub = amount_micro_rub - 1 WHERE id = %(credited)s",
        {"V51"},
    ),
    "line credited under a key of its own": (
        "UPDATE billing_ledgerentry SET key = key || '-' WHERE key = 'topup:' || %(credited)s",
        {"V51"},
    ),
    "line credited out of nowhere": (
        "UPDATE billing_ledgerentry SET debit_account = 'promo' WHERE key = 'topup:' || %(credited)s",
        {"V51"},
    ),
}


def found() -> set[str]:
    return {finding.check for finding in verification.examine(only=OURS).findings}


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """A paid and an open invoice, a credited line and one in suspense."""
    owner = firm().owner_id
    paid, still_open = invoice(owner), invoice(owner)
    credited, suspended = import_(pays(paid), Paid("7.00", "x"))
    rows: tuple[Invoice | BankLine, ...] = (paid, still_open, credited, suspended)
    ids = {
        name: str(row.pk) for name, row in zip(("paid", "open", "credited", "suspended"), rows, strict=True)
    }
    return {**ids, "stranger": str(uuid7())}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_told_by_its_check(
    names: dict[str, object], damage: Callable[[str, dict[str, object]], None], name: str
) -> None:
    statements, expected = DAMAGE[name]
    assert found() == set()

    damage(statements, names)

    assert found() == expected


def test_a_proof_of_one_wallet_asks_nothing_of_numbers_and_suspense(
    names: dict[str, object], damage: Damage
) -> None:
    damage("UPDATE payments_documentcounter SET last = last + 1", names)
    owner = Invoice.objects.get(pk=str(names["paid"])).customer_id

    assert verification.examine(wallets=[owner], only=OURS).findings == ()
    assert found() == {"V34"}


@pytest.mark.parametrize(
    ("imported", "told"),
    [
        (datetime(2033, 6, 3, 12, tzinfo=MOSCOW), datetime(2033, 6, 7, tzinfo=MOSCOW)),  # Friday, Tuesday
        (datetime(2033, 6, 6, 23, tzinfo=MOSCOW), datetime(2033, 6, 8, tzinfo=MOSCOW)),  # Monday, Wednesday
    ],
)
def test_a_line_that_stays_new_is_told_after_two_working_days(
    clock: LedgerClock, imported: datetime, told: datetime
) -> None:
    (line,) = import_(Paid("7.00", "x"))
    BankLine.objects.filter(pk=line.pk).update(status="new")
    line.statement.imported_at = imported
    line.statement.save()

    def is_told(moment: datetime) -> bool:
        clock.stand_at(moment)
        return str(line.pk) in {finding.object for finding in verification.examine(only=["V52"]).findings}

    assert not is_told(told - timedelta(seconds=1))
    assert is_told(told)
    BankLine.objects.filter(pk=line.pk).update(status="suspense")
    assert not is_told(told)
