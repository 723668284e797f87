"""Input and output of the customer API about payments. Unknown fields are refused."""

from typing import Annotated, Any, Literal
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from ninja import Schema
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints

from payments.models import Payment
from plyrum.clock import rfc3339


def _email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError as error:
        raise ValueError("This is not an e-mail address.") from error
    return value


PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PRINTABLE)]
ReceiptEmail = Annotated[str, StringConstraints(min_length=3, max_length=254), AfterValidator(_email)]
ReturnUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=PRINTABLE)]
Method = Literal["bank_card", "sbp", "sberbank", "tinkoff_bank", "yoo_money"]


class Input(Schema):
    model_config = ConfigDict(extra="forbid")


def _true(value: object) -> bool:
    """1 equals True in Python; consent is given by a plain true and nothing that resembles it."""
    if value is not True:
        raise ValueError("The offer must be accepted.")
    return True


AcceptTerms = Annotated[Literal[True], BeforeValidator(_true), Field(description="The offer is accepted.")]
OfferVersion = Annotated[
    int | None,
    Field(
        strict=True,
        ge=1,
        le=2**31 - 1,
        description="Number of the offer that is accepted; without it the one accepted before.",
    ),
]


class CheckoutIn(Input):
    amount_rub: Annotated[int, Field(strict=True, description="Whole roubles.")]
    accept_terms: AcceptTerms
    offer_version: OfferVersion = None
    receipt_email: ReceiptEmail | None = None
    return_url: Annotated[
        ReturnUrl | None, Field(description="An address of this site; without it the payment's page.")
    ] = None
    method: Method | None = None
    idempotency_key: IdempotencyKey | None = None


class MockEventIn(Input):
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PRINTABLE)]
    payment_id: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PRINTABLE)]
    status: Literal["succeeded", "canceled"]
    amount_micro_rub: Annotated[int, Field(strict=True)] | None = None


class PaymentOut(Schema):
    id: UUID
    status: Literal["pending", "succeeded", "canceled", "partially_refunded", "refunded", "review"]
    amount_micro_rub: int
    currency: Literal["RUB"] = "RUB"
    provider: str
    provider_payment_id: str | None
    confirmation_url: Annotated[str | None, Field(description="Where the payer pays; null once it is over.")]
    expires_at: str | None
    created_at: str
    succeeded_at: str | None
    cancellation_reason: str | None
    method: Annotated[str | None, Field(description="How it was paid; null before.")]
    refunds: list[dict[str, Any]]
    receipts: list[dict[str, Any]]


class CheckoutOut(Schema):
    payment: PaymentOut


class PaymentsOut(Schema):
    items: list[PaymentOut]
    next_cursor: str | None


class MockEventOut(Schema):
    status: Literal["processed", "duplicate"]


def payment_out(payment: Payment) -> PaymentOut:
    """A payment as the API shows it; states that only we tell apart are all pending."""
    return PaymentOut(
        id=payment.id,
        status="pending" if payment.is_open else payment.status,  # type: ignore[arg-type]
        amount_micro_rub=payment.amount_micro_rub,
        provider=payment.provider,
        provider_payment_id=payment.provider_payment_id,
        confirmation_url=(payment.confirmation_url or None) if payment.is_open else None,
        expires_at=rfc3339(payment.expires_at) if payment.expires_at else None,
        created_at=rfc3339(payment.created_at),
        succeeded_at=rfc3339(payment.succeeded_at) if payment.succeeded_at else None,
        cancellation_reason=payment.cancellation_reason or None,
        method=(payment.method or None) if payment.is_paid else None,
        refunds=[],
        receipts=[],
    )


def first_answer(payment: Payment) -> PaymentOut:
    """The answer that the checkout gave, for a repeat of its key: what happened since is not part of it."""
    answer = payment_out(payment)
    answer.status = "pending"
    answer.confirmation_url = payment.confirmation_url or None
    answer.succeeded_at = answer.cancellation_reason = answer.method = None
    return answer
