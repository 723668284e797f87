"""What the tests of payments say in one word: order, pay, decline, spoil, and what the wallet has then."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import connection

from accounts.models import User
from accounts.shapes import Origin
from auditlog.models import AuditEvent
from billing import queries
from billing.models import LedgerEntry
from payments import checkout
from payments.models import Payment, WebhookEvent
from payments.shapes import Notification, Order
from plyrum import clock
from tests import web
from tests.sandbox_process import SHOP, SandboxProcess

RUB = 1_000_000
ORIGIN = Origin(ip="192.0.2.1", request_id="payments-tests", user_agent="tests", surface="api")


class Shop:
    """The sandbox's YooKassa. Scripts touch one customer only, by the address of the receipt."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self._sandbox = sandbox

    def pay(self, payment: Payment, method: str = "bank_card") -> None:
        self._payments(payment, "outcome", {"outcome": "succeeded", "method": method})

    def decline(self, payment: Payment, reason: str) -> None:
        self._payments(payment, "outcome", {"outcome": f"canceled:{reason}"})

    def tamper(self, payment: Payment, **fields: Any) -> None:
        self._payments(payment, "tamper", fields)

    def age(self, payment: Payment, seconds: float) -> None:
        self._payments(payment, "age", {"seconds": seconds})

    def spoil_create(self, user: User, effect: str, times: int = 1) -> None:
        body = {"next_create": effect, "match": {"receipt_email": user.email}, "times": times}
        self._sandbox.control("yookassa", body)

    def spoil_read(self, payment: Payment, effect: str, times: int = 1) -> None:
        match = {"payment_id": payment.provider_payment_id}
        self._sandbox.control("yookassa", {"next_read": effect, "match": match, "times": times})

    def payments_of(self, user: User) -> list[dict[str, Any]]:
        """Everything the provider has for this customer."""
        with web.client(base_url=f"{self._sandbox.url}/yookassa/v3", auth=SHOP) as client:
            items = client.get("/payments", params={"limit": "100"}).raise_for_status().json()["items"]
        return [item for item in items if item.get("merchant_customer_id") == str(user.id)]

    def create_elsewhere(self) -> str:
        """A payment of the same shop that we know nothing of; answers its id."""
        body = {
            "amount": {"value": "500.00", "currency": "RUB"},
            "capture": True,
            "confirmation": {"type": "redirect", "return_url": "http://127.0.0.1:8000/elsewhere"},
        }
        with web.client(base_url=f"{self._sandbox.url}/yookassa/v3", auth=SHOP) as client:
            answer = client.post("/payments", json=body, headers={"Idempotence-Key": str(uuid4())})
        found: str = answer.raise_for_status().json()["id"]
        return found

    def _payments(self, payment: Payment, act: str, body: dict[str, Any]) -> None:
        self._sandbox.control(f"payments/{payment.provider_payment_id}/{act}", body)


def order(user: User, rub: int = 500, **facts: Any) -> Order:
    return Order(amount_rub=rub, receipt_email=user.email, **facts)


def open_payment(user: User, rub: int = 500, *, key: str = "", now: datetime | None = None) -> Payment:
    """A payment that waits for its payer."""
    done = checkout.checkout(
        customer_id=user.id, order=order(user, rub), key=key, origin=ORIGIN, now=now or clock.now()
    )
    return done.payment


def told(payment: Payment, event: str = "payment.succeeded") -> Notification:
    return Notification(event, payment.provider_payment_id or "")


def event_of(payment: Payment, event: str = "payment.succeeded") -> WebhookEvent:
    return WebhookEvent.objects.get(event_key=f"{event}:{payment.provider_payment_id}")


def balance(user: User) -> int:
    return queries.balance(user.id, now=clock.now()).balance_micro_rub


def topups(user: User) -> list[LedgerEntry]:
    return list(LedgerEntry.objects.filter(customer_id=user.id, type="topup"))


def actions(payment: Payment) -> list[str]:
    """The journal's actions about a payment, in order."""
    rows = AuditEvent.objects.filter(subject=f"payment:{payment.id}").order_by("seq")
    return list(rows.values_list("action", flat=True))


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all of `works` in threads that start together; answers what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            barrier.wait(60)
            results[place] = work()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
