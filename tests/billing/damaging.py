"""Fixtures that damage the books: as the owner, guards lifted, in one transaction that is rolled back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing.models import LotKind
from billing.verification import APPEND_ONLY_TABLES
from plyrum.ids import uuid7
from tests.billing import books

Damage = Callable[[str, dict[str, object]], None]


@dataclass(frozen=True)
class Books:
    """A wallet in which everything has happened: lots of two kinds, holds in each state, usage, entries."""

    customer: UUID
    captured: UUID
    released: UUID
    open: UUID

    @property
    def names(self) -> dict[str, object]:
        monthly, paid, untouched = books.lots(self.customer)
        first, *_, last = books.entries(self.customer)
        return {
            "customer": self.customer,
            "captured": self.captured,
            "released": self.released,
            "open": self.open,
            "monthly": monthly.pk,
            "paid": paid.pk,
            "untouched": untouched.pk,
            "first": first.pk,
            "last": last.pk,
            "stranger": uuid7(),
        }


@pytest.fixture
def kept() -> Books:
    customer = uuid7()
    books.credit(customer, 100, kind=LotKind.MONTHLY, expires_at=books.in_seconds(36_000))
    books.credit(customer, 500)
    books.credit(customer, 70)
    captured, released, still_open = (books.held(customer, amount) for amount in (150, 40, 60))
    books.settle(customer, captured, 120)
    books.settle(customer, released, 0)
    return Books(customer, captured, released, still_open)


@pytest.fixture
def damage() -> Iterator[Damage]:
    """Run statements as the owner with the guards lifted; everything is rolled back at the end."""
    role = connection.settings_dict["OPTIONS"].pop("assume_role")
    connection.close()
    try:
        with transaction.atomic():
            yield _damage
            transaction.set_rollback(True)
    finally:
        connection.settings_dict["OPTIONS"]["assume_role"] = role
        connection.close()


def _damage(statements: str, names: dict[str, object]) -> None:
    with connection.cursor() as cursor:
        for table in APPEND_ONLY_TABLES:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER frozen, DISABLE TRIGGER not_truncated")
        for statement in statements.split(";"):
            if "rehash" in statement:
                _rehash(names["customer"])
            elif statement.strip():
                cursor.execute(statement, names)  # type: ignore[arg-type]
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in APPEND_ONLY_TABLES:
            cursor.execute(
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER frozen, ENABLE ALWAYS TRIGGER not_truncated"
            )


def _rehash(customer: object) -> None:
    """What somebody who knows the chain does after changing a row: compute all hashes anew."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM billing_ledgerentry WHERE customer_id = %s ORDER BY seq",
            [customer],  # type: ignore[list-item]
        )
        head: bytes | memoryview = b""
        for (entry,) in cursor.fetchall():
            cursor.execute(
                "UPDATE billing_ledgerentry SET hash = ledger_hash(%s, customer_id, seq, id,"
                " debit_account, credit_account, amount_micro_rub, balance_after_micro_rub, key)"
                " WHERE id = %s RETURNING hash",
                [bytes(head), entry],
            )
            (head,) = cursor.fetchone()
        cursor.execute(
            "UPDATE billing_wallet SET head_hash = %s WHERE customer_id = %s",
            [bytes(head), customer],  # type: ignore[list-item]
        )
