"""From the provider's word to our state and to the wallet: what credits, what does not, what is parked."""

from typing import Any

import pytest
from pytest_django import Settings

from auditlog.actors import Actor
from billing import verification
from billing.models import LedgerEntry
from payments import refresh, settlement, yookassa
from payments.errors import PaymentNotFound
from payments.models import Payment
from payments.sweep import ACTOR
from plans import offers
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.payments.shop import RUB, Shop, actions, balance, open_payment, topups


def ask(payment: Payment, actor: Actor = ACTOR) -> Payment:
    return refresh.refresh(payment_id=payment.id, now=clock.now(), actor=actor)


def test_a_paid_payment_is_credited_once_with_its_journal(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user, 500)
    assert balance(user) == 0
    shop.pay(payment)

    first, second = ask(payment), ask(payment)

    assert first.status == second.status == Payment.Status.SUCCEEDED
    assert balance(user) == 500 * RUB
    (entry,) = topups(user)
    assert (entry.key, entry.source_id) == (f"topup:{payment.id}", str(payment.id))
    assert first.succeeded_at == entry.effective_at
    assert first.method == "bank_card"
    assert actions(payment) == [
        "payments.checkout.started",
        "payments.payment.pending",
        "payments.payment.succeeded",
    ]


def test_a_payment_of_a_packs_sum_brings_its_bonus_once(shop: Shop) -> None:
    offers.offer_pack(
        amount_micro_rub=7_777 * RUB,
        bonus_micro_rub=77 * RUB,
        bonus_days=None,
        reason="Пакет для проверки",
        actor=Actor.operator(factories.operator().id),
    )
    user = factories.customer()
    payment = open_payment(user, 7_777)
    shop.pay(payment)

    ask(payment)
    ask(payment)

    assert balance(user) == 7_854 * RUB
    assert [lot.kind for lot in books.lots(user.id)] == ["purchased", "bonus"]


def fees(payment: Payment) -> list[tuple[str, str, int]]:
    rows = LedgerEntry.objects.filter(key=f"fee:{payment.id}", customer_id=None, type="provider_fee")
    return [(row.debit_account, row.credit_account, row.amount_micro_rub) for row in rows]


def test_the_fee_of_the_provider_is_booked_once_with_the_credit(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user, 1_500)
    shop.pay(payment)

    first = ask(payment)
    ask(payment)
    shop.tamper(payment, income_amount={"value": "1400.00", "currency": "RUB"})
    ask(payment)  # another fee than the one that was booked

    assert fees(payment) == [("provider_fee", "provider_clearing", 64_050_000)]  # 3.5 % and VAT of 22 % on it
    assert LedgerEntry.objects.get(key=f"fee:{payment.id}").effective_at == first.succeeded_at
    assert balance(user) == 1_500 * RUB
    assert not verification.examine(wallets=[user.id]).findings


def test_a_fee_that_is_told_later_is_booked_then(shop: Shop) -> None:
    payment = open_payment(factories.customer(), 1_500)
    shop.pay(payment)
    shop.tamper(payment, income_amount=None)
    assert ask(payment).status == Payment.Status.SUCCEEDED
    assert fees(payment) == []

    shop.tamper(payment, income_amount={"value": "1450.00", "currency": "RUB"})
    ask(payment)

    assert fees(payment) == [("provider_fee", "provider_clearing", 50 * RUB)]


@pytest.mark.parametrize(
    "income",
    [
        {"value": "1500.01", "currency": "RUB"},
        {"value": "0.00", "currency": "RUB"},
        {"value": "-1.00", "currency": "RUB"},
        {"value": "1450.00", "currency": "USD"},
        {"value": 1450, "currency": "RUB"},
        {"value": "1450.00"},
        "1450.00",
        {"value": "1500.00", "currency": "RUB"},  # no fee at all: nothing to book
    ],
)
def test_an_income_that_cannot_be_books_no_fee_and_the_credit_stays(shop: Shop, income: object) -> None:
    user = factories.customer()
    payment = open_payment(user, 1_500)
    shop.pay(payment)
    shop.tamper(payment, income_amount=income)

    assert ask(payment).status == Payment.Status.SUCCEEDED
    assert fees(payment) == []
    assert balance(user) == 1_500 * RUB


def test_a_payment_in_review_has_no_fee(shop: Shop) -> None:
    payment = open_payment(factories.customer(), 1_500)
    shop.pay(payment)
    shop.tamper(payment, amount={"value": "1600.00", "currency": "RUB"})

    assert ask(payment).status == Payment.Status.REVIEW
    assert fees(payment) == []


def test_a_payment_by_sbp_is_credited_like_any_other(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user, 700)
    shop.pay(payment, "sbp")

    assert ask(payment).method == "sbp"
    assert balance(user) == 700 * RUB


