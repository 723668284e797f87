"""The sweeps: a payment whose webhook never came, a create call without an answer, news nobody worked on."""

from datetime import datetime, timedelta

import pytest
from pytest_django import Settings

from accounts.models import User
from auditlog.models import JobRun
from payments import checkout, inbox, refresh, sweep, tasks
from payments.errors import OutcomeUnknown, ProviderUnavailable
from payments.models import Payment
from plyrum import clock
from tests import factories
from tests.payments.shop import ORIGIN, RUB, Shop, balance, event_of, open_payment, order, told


def is_due(payment: Payment, *, at: datetime) -> bool:
    return Payment.objects.due_for_asking(at).filter(pk=payment.pk).exists()


def sweep_one(payment: Payment, *, now: datetime) -> None:
    """A round of the sweep for one payment only: rows of other tests are not this test's matter."""
    if is_due(payment, at=now):
        sweep._each([payment.pk], lambda pk: refresh.refresh(payment_id=pk, now=now, actor=sweep.ACTOR))
    payment.refresh_from_db()


def unknown_payment(user: User, shop: Shop, effect: str) -> Payment:
    shop.spoil_create(user, effect)
    with pytest.raises(OutcomeUnknown):
        checkout.checkout(customer_id=user.id, order=order(user), key="", origin=ORIGIN, now=clock.now())
    return Payment.objects.get(customer_id=user.id)


def grow_old(payment: Payment, age: timedelta) -> None:
    Payment.objects.filter(pk=payment.pk).update(created_at=clock.now() - age)


def test_a_payment_whose_webhook_was_lost_is_found(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    sweep_one(payment, now=clock.now())
    assert payment.status == "pending"  # too early: the webhook is usually faster
    sweep_one(payment, now=clock.now() + timedelta(minutes=2))

    assert payment.status == "succeeded"
    assert balance(user) == 500 * RUB


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(minutes=5), timedelta(minutes=1)),
        (timedelta(minutes=50), timedelta(minutes=5)),
        (timedelta(hours=20), timedelta(hours=1)),
        (timedelta(days=9), timedelta(days=1)),
    ],
)
def test_the_older_a_payment_the_longer_the_pause(age: timedelta, pause: timedelta) -> None:
    payment = open_payment(factories.customer())
    asked = payment.created_at + age
    Payment.objects.filter(pk=payment.pk).update(last_asked_at=asked)

    assert not is_due(payment, at=asked + pause - timedelta(seconds=10))
    assert is_due(payment, at=asked + pause)


def test_a_payment_that_was_never_asked_about_is_due_after_a_minute() -> None:
    payment = open_payment(factories.customer())
    Payment.objects.filter(pk=payment.pk).update(last_asked_at=None, status="created")

    assert not is_due(payment, at=payment.created_at + timedelta(seconds=30))
    assert is_due(payment, at=payment.created_at + timedelta(seconds=60))


def test_finished_payments_are_left_alone(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.decline(payment, "general_decline")
    refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    assert not is_due(payment, at=clock.now() + timedelta(days=1))


def test_an_unknown_outcome_is_settled_without_a_second_payment(shop: Shop) -> None:
    user = factories.customer()
    payment = unknown_payment(user, shop, "500_after_execution")

    sweep_one(payment, now=clock.now() + timedelta(minutes=2))

    (remote,) = shop.payments_of(user)
    assert (payment.status, payment.provider_payment_id) == ("pending", remote["id"])
    shop.pay(payment)
    sweep_one(payment, now=clock.now() + timedelta(minutes=4))
    assert balance(user) == 500 * RUB


def test_after_the_life_of_the_key_the_payment_is_looked_for_not_made_again(shop: Shop) -> None:
    user = factories.customer()
    payment = unknown_payment(user, shop, "500_after_execution")
    (remote,) = shop.payments_of(user)
    payment.provider_payment_id = remote["id"]  # for the payer only, not stored
    shop.pay(payment)
    shop.age(payment, 24 * 3600)
    grow_old(payment, timedelta(hours=24))

    sweep_one(payment, now=clock.now() + timedelta(hours=2))

    assert payment.status == "succeeded"
    assert len(shop.payments_of(user)) == 1
    assert balance(user) == 500 * RUB


def test_a_payment_that_was_never_made_ends_after_the_search(shop: Shop) -> None:
    user = factories.customer()
    payment = unknown_payment(user, shop, "500")
    grow_old(payment, timedelta(hours=24))

    sweep_one(payment, now=clock.now() + timedelta(hours=2))

    assert (payment.status, payment.cancellation_reason) == ("canceled", "never_created")
    assert shop.payments_of(user) == []
    again = refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)
    assert again.status == "canceled"


