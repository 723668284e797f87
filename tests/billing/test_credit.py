"""Money that comes in: one entry and one lot for each fact, however often it is told."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from billing import ledger
from billing.errors import LedgerConflict
from billing.models import Account, EntryType, LotKind, Wallet
from billing.shapes import Credited
from plyrum.ids import uuid7
from tests.billing import books


def test_topup_makes_the_wallet_an_entry_and_a_paid_lot() -> None:
    customer, payment, entry_id = uuid7(), uuid7(), uuid7()
    paid_at = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)

    with transaction.atomic():
        credited = ledger.topup(
            entry_id=entry_id,
            customer_id=customer,
            amount_micro_rub=500,
            payment_id=payment,
            effective_at=paid_at,
        )

    assert (credited.entry_id, credited.is_new, credited.balance_after_micro_rub) == (entry_id, True, 500)
    (entry,) = books.entries(customer)
    assert (entry.type, entry.debit_account, entry.credit_account) == (
        EntryType.TOPUP,
        Account.PROVIDER_CLEARING,
        Account.WALLET,
    )
    assert (entry.seq, entry.key, entry.source_type, entry.source_id) == (
        1,
        f"topup:{payment}",
        "payment",
        str(payment),
    )
    assert entry.effective_at == paid_at
    (lot,) = books.lots(customer)
    assert (lot.kind, lot.amount_micro_rub, lot.expires_at, lot.source_entry_id) == (
        LotKind.PURCHASED,
        500,
        None,
        entry_id,
    )
    books.assert_right(customer)


def test_repeat_of_a_topup_credits_once() -> None:
    customer, payment = uuid7(), uuid7()

    @transaction.atomic
    def credit() -> Credited:
        return ledger.topup(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=500,
            payment_id=payment,
            effective_at=datetime.now(UTC),
        )

    first, again = credit(), credit()

    assert (again.entry_id, again.is_new, again.balance_after_micro_rub) == (first.entry_id, False, 500)
    assert books.wallet(customer).balance_micro_rub == 500
    books.assert_right(customer)


@pytest.mark.parametrize("amount", [499, 501])
def test_known_payment_with_another_amount_is_refused(amount: int) -> None:
    customer, payment = uuid7(), uuid7()
    books.credit(customer, 500, key=f"topup:{payment}")

    with pytest.raises(LedgerConflict), transaction.atomic():
        ledger.topup(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=amount,
            payment_id=payment,
            effective_at=datetime.now(UTC),
        )

    assert books.wallet(customer).balance_micro_rub == 500


def test_known_payment_for_another_wallet_is_refused() -> None:
    customer, stranger, payment = uuid7(), uuid7(), uuid7()
    books.credit(customer, 500, key=f"topup:{payment}")

    assert books.credit(stranger, 500, key=f"topup:{payment}")["outcome"] == "mismatch"
    assert books.lots(stranger) == []


@pytest.mark.parametrize("amount", [0, -1])
def test_credit_is_a_positive_amount(amount: int) -> None:
    customer = uuid7()

    with pytest.raises(ValueError), transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=amount, key="x", expires_at=None
        )
    with pytest.raises(IntegrityError):
        books.credit(customer, amount)

    assert not Wallet.objects.filter(pk=customer).exists()


def test_credit_demands_the_callers_transaction() -> None:
    with pytest.raises(RuntimeError):
        ledger.bonus(entry_id=uuid7(), customer_id=uuid7(), amount_micro_rub=1, key="x", expires_at=None)


def test_credit_falls_with_the_callers_transaction() -> None:
    customer = uuid7()

    def fail() -> None:
        with transaction.atomic():
            ledger.bonus(
                entry_id=uuid7(),
                customer_id=customer,
                amount_micro_rub=5,
                key=str(uuid7()),
                expires_at=None,
            )
            raise RuntimeError("the work did not succeed")

    with pytest.raises(RuntimeError):
        fail()
    assert not Wallet.objects.filter(pk=customer).exists()


def test_bonus_is_an_own_lot_with_its_expiry() -> None:
    customer, expires_at = uuid7(), books.in_seconds(3600)

    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=5,
            key=f"welcome:{customer}",
            expires_at=expires_at,
        )

    (lot,) = books.lots(customer)
    (entry,) = books.entries(customer)
    assert (lot.kind, lot.expires_at) == (LotKind.BONUS, expires_at)
    assert (entry.type, entry.debit_account, entry.key) == ("bonus", "promo", f"bonus:welcome:{customer}")
    books.assert_right(customer)


def test_credits_of_one_wallet_come_in_their_order() -> None:
    customers = [uuid7() for _ in range(3)]
    steps = [books.credit_step(customers[place % 3], place + 1) for place in range(60)]

    books.call("ledger_credit", steps)

    for place, customer in enumerate(customers):
        assert [entry.amount_micro_rub for entry in books.entries(customer)] == list(range(place + 1, 61, 3))
    books.assert_right(*customers)


def test_twins_in_one_batch_credit_once() -> None:
    customer, key = uuid7(), f"test:{uuid7()}"
    steps = [books.credit_step(customer, 5, key=key), books.credit_step(customer, 5, key=key)]

    assert [row["outcome"] for row in books.call("ledger_credit", steps)] == ["done", "replayed"]
    books.assert_right(customer)


def test_wallet_is_opened_once() -> None:
    customer = uuid7()

    ledger.open_wallet(customer_id=customer)
    books.credit(customer, 5)
    ledger.open_wallet(customer_id=customer)

    assert books.wallet(customer).balance_micro_rub == 5
    books.assert_right(customer)


def test_time_of_an_entry_is_read_after_the_lock() -> None:
    """`now()` is when the transaction began: a waiter would write an older time with a newer number."""
    customer = uuid7()

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT now(), pg_sleep(0.02)")
        (began, _) = cursor.fetchone()
        books.credit(customer, 5)

    assert books.entries(customer)[0].created_at > began
