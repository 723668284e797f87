"""Plain values of payments: what a customer orders, what is sent to the provider, what comes back."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Order:
    """What the customer asked for. `offer_version` is the number of the offer they saw, None: the one they
    accepted before. `return_url` and `method` are empty for our page and for every method.
    """

    amount_rub: int
    receipt_email: str
    return_url: str = ""
    method: str = ""
    offer_version: int | None = None


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A payment to be made at the provider."""

    payment_id: UUID
    customer_id: UUID
    amount_micro_rub: int
    receipt_email: str
    return_url: str
    method: str
    locale: str


@dataclass(frozen=True, slots=True)
class RemotePayment:
    """The provider's payment, parsed tolerantly: what is missing or odd is empty, so comparing refuses it."""

    id: str
    status: str
    amount_text: str
    amount_micro_rub: int | None
    currency: str
    account_id: str
    is_test: bool | None
    payment_id: str  # our id, as the provider keeps it in the metadata
    created_at: datetime | None = None
    captured_at: datetime | None = None
    confirmation_url: str = ""
    method: str = ""
    cancellation_party: str = ""
    cancellation_reason: str = ""
    income_text: str = ""  # what the shop gets of it, the provider's fee taken off; empty until it is told
    income_micro_rub: int | None = None  # None also for another currency


@dataclass(frozen=True, slots=True)
class RemotePage:
    """One page of the provider's payments, newest first; `next_cursor` is empty on the last."""

    items: list[RemotePayment] = field(default_factory=list)
    next_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """What every notification of YooKassa has; the rest of it is never believed."""

    event: str
    object_id: str


@dataclass(frozen=True, slots=True)
class MockEvent:
    """`amount_micro_rub` is None when the sender did not name it."""

    event_id: str
    payment_id: str
    status: str
    amount_micro_rub: int | None
