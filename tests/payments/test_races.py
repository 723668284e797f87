"""Several routes at once, in real threads on real connections; the control shows that the race is real."""

import threading

from django.db import transaction

from auditlog.actors import Actor
from billing import ledger
from payments import inbox, refresh, settlement, sweep, yookassa
from payments.models import Payment
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import RUB, Shop, actions, at_once, balance, open_payment, told, topups

OPERATOR = Actor.operator("tests")


def test_webhook_check_operator_and_sweep_at_once_credit_once(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    def webhook() -> object:
        event_id = inbox.store(notification=told(payment), raw_body=b"{}", source_ip="", now=clock.now())
        return inbox.process(event_id=event_id, now=clock.now())

    def check() -> object:
        customer = Actor.customer(user.id)
        return refresh.check(customer_id=user.id, payment_id=payment.id, now=clock.now(), actor=customer)

    def ask() -> object:
        return refresh.ask_for_operator(payment_id=payment.id, reason="race", now=clock.now(), actor=OPERATOR)

    def round_of_sweep() -> object:
        return refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    results = at_once([webhook, check, ask, round_of_sweep] * 4)

    unexpected = [found for found in results if isinstance(found, Exception) and not hasattr(found, "code")]
    assert not unexpected
    assert len(topups(user)) == 1
    assert balance(user) == 500 * RUB
    assert actions(payment).count("payments.payment.succeeded") == 1


def test_news_read_before_another_route_credited_do_not_credit_again(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    remote = yookassa.get(payment.provider_payment_id or "")

    def apply() -> object:
        return settlement.apply(payment_id=payment.id, remote=remote, now=clock.now(), actor=sweep.ACTOR)

    assert not [found for found in at_once([apply] * 12) if isinstance(found, Exception)]
    assert len(topups(user)) == 1


def test_without_lock_and_key_the_same_race_credits_twice(shop: Shop) -> None:
    """The control: look at the state, then credit under a key of one's own, as if nothing defended us."""
    user = factories.customer()
    payment = open_payment(user)
    both_have_looked = threading.Barrier(2)

    def careless() -> None:
        with transaction.atomic():
            found = Payment.objects.get(pk=payment.pk)
            both_have_looked.wait(60)
            if found.is_open:
                ledger.bonus(
                    entry_id=uuid7(),
                    customer_id=user.id,
                    amount_micro_rub=found.amount_micro_rub,
                    key=f"control-{uuid7()}",
                    expires_at=None,
                )

    at_once([careless, careless])

    assert balance(user) == 2 * 500 * RUB


def test_the_ledger_key_alone_holds_when_the_lock_is_missing(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    both_have_looked = threading.Barrier(2)

    def without_lock() -> bool:
        with transaction.atomic():
            found = Payment.objects.get(pk=payment.pk)
            both_have_looked.wait(60)
            return ledger.topup(
                entry_id=uuid7(),
                customer_id=user.id,
                amount_micro_rub=found.amount_micro_rub,
                payment_id=found.id,
                effective_at=clock.now(),
            ).is_new

    assert sorted(at_once([without_lock, without_lock])) == [False, True]
    assert balance(user) == 500 * RUB
    settled = refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)
    assert (settled.status, balance(user)) == ("succeeded", 500 * RUB)
