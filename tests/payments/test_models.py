"""What the database itself promises about payments and the inbox."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from payments.models import Payment, WebhookEvent
from plyrum import clock
from plyrum.ids import uuid7


def make(**facts: Any) -> Payment:
    row = {
        "customer_id": uuid7(),
        "provider": "yookassa",
        "amount_micro_rub": 1_000_000,
        "receipt_email": "a@example.test",
        "acceptance_id": uuid7(),
        "created_at": clock.now(),
        "updated_at": clock.now(),
        "status": "canceled",
    }
    with transaction.atomic():
        return Payment.objects.create(**row | facts)


def make_event(**facts: Any) -> WebhookEvent:
    row = {
        "provider": "yookassa",
        "event": "e",
        "object_id": "o",
        "raw_body": b"",
        "received_at": clock.now(),
    }
    with transaction.atomic():
        return WebhookEvent.objects.create(**row | facts)


@pytest.mark.parametrize("amount", [0, -1])
def test_an_amount_is_positive(amount: int) -> None:
    with pytest.raises(IntegrityError, match="amount_is_positive"):
        make(amount_micro_rub=amount)


def test_one_object_of_the_provider_has_one_payment() -> None:
    object_id = str(uuid7())
    make(provider_payment_id=object_id)

    with pytest.raises(IntegrityError, match="provider_payment_id"):
        make(provider_payment_id=object_id)


def test_one_client_key_has_one_payment_but_no_key_has_many() -> None:
    customer_id = uuid7()
    make(customer_id=customer_id, client_key="k")
    make(customer_id=customer_id)
    make(customer_id=customer_id)

    with pytest.raises(IntegrityError, match="one_per_client_key"):
        make(customer_id=customer_id, client_key="k")


@pytest.mark.parametrize("status", ["succeeded", "partially_refunded", "refunded"])
def test_a_paid_payment_is_known_to_the_provider(status: str) -> None:
    with pytest.raises(IntegrityError, match="paid_is_known_outside"):
        make(status=status)
    with pytest.raises(IntegrityError, match="paid_is_known_outside"):
        make(status=status, provider_payment_id=str(uuid7()))
    paid = make(status=status, provider_payment_id=str(uuid7()), succeeded_at=clock.now())
    assert paid.is_paid


def test_an_event_is_stored_once_for_each_provider() -> None:
    key = str(uuid7())
    make_event(event_key=key)
    make_event(event_key=key, provider="mock")

    with pytest.raises(IntegrityError, match="stored_once"):
        make_event(event_key=key)


def test_rows_name_themselves() -> None:
    payment, event = make(), make_event(event_key=str(uuid7()))

    assert str(payment) == str(payment.id)
    assert str(event) == event.event_key
