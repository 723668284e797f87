"""Refunds out of a top-up's own lot; disputes, covered by what is free, owed for the rest, repaid first."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from billing import ledger, policies, queries, tasks, verification
from billing.errors import InsufficientBalance, LedgerConflict, ReservedInFlight
from billing.models import LedgerEntry, LotKind
from billing.schemas import limits_out
from billing.shapes import ChargedBack, Credited, Debited
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

NOON = datetime(2033, 6, 1, 12, 0, tzinfo=UTC)


def topped_up(customer: UUID, amount: int) -> UUID:
    """A paid payment, credited."""
    return books.topped_up(customer, amount, at=NOON)


def top_up(customer: UUID, amount: int, payment_id: UUID) -> Credited:
    with transaction.atomic():
        return ledger.topup(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=amount,
            payment_id=payment_id,
            effective_at=NOON,
        )


def refund(customer: UUID, payment_id: UUID, amount: int, refund_id: UUID | None = None) -> Debited:
    with transaction.atomic():
        return ledger.refund(
            entry_id=uuid7(),
            customer_id=customer,
            payment_id=payment_id,
            refund_id=refund_id or uuid7(),
            amount_micro_rub=amount,
            effective_at=NOON,
        )


def charge_back(customer: UUID, payment_id: UUID, amount: int, dispute: str) -> ChargedBack:
    with transaction.atomic():
        return ledger.charge_back(
            customer_id=customer,
            payment_id=payment_id,
            dispute_id=dispute,
            amount_micro_rub=amount,
            effective_at=NOON,
        )


def test_refund_takes_from_the_lot_of_its_own_top_up() -> None:
    customer = uuid7()
    older, newer = topped_up(customer, 100), topped_up(customer, 100)
    books.spend(customer, 30)
    assert (queries.refundable(older), queries.refundable(newer)) == (70, 100)
    refund_id = uuid7()

    first, again = refund(customer, newer, 90, refund_id), refund(customer, newer, 90, refund_id)

    assert (first.is_new, first.taken_micro_rub, first.balance_after_micro_rub) == (True, 90, 80)
    assert (again.is_new, again.entry_id) == (False, first.entry_id)
    assert (queries.refundable(older), queries.refundable(newer)) == (70, 10)
    assert LedgerEntry.objects.get(pk=first.entry_id).effective_at == NOON
    books.assert_right(customer)


def give_bonus(customer: UUID, payment_id: UUID, amount: int) -> None:
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=amount, key=f"pack:{payment_id}",
            expires_at=None, payment_id=payment_id,
        )  # fmt: skip


def test_refund_takes_its_part_of_the_bonus_back_as_far_as_it_is_left() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 300)
    give_bonus(customer, payment_id, 100)
    refund_id = uuid7()

    refund(customer, payment_id, 100, refund_id)
    refund(customer, payment_id, 100, refund_id)
    assert books.remaining(customer) == [200, 67]  # a third of the bonus, rounded down
    refund(customer, payment_id, 50)
    assert books.remaining(customer) == [150, 50]  # half of it in all
    books.debit(customer, 47, lot=books.lots(customer)[1].pk)
    refund(customer, payment_id, 150)
    assert books.remaining(customer) == [0, 0]  # spent bonus stops no refund
    books.assert_right(customer)


def test_refund_too_small_for_a_part_of_the_bonus_takes_none() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 300)
    give_bonus(customer, payment_id, 100)

    refund(customer, payment_id, 2)

    assert books.remaining(customer) == [298, 100]
    books.assert_right(customer)


def test_dispute_takes_its_part_of_the_bonus_back_and_is_not_paid_with_it() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 300)
    give_bonus(customer, payment_id, 100)
    other = topped_up(customer, 50)
    give_bonus(customer, other, 10)  # of another payment: it stays the customer's, and covers like any money

    refund(customer, payment_id, 150)
    assert books.remaining(customer) == [150, 50, 50, 10]
    dispute = str(uuid7())
    first, again = (charge_back(customer, payment_id, 75, dispute) for _ in range(2))
    assert (first, again) == (ChargedBack(True, 75, 0), ChargedBack(False, 75, 0))
    assert books.remaining(customer) == [75, 25, 50, 10]  # of both together three quarters of the bonus
    books.spend(customer, 61)
    assert charge_back(customer, payment_id, 75, str(uuid7())) == ChargedBack(True, 74, 1)
    assert books.remaining(customer) == [0, 0, 0, 0]
    backs = LedgerEntry.objects.filter(customer_id=customer, key__startswith="bonus_back:")
    assert sorted(entry.amount_micro_rub for entry in backs) == [25, 25, 50]
    books.assert_right(customer)


def test_refunds_disputes_and_their_debts_may_make_up_a_payment_and_no_more() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 300)
    refund(customer, payment_id, 100)
    books.spend(customer, 150)
    assert charge_back(customer, payment_id, 100, str(uuid7())) == ChargedBack(True, 50, 50)
    assert charge_back(customer, payment_id, 100, str(uuid7())) == ChargedBack(True, 0, 100)
    books.assert_right(customer)
    topped_up(customer, 200)  # repays the debt, and leaves 50 of another payment

    with transaction.atomic():
        charge_back(customer, payment_id, 1, str(uuid7()))
        findings = verification.examine(wallets=[customer]).findings
        transaction.set_rollback(True)  # the books of all tests are proved at the end

    assert [(finding.check, finding.object, finding.detail) for finding in findings] == [
        ("V24", str(payment_id), "paid 300, given back 301")
    ]


def test_debt_of_an_earlier_dispute_counts_for_the_bonus_too() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    hold_id = books.held(customer, 100)
    charge_back(customer, payment_id, 50, str(uuid7()))  # all of it a debt
    books.settle(customer, hold_id, 100)
    charge_back(customer, payment_id, 25, str(uuid7()))
    assert queries.debt(customer) == 75
    topped_up(customer, 75)
    give_bonus(customer, payment_id, 40)

    charge_back(customer, payment_id, 25, str(uuid7()))

    (back,) = LedgerEntry.objects.filter(customer_id=customer, key__startswith="bonus_back:")
    assert (back.amount_micro_rub, queries.debt(customer)) == (40, 25)
    books.assert_right(customer)


def test_refund_is_refused_beyond_what_is_free_of_its_top_up() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    topped_up(customer, 500)
    hold_id = books.held(customer, 60)

    assert queries.refundable(payment_id) == 40
    with pytest.raises(ReservedInFlight):
        refund(customer, payment_id, 41)
    with pytest.raises(InsufficientBalance):
        refund(customer, payment_id, 101)
    books.settle(customer, hold_id, 60)
    with pytest.raises(InsufficientBalance):
        refund(customer, payment_id, 41)
    refund(customer, payment_id, 40)
    assert queries.refundable(payment_id) == 0
    books.assert_right(customer)


def test_payment_that_was_never_credited_has_nothing_to_give_back() -> None:
    customer = books.funded(100)

    assert queries.refundable(uuid7()) == 0
    with pytest.raises(InsufficientBalance):
        refund(customer, uuid7(), 1)
    assert books.wallet(customer).balance_micro_rub == 100


def test_dispute_is_covered_by_its_own_lot_first() -> None:
    customer = uuid7()
    older, newer = topped_up(customer, 100), topped_up(customer, 100)
    books.spend(customer, 20)

    assert charge_back(customer, newer, 100, "d1") == ChargedBack(True, 100, 0)

    assert (queries.refundable(older), queries.refundable(newer)) == (80, 0)
    assert queries.debt(customer) == 0
    books.assert_right(customer)


def test_what_is_not_covered_is_owed_and_repaid_by_whatever_comes_in() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    books.credit(customer, 10, kind=LotKind.BONUS)
    books.spend(customer, 70)
    dispute = str(uuid7())

    first, again = (charge_back(customer, payment_id, 100, dispute) for _ in range(2))

    assert (first, again) == (ChargedBack(True, 40, 60), ChargedBack(False, 40, 60))
    assert (queries.debt(customer), books.wallet(customer).balance_micro_rub) == (60, 0)
    policy = policies.of(customer, now=NOON)
    assert limits_out({}, policy, []).debt_micro_rub == 60
    topped_up(customer, 25)
    assert (queries.debt(customer), books.wallet(customer).balance_micro_rub) == (35, 0)
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=customer, amount_micro_rub=5, key=str(uuid7()), expires_at=None
        )
    assert queries.debt(customer) == 30
    later = topped_up(customer, 100)
    assert not top_up(customer, 100, later).is_new
    assert (queries.debt(customer), books.wallet(customer).balance_micro_rub) == (0, 70)
    books.assert_right(customer)


def test_running_request_keeps_what_it_holds_in_a_dispute() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    hold_id = books.held(customer, 30)

    assert charge_back(customer, payment_id, 100, str(uuid7())) == ChargedBack(True, 70, 30)

    assert books.settle(customer, hold_id, 30)["outcome"] == "done"
    books.assert_right(customer)


def test_what_a_running_request_gives_back_repays_the_debt() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    hold_id = books.held(customer, 30)
    charge_back(customer, payment_id, 100, str(uuid7()))
    books.settle(customer, hold_id, 10)
    assert books.wallet(customer).balance_micro_rub == 20
    assert customer in ledger.debtors()
    slot = str(uuid7())

    assert (tasks.collect_debts(slot=slot), tasks.collect_debts(slot=slot)) == ("done", "skipped")

    assert (queries.debt(customer), books.wallet(customer).balance_micro_rub) == (10, 0)
    books.assert_right(customer)


def test_debtor_whose_books_are_broken_keeps_no_other_waiting(owner: BaseDatabaseWrapper) -> None:
    debtors = sorted(uuid7() for _ in range(2))
    for customer in debtors:
        payment_id = topped_up(customer, 100)
        hold_id = books.held(customer, 30)
        charge_back(customer, payment_id, 100, str(uuid7()))
        books.settle(customer, hold_id, 0)

    def tell(balance: int) -> None:
        with owner.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_wallet SET balance_micro_rub = %s WHERE customer_id = %s",
                [balance, debtors[0]],
            )

    tell(balance=1)  # less than its lots
    try:
        tasks.collect_debts(slot=str(uuid7()))
        assert [queries.debt(customer) for customer in debtors] == [30, 0]
    finally:
        tell(balance=30)
    tasks.collect_debts(slot=str(uuid7()))
    books.assert_right(*debtors)


def test_debtors_whose_money_is_over_do_not_stand_before_others(clock: LedgerClock) -> None:
    clock.stand_at(NOON)
    customer = uuid7()
    payment_id = topped_up(customer, 10)
    books.spend(customer, 10)
    books.credit(customer, 5, kind=LotKind.BONUS, expires_at=NOON + timedelta(days=1))
    hold_id = books.held(customer, 5)
    charge_back(customer, payment_id, 10, str(uuid7()))
    books.settle(customer, hold_id, 0)
    assert customer in ledger.debtors()

    clock.stand_at(NOON + timedelta(days=1))

    assert customer not in ledger.debtors()
    assert (ledger.collect(customer), queries.debt(customer)) == (False, 10)
    books.expire_lots(customer)


def test_debtors_with_nothing_free_do_not_stand_before_others() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 10)
    books.spend(customer, 10)
    charge_back(customer, payment_id, 10, str(uuid7()))

    assert queries.debt(customer) == 10
    assert customer not in ledger.debtors()
    assert not ledger.collect(customer)


def test_dispute_of_a_customer_without_a_wallet_is_a_debt() -> None:
    customer = uuid7()

    assert charge_back(customer, uuid7(), 50, str(uuid7())) == ChargedBack(True, 0, 50)

    assert (ledger.collect(customer), queries.debt(customer)) == (False, 50)
    books.assert_right(customer)


def test_charge_that_comes_back_repays_the_debt() -> None:
    customer = uuid7()
    payment_id = topped_up(customer, 100)
    charge = books.spend(customer, 80)
    charge_back(customer, payment_id, 100, str(uuid7()))

    with transaction.atomic():
        ledger.reverse(entry_id=uuid7(), customer_id=customer, charge_id=charge)

    assert (queries.debt(customer), books.wallet(customer).balance_micro_rub) == (0, 0)
    books.assert_right(customer)


@pytest.mark.parametrize("spent", [0, 40, 100], ids=["covered", "owed in part", "owed"])
def test_dispute_seen_again_with_other_content_is_a_conflict(spent: int) -> None:
    customer, stranger = uuid7(), books.funded(100)
    payment_id, dispute = topped_up(customer, 100), str(uuid7())
    if spent:
        books.spend(customer, spent)
    charge_back(customer, payment_id, 100, dispute)

    for other in ((customer, payment_id, 99), (customer, uuid7(), 100), (stranger, payment_id, 100)):
        with pytest.raises(LedgerConflict):
            charge_back(*other, dispute)
    assert charge_back(customer, payment_id, 100, dispute) == ChargedBack(False, 100 - spent, spent)
    assert (queries.debt(customer), queries.debt(stranger)) == (spent, 0)


def test_customers_without_a_debt_owe_nothing() -> None:
    assert queries.debt(books.funded(10)) == 0
