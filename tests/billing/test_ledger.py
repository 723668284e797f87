"""The ledger's Python face joins its caller's transaction and refuses to move money without one."""

from collections.abc import Callable
from uuid import UUID

import pytest
from django.db import transaction

from billing import ledger
from billing.errors import InsufficientBalance
from billing.models import Account, LedgerEntry, LotKind, SystemEntryType
from plyrum import clock
from plyrum.ids import uuid7
from tests.billing import books


def _charge_back(customer: UUID) -> object:
    return ledger.charge_back(
        customer_id=customer,
        payment_id=uuid7(),
        dispute_id=str(customer),
        amount_micro_rub=1,
        effective_at=clock.now(),
    )


def _book(customer: UUID) -> object:
    return ledger.book(
        entry_id=uuid7(),
        type=SystemEntryType.PAYOUT,
        debit_account=Account.BANK,
        credit_account=Account.PROVIDER_CLEARING,
        amount_micro_rub=1,
        key=f"payout:{customer}",
        source_type="test",
        source_id=str(customer),
        effective_at=clock.now(),
    )


def _adjust(customer: UUID, amount: int) -> object:
    return ledger.adjust(
        entry_id=uuid7(), customer_id=customer, amount_micro_rub=amount, key=str(customer), source_id="x"
    )


ACTS: dict[str, Callable[[UUID], object]] = {
    "credit": lambda customer: _adjust(customer, 1),
    "debit": lambda customer: _adjust(customer, -1),
    "charge back": _charge_back,
    "reverse": lambda customer: ledger.reverse(
        entry_id=uuid7(), customer_id=customer, charge_id=books.entries(customer)[-1].id
    ),
    "book": _book,
}


@pytest.mark.parametrize("name", ACTS)
def test_no_money_moves_outside_a_transaction(name: str) -> None:
    """One statement would commit by itself, and what belongs to it would not be with it."""
    customer = books.funded(10)
    books.spend(customer, 2)
    before = books.entries(customer)

    with pytest.raises(RuntimeError, match="inside the caller's transaction"):
        ACTS[name](customer)

    assert books.entries(customer) == before
    assert not LedgerEntry.objects.filter(source_id=str(customer), seq=None).exists()


def test_nothing_is_no_sum_to_move() -> None:
    customer = books.funded(10)

    with pytest.raises(ValueError, match="positive amount"), transaction.atomic():
        _adjust(customer, 0)
    with pytest.raises(ValueError, match="positive amount"), transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=0, key=str(customer), expires_at=None
        )


def test_who_has_no_wallet_is_told_of_nothing() -> None:
    with pytest.raises(InsufficientBalance) as refused, transaction.atomic():
        _adjust(uuid7(), -5)

    assert refused.value.extra == {"needed_micro_rub": 5, "balance_micro_rub": 0}


def test_only_what_is_asked_for_is_carried_over() -> None:
    """From the first lot on; lots that are not needed stay as they are."""
    customer = books.funded(30, 50)
    first, second = (lot.pk for lot in books.lots(customer))
    with transaction.atomic():
        moved = ledger.carry_over(
            customer_id=customer,
            lot_ids=[first, second],
            at_most=20,
            lot_kind=LotKind.ROLLOVER,
            key=f"rollover:{customer}",
            period_id=uuid7(),
            expires_at=books.in_seconds(60),
            effective_at=books.in_seconds(0),
        )

        assert moved == 20
        assert sorted((lot.kind, lot.remaining_micro_rub) for lot in books.lots(customer)) == [
            ("purchased", 10), ("purchased", 50), ("rollover", 20),
        ]  # fmt: skip
        transaction.set_rollback(True)  # the books are to be right: there is no such period