def test_the_search_reads_page_after_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    user = factories.customer()
    payment = unknown_payment(user, shop, "500_after_execution")
    for _number in range(3):
        open_payment(user)
    grow_old(payment, timedelta(hours=23, minutes=30))
    monkeypatch.setattr("payments.yookassa.PAGE_ITEMS", 1)

    found = refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    assert found.status == "pending"


def test_a_search_that_does_not_end_proves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    user = factories.customer()
    payment = unknown_payment(user, shop, "500")
    open_payment(user)
    open_payment(user)
    grow_old(payment, timedelta(hours=23, minutes=30))
    monkeypatch.setattr("payments.yookassa.PAGE_ITEMS", 1)
    monkeypatch.setattr("payments.refresh.SEARCH_PAGES_AT_MOST", 1)

    with pytest.raises(ProviderUnavailable):
        refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    payment.refresh_from_db()
    assert payment.status == "unknown"


def test_a_payment_that_cannot_be_read_goes_to_the_end_of_the_queue(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.spoil_read(payment, "not_found")
    now = clock.now() + timedelta(minutes=2)

    counts = sweep._each([payment.pk], lambda pk: refresh.refresh(payment_id=pk, now=now, actor=sweep.ACTOR))

    payment.refresh_from_db()
    assert counts == {"asked": 1, "failed": 1}
    assert (payment.status, payment.last_asked_at) == ("pending", now)


def test_a_fault_of_one_row_does_not_keep_the_others_waiting() -> None:
    done: list[int] = []

    def work(number: object) -> None:
        if number == 1:
            raise RuntimeError("a fault")
        done.append(1)

    assert sweep._each([1, 2, 3], work) == {"asked": 3, "failed": 1}  # type: ignore[list-item]
    assert len(done) == 2


def test_a_round_stops_in_good_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SECONDS_AT_MOST", -1.0)

    assert sweep._each([1, 2], lambda _: None) == {"asked": 0, "failed": 0}  # type: ignore[list-item]


def test_news_whose_nudge_was_lost_are_worked_on_by_the_job(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    inbox.store(
        notification=told(payment),
        raw_body=b"{}",
        source_ip="",
        now=clock.now() - timedelta(days=3650),  # the longest waiting, so first in the round
    )
    slot = str(payment.id)

    assert tasks.sweep_inbox(slot=slot, unknown="x") == "done"
    assert tasks.sweep_inbox(slot=slot) == "skipped"

    assert event_of(payment).outcome == "applied"
    assert balance(user) == 500 * RUB
    run = JobRun.objects.get(name="payments.sweep_inbox", slot=slot)
    assert run.outcome == "done"


def test_the_payments_job_runs_once_in_its_slot(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    long_ago = clock.now() - timedelta(minutes=5)
    Payment.objects.filter(pk=payment.pk).update(created_at=long_ago, last_asked_at=None)
    shop.pay(payment)
    slot = str(payment.id)

    assert tasks.sweep_payments(slot=slot) == "done"
    assert tasks.sweep_payments(slot=slot) == "skipped"

    assert balance(user) == 500 * RUB


def test_the_task_of_one_payment_survives_a_provider_in_trouble(shop: Shop, settings: Settings) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    right, settings.YOOKASSA_API_BASE_URL = settings.YOOKASSA_API_BASE_URL, "http://127.0.0.1:9/v3"
    tasks.refresh_payment(payment_id=str(payment.id))
    assert balance(user) == 0

    settings.YOOKASSA_API_BASE_URL = right
    tasks.refresh_payment(payment_id=str(payment.id), added_by_a_later_version=1)

    assert balance(user) == 500 * RUB