def test_a_declined_payment_keeps_the_reason_and_credits_nothing(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.decline(payment, "insufficient_funds")

    found = ask(payment)

    assert (found.status, found.cancellation_reason) == ("canceled", "insufficient_funds")
    assert found.cancellation_party == "payment_network"
    assert balance(user) == 0


def test_an_hour_without_paying_ends_the_payment(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.age(payment, 3700)

    assert ask(payment).cancellation_reason == "expired_on_confirmation"


def test_a_reason_invented_later_is_kept_as_text(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.decline(payment, "moon_phase_unsuitable")

    assert ask(payment).cancellation_reason == "moon_phase_unsuitable"


def test_a_success_after_a_cancellation_is_credited(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    Payment.objects.filter(pk=payment.pk).update(status="canceled", cancellation_reason="never_created")

    found = ask(payment)

    assert (found.status, found.cancellation_reason) == ("succeeded", "")
    assert balance(user) == 500 * RUB


def test_a_cancellation_after_a_success_takes_nothing_back(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    ask(payment)
    shop.tamper(payment, status="canceled")

    assert ask(payment).status == "succeeded"
    assert balance(user) == 500 * RUB


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"amount": {"value": "500.01", "currency": "RUB"}}, "amount"),
        ({"amount": {"value": "499.99", "currency": "RUB"}}, "amount"),
        ({"amount": {"value": "500.005", "currency": "RUB"}}, "amount"),
        ({"amount": {"value": 500, "currency": "RUB"}}, "amount"),
        ({"amount": {"value": "500.00", "currency": "USD"}}, "currency"),
        ({"recipient": {"account_id": "900002", "gateway_id": "1"}}, "shop"),
        ({"recipient": None}, "shop"),
        ({"metadata": {"payment_id": str(uuid7())}}, "payment_id"),
        ({"metadata": {}}, "payment_id"),
        ({"test": False}, "test"),
        ({"test": None}, "test"),
    ],
)
def test_facts_that_differ_park_the_payment_and_move_no_money(
    shop: Shop, fields: dict[str, Any], named: str
) -> None:
    user = factories.customer()
    payment = open_payment(user, 500)
    shop.pay(payment)
    shop.tamper(payment, **fields)

    found = ask(payment)
    again = ask(payment)

    assert found.status == again.status == Payment.Status.REVIEW
    assert named in found.review_reason
    assert balance(user) == 0
    assert actions(payment).count("payments.payment.parked") == 1


def test_a_test_payment_is_refused_when_payments_are_live(shop: Shop, settings: Settings) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    settings.PAYMENTS_LIVE = True

    assert ask(payment).status == Payment.Status.REVIEW
    assert balance(user) == 0


def test_only_an_operator_leads_out_of_review(shop: Shop) -> None:
    user, operator = factories.customer(), factories.operator()
    payment = open_payment(user)
    shop.pay(payment)
    shop.tamper(payment, test=False)
    ask(payment)
    shop.tamper(payment, test=True)

    assert ask(payment).status == Payment.Status.REVIEW
    found = refresh.ask_for_operator(
        payment_id=payment.id, reason="case 7", now=clock.now(), actor=Actor.operator(operator.id)
    )

    assert found.status == Payment.Status.SUCCEEDED
    assert balance(user) == 500 * RUB
    assert "payments.payment.asked" in actions(payment)


def test_asking_again_while_the_facts_still_differ_says_nothing_new(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.tamper(payment, test=False)
    ask(payment)
    operator = Actor.operator(factories.operator().id)

    refresh.ask_for_operator(payment_id=payment.id, reason="again", now=clock.now(), actor=operator)

    assert actions(payment).count("payments.payment.parked") == 1


def test_asking_about_a_payment_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(PaymentNotFound):
        refresh.ask_for_operator(payment_id=uuid7(), reason="x", now=clock.now(), actor=ACTOR)


def test_a_second_object_of_one_payment_is_never_applied(shop: Shop) -> None:
    user = factories.customer()
    payment, other = open_payment(user), open_payment(user)
    shop.pay(other)
    remote = yookassa.get(other.provider_payment_id or "")

    settlement.apply(payment_id=payment.id, remote=remote, now=clock.now(), actor=ACTOR)

    payment.refresh_from_db()
    assert payment.status == Payment.Status.PENDING
    assert balance(user) == 0


def test_two_payments_of_one_customer_are_both_credited(shop: Shop) -> None:
    user = factories.customer()
    for payment in (open_payment(user, 300), open_payment(user, 500)):
        shop.pay(payment)
        ask(payment)

    assert balance(user) == 800 * RUB
