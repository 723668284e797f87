"""Money leaves a wallet: only what is free, in spend order or from one lot, once per key."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from billing import ledger
from billing.errors import ChargeNotFound, InsufficientBalance, LedgerConflict, ReservedInFlight
from billing.models import Account, CreditLot, EntryType, LedgerEntry, LotKind, SystemEntryType
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

NOON = datetime(2033, 5, 1, 12, 0, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def test_debit_takes_in_spend_order_and_writes_one_line() -> None:
    customer = books.funded(50)
    books.credit(customer, 30, kind=LotKind.BONUS)

    answer = books.debit(customer, 60)

    assert (answer["outcome"], answer["taken"], answer["balance_after"]) == ("done", 60, 20)
    entry = LedgerEntry.objects.get(pk=answer["entry_id"])
    paid, bonus = CreditLot.objects.filter(customer_id=customer).order_by("spend_class")
    assert (entry.debit_account, entry.credit_account, entry.amount_micro_rub) == (
        "wallet",
        "adjustments",
        60,
    )
    assert (entry.lot_ids, entry.lot_amounts) == ([paid.pk, bonus.pk], [50, 10])
    assert (paid.is_spent, paid.remaining_micro_rub, bonus.remaining_micro_rub) == (True, 0, 20)
    books.assert_right(customer)


def test_debit_never_takes_what_a_running_request_holds() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 80)

    assert books.debit(customer, 21)["outcome"] == "reserved_in_flight"
    assert books.debit(customer, 101)["outcome"] == "insufficient_balance"
    assert books.debit(customer, 20)["outcome"] == "done"
    assert books.settle(customer, hold_id, 80)["outcome"] == "done"
    assert books.wallet(customer).balance_micro_rub == 0
    books.assert_right(customer)


def test_lot_that_is_wholly_held_is_passed_over_and_counts_as_there() -> None:
    customer = books.funded(10, 5)
    books.held(customer, 10)

    assert books.debit(customer, 16)["outcome"] == "insufficient_balance"
    assert books.debit(customer, 15)["outcome"] == "reserved_in_flight"
    assert books.debit(customer, 5)["outcome"] == "done"
    assert books.entries(customer)[-1].lot_ids == [books.lots(customer)[1].pk]


def test_debit_from_one_lot_leaves_the_others() -> None:
    customer = books.funded(50, 30)
    first, second = books.lots(customer)

    assert books.debit(customer, 31, lot=second.pk)["outcome"] == "insufficient_balance"
    assert books.debit(customer, 25, lot=second.pk)["outcome"] == "done"
    assert books.remaining(customer) == [50, 5]
    stranger = books.funded(10)
    assert books.debit(stranger, 5, lot=first.pk)["outcome"] == "insufficient_balance"
    books.assert_right(customer, stranger)


def test_partial_debit_takes_what_is_there() -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 70)

    first = books.debit(customer, 100, partial=True, key="x:1")
    nothing = books.debit(customer, 100, partial=True)
    again = books.debit(customer, 100, partial=True, key="x:1")

    assert (first["outcome"], first["taken"]) == ("done", 30)
    assert (nothing["outcome"], nothing["taken"], nothing["entry_id"]) == ("nothing", 0, None)
    assert (again["outcome"], again["taken"], again["entry_id"]) == ("replayed", 30, first["entry_id"])
    books.settle(customer, hold_id, 0)
    books.assert_right(customer)


def test_key_seen_again_is_answered_and_with_other_content_refused() -> None:
    customer, other = books.funded(100), books.funded(100)
    key = f"debit:{uuid7()}"
    first = books.debit(customer, 10, key=key)

    assert books.debit(customer, 10, key=key)["entry_id"] == first["entry_id"]
    assert books.debit(customer, 11, key=key)["outcome"] == "mismatch"
    assert books.debit(other, 10, key=key)["outcome"] == "mismatch"
    assert books.debit(customer, 10, key=key, type=EntryType.REFUND)["outcome"] == "mismatch"
    assert books.wallet(customer).balance_micro_rub == 90


def test_customer_without_a_wallet_has_nothing_to_take() -> None:
    assert books.debit(uuid7(), 1)["outcome"] == "insufficient_balance"
    assert books.debit(uuid7(), 1, partial=True)["outcome"] == "nothing"


def test_adjustments_both_ways() -> None:
    customer = books.funded(100)
    up, down = uuid7(), uuid7()
    with transaction.atomic():
        given = ledger.adjust(
            entry_id=up, customer_id=customer, amount_micro_rub=40, key=str(up), source_id="ticket"
        )
        taken = ledger.adjust(
            entry_id=down, customer_id=customer, amount_micro_rub=-15, key=str(down), source_id="ticket"
        )
        again = ledger.adjust(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=-15, key=str(down), source_id="ticket"
        )

    assert (given.is_new, given.balance_after_micro_rub) == (True, 140)
    assert (taken.is_new, taken.balance_after_micro_rub) == (True, 125)
    assert (again.is_new, again.entry_id) == (False, down)
    assert [e.type for e in books.entries(customer)][1:] == ["admin_adjustment"] * 2
    books.assert_right(customer)


@pytest.mark.parametrize(("amount", "error"), [(-101, InsufficientBalance), (-60, ReservedInFlight)])
def test_adjustment_above_what_is_free_is_refused(amount: int, error: type[Exception]) -> None:
    customer = books.funded(100)
    hold_id = books.held(customer, 50)

    with pytest.raises(error), transaction.atomic():
        ledger.adjust(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=amount, key=str(uuid7()), source_id="t"
        )

    books.settle(customer, hold_id, 0)
    assert books.wallet(customer).balance_micro_rub == 100


def test_adjustment_under_a_known_key_with_another_amount_is_a_conflict() -> None:
    customer, key = books.funded(100), str(uuid7())
    with transaction.atomic():
        ledger.adjust(entry_id=uuid7(), customer_id=customer, amount_micro_rub=-5, key=key, source_id="t")

    with pytest.raises(LedgerConflict), transaction.atomic():
        ledger.adjust(entry_id=uuid7(), customer_id=customer, amount_micro_rub=-6, key=key, source_id="t")


def test_reversal_gives_each_lot_what_it_gave() -> None:
    customer = books.funded(50)
    books.credit(customer, 30, kind=LotKind.BONUS)
    charge = books.spend(customer, 45)

    answer = books.reverse(customer, charge)

    assert (answer["outcome"], answer["returned"], answer["balance_after"]) == ("done", 45, 80)
    assert sorted(books.remaining(customer)) == [30, 50]
    assert not CreditLot.objects.filter(customer_id=customer, is_spent=True).exists()
    entry = LedgerEntry.objects.get(pk=answer["entry_id"])
    assert (entry.type, entry.debit_account, entry.credit_account) == ("reversal", "revenue", "wallet")
    assert (entry.source_type, entry.source_id) == ("entry", str(charge))
    books.assert_right(customer)


def test_reversal_happens_once_and_for_its_owner_only() -> None:
    customer, other = books.funded(50), books.funded(50)
    charge = books.spend(customer, 20)

    assert books.reverse(other, charge)["outcome"] == "unknown"
    first, again = books.reverse(customer, charge), books.reverse(customer, charge)
    assert (first["outcome"], again["outcome"]) == ("done", "replayed")
    assert again["entry_id"] == first["entry_id"]
    assert books.reverse(customer, first["entry_id"])["outcome"] == "unknown"  # no reversal of a reversal
    assert books.wallet(customer).balance_micro_rub == 50
    with pytest.raises(ChargeNotFound), transaction.atomic():
        ledger.reverse(entry_id=uuid7(), customer_id=other, charge_id=charge)


def test_lot_is_swept_from_its_time_on_and_not_before(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = books.funded(5)
    books.credit(customer, 30, kind=LotKind.BONUS, expires_at=NOON + timedelta(hours=1))
    clock.stand_at(NOON + timedelta(hours=1) - MICRO)
    books.expire_lots(customer)
    assert books.wallet(customer).balance_micro_rub == 35

    clock.stand_at(NOON + timedelta(hours=1))
    assert books.expire_lots(customer) >= 1
    books.expire_lots(customer)

    assert books.wallet(customer).balance_micro_rub == 5
    (entry,) = [e for e in books.entries(customer) if e.type == "expiry"]
    assert (entry.credit_account, entry.amount_micro_rub) == ("breakage", 30)
    assert entry.effective_at == NOON + timedelta(hours=1)
    books.assert_right(customer)


def test_what_a_running_request_holds_of_a_lot_expires_after_it(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = books.funded()
    books.credit(customer, 100, kind=LotKind.BONUS, expires_at=NOON + timedelta(minutes=1))
    hold_id = books.held(customer, 60)

    clock.stand_at(NOON + timedelta(minutes=2))
    books.expire_lots(customer)
    assert books.wallet(customer).balance_micro_rub == 60
    books.settle(customer, hold_id, 25)
    books.expire_lots(customer)

    amounts = [e.amount_micro_rub for e in books.entries(customer) if e.type == "expiry"]
    assert amounts == [40, 35]
    assert books.wallet(customer).balance_micro_rub == 0
    books.assert_right(customer)


def test_what_a_reversal_returns_to_an_expired_lot_is_swept_again(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = books.funded(1)
    books.credit(customer, 10, kind=LotKind.BONUS, expires_at=NOON + timedelta(minutes=1))
    charges = [books.spend(customer, 5), books.spend(customer, 5)]
    clock.stand_at(NOON + timedelta(minutes=2))

    for charge in charges:
        books.reverse(customer, charge)
        books.expire_lots(customer)

    amounts = [e.amount_micro_rub for e in books.entries(customer) if e.type == "expiry"]
    assert amounts == [5, 5]
    assert books.wallet(customer).balance_micro_rub == 1
    books.assert_right(customer)


def test_expiry_of_a_lot_whose_time_has_not_come_is_refused(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = books.funded()
    books.credit(customer, 10, kind=LotKind.BONUS, expires_at=NOON + MICRO)
    (lot,) = books.lots(customer)

    assert books.debit(customer, 10, lot=lot.pk, type=EntryType.EXPIRY)["outcome"] == "insufficient_balance"


@pytest.mark.parametrize(("partial", "outcome"), [(False, "insufficient_balance"), (True, "nothing")])
def test_expiry_takes_nothing_of_a_lot_without_an_end(partial: bool, outcome: str) -> None:
    customer = books.funded(100)
    (lot,) = books.lots(customer)

    answer = books.debit(customer, 10, lot=lot.pk, type=EntryType.EXPIRY, partial=partial)

    assert (answer["outcome"], books.remaining(customer)) == (outcome, [100])


def test_money_between_system_accounts_touches_no_wallet_and_happens_once() -> None:
    key = f"payout:{uuid7()}"

    def book(amount: int) -> bool:
        with transaction.atomic():
            return ledger.book(
                entry_id=uuid7(),
                type=SystemEntryType.PAYOUT,
                debit_account=Account.BANK,
                credit_account=Account.PROVIDER_CLEARING,
                amount_micro_rub=amount,
                key=key,
                source_type="payment",
                source_id=key,
                effective_at=NOON,
            )

    assert (book(70), book(70)) == (True, False)
    with pytest.raises(LedgerConflict):
        book(71)
    (entry,) = LedgerEntry.objects.filter(key=key)
    assert (entry.customer_id, entry.seq, entry.effective_at) == (None, None, NOON)


@pytest.mark.parametrize("side", ["debit_account", "credit_account"])
def test_wallet_is_no_system_account(side: str) -> None:
    accounts = {
        "debit_account": Account.BANK,
        "credit_account": Account.PROVIDER_CLEARING,
        side: Account.WALLET,
    }

    with pytest.raises(Exception, match="a wallet moves by its own functions"), transaction.atomic():
        ledger.book(
            entry_id=uuid7(),
            type=SystemEntryType.PAYOUT,
            amount_micro_rub=1,
            key=str(uuid7()),
            source_type="x",
            source_id="x",
            effective_at=NOON,
            **accounts,
        )


def test_named_kind_of_lots_is_taken_alone_also_among_others() -> None:
    customer = uuid7()
    books.credit(customer, 100, kind=LotKind.MONTHLY, expires_at=books.in_seconds(36_000))
    books.credit(customer, 50)
    paid = {"lot_kind": LotKind.PURCHASED}
    steps = [
        books.debit_step(customer, 40) | paid,
        books.debit_step(customer, 20),
        books.debit_step(customer, 20) | paid,
        books.debit_step(customer, 10) | paid,
    ]

    told = [row["outcome"] for row in books.call("ledger_debit", steps)]

    assert told == ["done", "done", "insufficient_balance", "done"]
    assert books.remaining(customer) == [80, 0]
    books.assert_right(customer)
