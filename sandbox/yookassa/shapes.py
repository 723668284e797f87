"""Payments and refunds as the sandbox keeps them, and as the API shows them.

Pure values: no clock, no store, no HTTP. Money is whole kopecks here and a string with two decimals on the
wire.
"""

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sandbox.clock import iso

Json = dict[str, Any]

SHOP_ID = "900001"
SECRET_KEY = "test_sandbox_secret"
GATEWAY_ID = "2900001"
FINAL = frozenset({"succeeded", "canceled"})

COMMISSION = Decimal("0.035")
VAT_ON_COMMISSION = Decimal("1.22")


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment; `created_at`, `captured_at`, `expires_at` are seconds since 1970."""

    id: str
    created_at: float
    amount_kopecks: int
    capture: bool
    return_url: str
    status: str = "pending"
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    merchant_customer_id: str | None = None
    wanted_method: str | None = None
    receipt: Json | None = None
    method: Json | None = None
    authorization: Json | None = None
    cancellation: Json | None = None
    captured_at: float | None = None
    expires_at: float | None = None
    refunded_kopecks: int = 0
    overrides: Json = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def rest_kopecks(self) -> int:
        return self.amount_kopecks - self.refunded_kopecks


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund of one payment."""

    id: str
    payment_id: str
    created_at: float
    amount_kopecks: int
    status: str
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    receipt: Json | None = None
    cancellation: Json | None = None


def money(kopecks: int) -> Json:
    return {"value": f"{kopecks // 100}.{kopecks % 100:02d}", "currency": "RUB"}


def income_kopecks(kopecks: int) -> int:
    """Subtract the commission of 3.5 % and the VAT of 22 % on it, half up to kopecks."""
    fee = (kopecks * COMMISSION * VAT_ON_COMMISSION).quantize(Decimal(1), ROUND_HALF_UP)
    return kopecks - int(fee)


def payment_object(payment: Payment, base_url: str) -> Json:
    """Build the Payment object; fields that say nothing yet are absent, as at YooKassa."""
    is_paid = payment.status in {"succeeded", "waiting_for_capture"}
    shown: Json = {
        "id": payment.id,
        "status": payment.status,
        "amount": money(payment.amount_kopecks),
        "recipient": {"account_id": SHOP_ID, "gateway_id": GATEWAY_ID},
        "created_at": iso(payment.created_at),
        "paid": is_paid,
        "refundable": payment.status == "succeeded" and payment.rest_kopecks > 0,
        "test": True,
        "metadata": payment.metadata,
    }
    if payment.status == "pending":
        shown["confirmation"] = {
            "type": "redirect",
            "return_url": payment.return_url,
            "confirmation_url": f"{base_url}/yookassa/pay/{payment.id}",
        }
    if payment.status == "succeeded":
        shown["income_amount"] = money(income_kopecks(payment.amount_kopecks))
        shown["refunded_amount"] = money(payment.refunded_kopecks)
    optional = {
        "description": payment.description,
        "merchant_customer_id": payment.merchant_customer_id,
        "payment_method": payment.method,
        "authorization_details": payment.authorization,
        "cancellation_details": payment.cancellation,
        "captured_at": iso(payment.captured_at) if payment.captured_at is not None else None,
        "expires_at": iso(payment.expires_at) if payment.expires_at and not payment.is_final else None,
        "receipt_registration": _receipt_state(payment),
    }
    shown.update({name: value for name, value in optional.items() if value is not None})
    shown.update(payment.overrides)
    return shown


def refund_object(refund: Refund) -> Json:
    """Build the Refund object."""
    shown: Json = {
        "id": refund.id,
        "payment_id": refund.payment_id,
        "status": refund.status,
        "created_at": iso(refund.created_at),
        "amount": money(refund.amount_kopecks),
        "metadata": refund.metadata,
    }
    optional = {
        "description": refund.description,
        "cancellation_details": refund.cancellation,
        "receipt_registration": None if refund.receipt is None else _RECEIPT_STATES[refund.status],
    }
    shown.update({name: value for name, value in optional.items() if value is not None})
    return shown


_RECEIPT_STATES = {
    "pending": "pending",
    "waiting_for_capture": "pending",
    "succeeded": "succeeded",
    "canceled": "canceled",
}


def _receipt_state(payment: Payment) -> str | None:
    return None if payment.receipt is None else _RECEIPT_STATES[payment.status]
