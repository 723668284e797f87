"""What the proof of the books asks of payments: each damage is told by its own check, and by no other."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import ledger, verification
from billing.models import Account, SystemEntryType
from payments.models import Payment, WebhookEvent
from payments.verification import SQL
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock, clock, owner

__all__ = ["clock", "owner"]

OURS = [check.id for check in verification.checks_in(SQL)]
NOON = datetime(2033, 6, 1, 12, 0, tzinfo=UTC)
LATE = NOON - timedelta(minutes=11)


def found(customer: UUID) -> set[str]:
    return {finding.check for finding in verification.examine(wallets=[customer], only=OURS).findings}


def payment(customer: UUID, **facts: object) -> Payment:
    kept = {"created_at": NOON - timedelta(hours=3), "updated_at": NOON, "status": "pending", **facts}
    return Payment.objects.create(
        customer_id=customer, provider="mock", amount_micro_rub=5, acceptance_id=uuid7(), **kept
    )


@pytest.mark.parametrize("source_type", ["payment", "bank_line", "something else"])
def test_top_up_without_what_was_paid_is_told(source_type: str) -> None:
    customer = uuid7()
    books.topped_up(customer, 10)
    assert found(customer) == set()

    with transaction.atomic():
        ledger.topup(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=5,
            payment_id=uuid7(),
            effective_at=NOON,
            debit_account=Account.BANK,
            source_type=source_type,
        )
        assert found(customer) == {"V16"}
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "facts",
    [{"amount_micro_rub": 9}, {"status": "canceled"}, {"customer_id": uuid7()}],
    ids=["amount", "status", "customer"],
)
def test_payment_that_is_not_its_top_up_is_told(facts: dict[str, object]) -> None:
    customer = uuid7()
    paid = Payment.objects.filter(pk=books.topped_up(customer, 10))

    with transaction.atomic():
        paid.update(**facts)
        assert found(customer) == {"V16"}
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    ("booked", "is_told"),
    [
        ({}, False),
        ({"amount_micro_rub": 10}, True),
        ({"debit_account": Account.BANK}, True),
        ({"source_type": "bank_line"}, True),
    ],
)
def test_fee_that_is_not_below_its_payment_is_told(booked: dict[str, Any], is_told: bool) -> None:
    customer = uuid7()
    payment_id = books.topped_up(customer, 10)

    with transaction.atomic():
        _book_fee(key=f"fee:{payment_id}", source_id=str(payment_id), **booked)
        assert found(customer) == ({"V53"} if is_told else set())
        transaction.set_rollback(True)


def test_fee_of_what_was_not_paid_or_paid_before_is_told() -> None:
    customer = uuid7()
    payment_id = books.topped_up(customer, 10)

    with transaction.atomic():
        _book_fee(key=f"fee:{payment_id}", source_id=str(payment_id))
        _book_fee(key=f"fee:{payment_id}:2", source_id=str(payment_id))
        stranger = uuid7()
        _book_fee(key=f"fee:{stranger}", source_id=str(stranger))
        told = {finding.detail.split()[0] for finding in verification.examine(only=["V53"]).findings}
        assert {f"fee:{payment_id}:2", f"fee:{stranger}"} <= told
        assert f"fee:{payment_id}" not in told
        Payment.objects.filter(pk=payment_id).update(status="canceled")
        assert found(customer) == {"V16", "V53"}
        transaction.set_rollback(True)


def _book_fee(**facts: Any) -> None:
    usual = {"amount_micro_rub": 3, "debit_account": Account.PROVIDER_FEE, "source_type": "payment"}
    ledger.book(
        entry_id=uuid7(),
        type=SystemEntryType.PROVIDER_FEE,
        credit_account=Account.PROVIDER_CLEARING,
        effective_at=NOON,
        **{**usual, **facts},
    )


@pytest.mark.parametrize(
    ("facts", "is_told"),
    [
        ({"expires_at": NOON - timedelta(minutes=121)}, True),
        ({"expires_at": NOON - timedelta(minutes=119)}, False),
        ({"expires_at": NOON - timedelta(minutes=121), "status": "canceled"}, False),
        ({"status": "unknown"}, True),  # created three hours ago, and never heard of
    ],
)
def test_payment_that_stays_open_is_told(clock: LedgerClock, facts: dict[str, object], is_told: bool) -> None:
    clock.stand_at(NOON)
    customer = uuid7()

    row = payment(customer, **facts)

    assert found(customer) == ({"V35"} if is_told else set())
    row.delete()


@pytest.mark.parametrize(
    ("facts", "is_told"),
    [
        ({"next_attempt_at": LATE}, True),
        ({"next_attempt_at": LATE + timedelta(minutes=2)}, False),
        ({"outcome": "parked", "processed_at": NOON - timedelta(days=29)}, True),
        ({"outcome": "parked", "processed_at": NOON - timedelta(days=31)}, False),
        ({"outcome": "applied", "processed_at": LATE}, False),
    ],
)
def test_notification_that_waits_too_long_or_was_given_up_is_told(
    clock: LedgerClock, facts: dict[str, object], is_told: bool
) -> None:
    clock.stand_at(NOON)
    event = WebhookEvent.objects.create(
        provider="mock", event_key=str(uuid7()), event="payment.succeeded", received_at=LATE, **facts
    )

    told = {finding.object for finding in verification.examine(only=["V31"]).findings}

    assert (str(event.pk) in told) is is_told
    event.delete()
