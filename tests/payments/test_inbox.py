"""The inbox: stored once, answered at once, worked on later; lost, doubled and false news are harmless."""

import hashlib
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from payments import checkout, inbox, refresh, tasks
from payments.models import Payment, WebhookEvent
from payments.shapes import Notification
from payments.sweep import ACTOR
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import (
    ORIGIN,
    RUB,
    Shop,
    at_once,
    balance,
    event_of,
    open_payment,
    order,
    told,
    topups,
)

BODY = b'{"type":"notification"}'


def store(notification: Notification, *, now: datetime | None = None) -> UUID:
    return inbox.store(
        notification=notification, raw_body=BODY, source_ip="185.71.76.5", now=now or clock.now()
    )


def process(event_id: UUID, *, now: datetime | None = None) -> str:
    return inbox.process(event_id=event_id, now=now or clock.now())


def test_a_notification_is_stored_as_it_came_and_credits_nothing_by_itself(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    event = WebhookEvent.objects.get(pk=store(told(payment)))

    assert bytes(event.raw_body) == BODY
    assert event.payload_sha256 == hashlib.sha256(BODY).hexdigest()
    assert (event.source_ip, event.outcome, event.attempts) == ("185.71.76.5", "", 0)
    assert balance(user) == 0


def test_the_worker_reads_the_object_and_credits(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    event_id = store(told(payment))

    tasks.process_event(event_id=str(event_id), added_by_a_later_version=1)
    tasks.process_event(event_id=str(event_id))

    event = WebhookEvent.objects.get(pk=event_id)
    assert (event.outcome, event.attempts, event.next_attempt_at) == ("applied", 1, None)
    assert balance(user) == 500 * RUB


def test_a_cancellation_is_told_the_same_way(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.decline(payment, "3d_secure_failed")

    assert process(store(told(payment, "payment.canceled"))) == "applied"

    payment.refresh_from_db()
    assert payment.cancellation_reason == "3d_secure_failed"


def test_the_second_copy_is_stored_and_credited_once(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    first = store(told(payment))
    process(first)
    second = store(told(payment))

    assert first == second
    assert process(second) == ""
    assert len(topups(user)) == 1


def test_a_copy_of_an_event_that_still_waits_wakes_it(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    shop.pay(payment)
    shop.spoil_read(payment, "500")
    event_id = store(told(payment))
    assert process(event_id) == ""
    assert event_of(payment).next_attempt_at > clock.now() + timedelta(seconds=20)  # type: ignore[operator]

    assert store(told(payment)) == event_id

    assert process(event_id) == "applied"


@pytest.mark.parametrize("effect", ["500", "503_html", "429"])
def test_a_provider_in_trouble_is_asked_again_later(shop: Shop, effect: str) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    shop.spoil_read(payment, effect)
    event_id = store(told(payment))

    assert process(event_id) == ""
    event = event_of(payment)
    assert (event.outcome, event.attempts, event.processed_at) == ("", 1, None)
    assert event.error
    assert process(event_id) == ""  # the pause is not over
    assert process(event_id, now=clock.now() + timedelta(minutes=2)) == "applied"
    assert balance(user) == 500 * RUB


def test_pauses_grow_and_end_in_parking(shop: Shop) -> None:
    payment = open_payment(factories.customer())
    event_id = store(told(payment))  # a forged one: nobody has paid
    pauses = []
    now = clock.now()
    while process(event_id, now=now) == "":
        waits_until = event_of(payment).next_attempt_at
        assert waits_until is not None
        pauses.append(waits_until - now)
        now = waits_until

    event = event_of(payment)
    assert event.outcome == "parked"
    assert len(pauses) == inbox.ATTEMPTS_AT_MOST
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (inbox.FIRST_PAUSE, inbox.LONGEST_PAUSE)


def test_a_forged_notification_does_not_swallow_the_real_one(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    event_id = store(told(payment))
    assert process(event_id) == ""
    assert balance(user) == 0

    shop.pay(payment)
    store(told(payment))

    assert process(event_id) == "applied"
    assert balance(user) == 500 * RUB


def test_an_object_unknown_to_the_provider_is_kept_as_foreign() -> None:
    event_id = store(Notification("payment.succeeded", str(uuid7())))

    assert process(event_id) == "foreign"

    assert WebhookEvent.objects.get(pk=event_id).next_attempt_at is None


@pytest.mark.parametrize("object_id", ["../refunds", "a b", "x" * 100, "?limit=1"])
def test_an_id_that_no_provider_gives_is_never_put_into_an_address(object_id: str) -> None:
    assert process(store(Notification(f"payment.{uuid7()}", object_id))) == "foreign"


def test_a_payment_of_our_shop_that_we_did_not_make_credits_nobody(shop: Shop) -> None:
    assert process(store(Notification("payment.succeeded", shop.create_elsewhere()))) == "foreign"


def test_a_foreign_event_that_comes_again_is_looked_at_again() -> None:
    note = Notification("payment.succeeded", str(uuid7()))
    event_id = store(note)
    process(event_id)
    store(note)
    assert process(event_id) == ""  # not more often than once a minute

    later = clock.now() + inbox.REOPEN_EVERY
    store(note, now=later)

    assert process(event_id, now=later) == "foreign"


def test_other_kinds_of_events_are_kept_and_left_alone() -> None:
    for event in ("refund.succeeded", "payment_method.active", "something.new"):
        assert process(store(Notification(event, str(uuid7())))) == "unhandled"


def test_a_late_event_about_a_finished_payment_changes_nothing(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)
    refresh.refresh(payment_id=payment.id, now=clock.now(), actor=ACTOR)

    assert process(store(told(payment))) == "unchanged"
    assert process(store(told(payment, "payment.waiting_for_capture"))) == "unchanged"
    assert balance(user) == 500 * RUB


def test_news_that_come_before_the_create_answer_is_stored_find_the_payment(shop: Shop) -> None:
    user = factories.customer()
    shop.spoil_create(user, "500_after_execution")
    with pytest.raises(Exception, match="not confirmed"):
        checkout.checkout(customer_id=user.id, order=order(user), key="", origin=ORIGIN, now=clock.now())
    payment = Payment.objects.get(customer_id=user.id)
    assert payment.provider_payment_id is None
    (remote,) = shop.payments_of(user)
    payment.provider_payment_id = remote["id"]  # for the payer only, not stored
    shop.pay(payment)

    assert process(store(Notification("payment.succeeded", remote["id"]))) == "applied"

    payment.refresh_from_db()
    assert (payment.status, payment.provider_payment_id) == ("succeeded", remote["id"])
    assert balance(user) == 500 * RUB


def test_fifty_copies_at_once_are_one_row_and_one_credit(shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    def arrive() -> str:
        return process(store(told(payment)))

    results = at_once([arrive] * 50)

    assert not [result for result in results if isinstance(result, Exception)]
    assert WebhookEvent.objects.filter(object_id=payment.provider_payment_id).count() == 1
    assert len(topups(user)) == 1
    assert balance(user) == 500 * RUB


def test_body_is_forgotten_after_ninety_days_and_its_hash_is_not(shop: Shop) -> None:
    now = clock.now()
    payments = [open_payment(factories.customer()) for _ in range(2)]
    old, young = (
        WebhookEvent.objects.get(pk=store(told(payment), now=now - timedelta(days=days)))
        for payment, days in zip(payments, (91, 89), strict=True)
    )

    assert tasks.forget_bodies(slot=str(uuid7())) == "done"

    for event in (old, young):
        event.refresh_from_db()
    assert (bytes(old.raw_body), old.source_ip) == (b"", None)
    assert old.payload_sha256 == hashlib.sha256(BODY).hexdigest()
    assert bytes(young.raw_body) == BODY
    assert inbox.forget_bodies(now=now) == 0
