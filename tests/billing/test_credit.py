"""Money that comes in: one entry and one lot for each fact, however often it is told."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction

from billing import ledger
from billing.errors import LedgerConflict
from billing.models import Account, EntryType, LotKind, Wallet
from billing.shapes import Credited
from plyrum.ids import uuid7
from tests.billing import books

PAID_AT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


@pytest.fixture
def _undone() -> Iterator[None]:
    """These top-ups belong to payments that do not exist: the suite's books may not keep them."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def topup(customer: UUID, payment: UUID, amount: int) -> Credited:
    return ledger.topup(
        entry_id=uuid7(),
        customer_id=customer,
        amount_micro_rub=amount,
        payment_id=payment,
        effective_at=PAID_AT,
    )


@pytest.mark.usefixtures("_undone")
def test_topup_makes_the_wallet_an_entry_and_a_paid_lot() -> None:
    customer, payment = uuid7(), uuid7()

    credited = topup(customer, payment, 500)

    assert (credited.is_new, credited.balance_after_micro_rub) == (True, 500)
    (entry,) = books.entries(customer)
    assert (entry.pk, entry.type, entry.debit_account, entry.credit_account) == (
        credited.entry_id,
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
    assert entry.effective_at == PAID_AT
    (lot,) = books.lots(customer)
    assert (lot.kind, lot.amount_micro_rub, lot.expires_at, lot.source_entry_id) == (
        LotKind.PURCHASED,
        500,
        None,
        credited.entry_id,
    )


@pytest.mark.usefixtures("_undone")
def test_repeat_of_a_topup_credits_once() -> None:
    customer, payment = uuid7(), uuid7()

    first, again = topup(customer, payment, 500), topup(customer, payment, 500)

    assert (again.entry_id, again.is_new, again.balance_after_micro_rub) == (first.entry_id, False, 500)
    assert books.wallet(customer).balance_micro_rub == 500


@pytest.mark.usefixtures("_undone")
@pytest.mark.parametrize("amount", [499, 501])
def test_known_payment_with_another_amount_is_refused(amount: int) -> None:
    customer, payment = uuid7(), uuid7()
    topup(customer, payment, 500)

    with pytest.raises(LedgerConflict):
        topup(customer, payment, amount)

    assert books.wallet(customer).balance_micro_rub == 500


@pytest.mark.usefixtures("_undone")
def test_known_payment_for_another_wallet_is_refused() -> None:
    customer, stranger, payment = uuid7(), uuid7(), uuid7()
    topup(customer, payment, 500)

    with pytest.raises(LedgerConflict):
        topup(stranger, payment, 500)

    assert books.lots(stranger) == []


@pytest.mark.parametrize("change", [{"source_id": "another"}, {"type": "bonus"}, {"amount": 6}])
def test_known_key_of_another_fact_is_a_mismatch(change: dict[str, object]) -> None:
    step = books.credit_step(uuid7(), 5)
    books.call("ledger_credit", [step])

    (answer,) = books.call("ledger_credit", [step | {"entry_id": uuid7()} | change])

    assert (answer["outcome"], answer["entry_id"]) == ("mismatch", step["entry_id"])


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


def test_hashes_are_what_anybody_can_compute_from_the_entries() -> None:
    """The canonical form, written a second time: a chain, each hash over the one before it."""
    customer = books.funded(100, 50)
    books.spend(customer, 30)
    expected = b""

    for entry in books.entries(customer):
        fields = (1, customer, entry.seq, entry.pk, entry.debit_account, entry.credit_account)
        amounts = (entry.amount_micro_rub, entry.balance_after_micro_rub, entry.key)
        text = "|".join(str(value) for value in (*fields, *amounts))
        expected = hashlib.sha256(expected + text.encode()).digest()
        assert bytes(entry.hash or b"") == expected
    assert bytes(books.wallet(customer).head_hash) == expected
