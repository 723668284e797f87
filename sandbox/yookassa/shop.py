"""The acts of the shop: create, pay, decline, capture, cancel, expire a payment; make and finish a refund.

Called by the API, the hosted page and the control API. The only writer of payments and refunds; each final
change is announced once. Runs in the event loop's thread, every act from its first read to its last write
without a pause.
"""

import sqlite3
from dataclasses import asdict, replace
from uuid import uuid4

import orjson

from sandbox import logs
from sandbox.clock import Clock
from sandbox.yookassa.errors import invalid, not_found
from sandbox.yookassa.notifications import Notifier
from sandbox.yookassa.requests import ListQuery, NewPayment, NewRefund
from sandbox.yookassa.scripts import facts_of
from sandbox.yookassa.shapes import Json, Payment, Refund, money, payment_object, refund_object

CONFIRMATION_SECONDS = 3600
CAPTURE_SECONDS = 7 * 24 * 3600
REFUND_REASON = "general_decline"


class Shop:
    """One test shop with its payments and refunds."""

    def __init__(self, store: sqlite3.Connection, clock: Clock, notifier: Notifier, base_url: str) -> None:
        self.is_receipt_required = False
        self.base_url = base_url
        self.clock = clock
        self._store = store
        self._notifier = notifier

    def payment(self, payment_id: str) -> Payment:
        """Find a payment, expired first when its hour is over. Raises ApiError not_found."""
        self.expire_due()
        row = self._store.execute("SELECT body FROM payments WHERE id = ?", (payment_id,)).fetchone()
        if row is None:
            raise not_found("Payment")
        return Payment(**orjson.loads(row["body"]))

    def payments(self, query: ListQuery) -> tuple[list[Payment], str | None]:
        """List newest first; answer the page and the cursor of the next one."""
        self.expire_due()
        rows, cursor = self._page("payments", query)
        return [Payment(**orjson.loads(row["body"])) for row in rows], cursor

    def show(self, payment: Payment) -> Json:
        return payment_object(payment, self.base_url)

    def create(self, new: NewPayment) -> Payment:
        """Open a payment that waits for its payer for an hour."""
        payment = Payment(
            id=str(uuid4()),
            created_at=self.clock.now(),
            amount_kopecks=new.amount_kopecks,
            capture=new.capture,
            return_url=new.return_url,
            description=new.description,
            metadata=new.metadata,
            merchant_customer_id=new.merchant_customer_id,
            wanted_method=new.wanted_method,
            receipt=new.receipt,
        )
        self._save(payment)
        logs.event(
            "yookassa.payment", id=payment.id, status="pending", amount=money(payment.amount_kopecks)["value"]
        )
        return payment

    def pay(self, payment_id: str, *, method: Json, authorization: Json | None) -> Payment:
        """Take the payer's money: succeeded, or waiting for capture when the shop asked for two stages."""
        payment = self._open(payment_id)
        if payment.is_final:
            return payment
        now = self.clock.now()
        if payment.capture:
            changed = replace(payment, status="succeeded", captured_at=now)
        else:
            changed = replace(payment, status="waiting_for_capture", expires_at=now + CAPTURE_SECONDS)
        return self._change(replace(changed, method=method, authorization=authorization))

    def decline(self, payment_id: str, *, reason: str, party: str, method: Json | None) -> Payment:
        """End a payment without money."""
        payment = self._open(payment_id)
        if payment.is_final:
            return payment
        details = {"party": party, "reason": reason}
        return self._change(replace(payment, status="canceled", method=method, cancellation=details))

    def capture(self, payment: Payment, *, amount_kopecks: int) -> Payment:
        """Take what was authorised, or a part of it. Raises ApiError unless the payment waits for it."""
        self._require_waiting(payment)
        return self._change(
            replace(payment, status="succeeded", captured_at=self.clock.now(), amount_kopecks=amount_kopecks)
        )

    def cancel(self, payment: Payment) -> Payment:
        """Let the authorised money go. Raises ApiError unless the payment waits for capture."""
        self._require_waiting(payment)
        details = {"party": "merchant", "reason": "canceled_by_merchant"}
        return self._change(replace(payment, status="canceled", cancellation=details))

    def expire_due(self) -> int:
        """Cancel payments whose hour to pay or days to capture are over; answer how many."""
        now = self.clock.now()
        due = self._due("pending", "created_at", now - CONFIRMATION_SECONDS, "expired_on_confirmation")
        due += self._due("waiting_for_capture", "expires_at", now, "expired_on_capture")
        for payment in due:
            self._change(payment)
        return len(due)

    def age(self, payment_id: str, seconds: float) -> Payment:
        """Move one payment into the past, so that its hour ends without moving anybody's clock."""
        payment = self.payment(payment_id)
        self._save(replace(payment, created_at=payment.created_at - seconds))
        return self.payment(payment_id)

    def tamper(self, payment_id: str, overrides: Json) -> Payment:
        """Show the payment with other field values from now on: a wrong sum, shop, currency or test flag."""
        payment = self.payment(payment_id)
        self._save(replace(payment, overrides=payment.overrides | overrides))
        return self.payment(payment_id)

    def refund(self, new: NewRefund) -> Refund:
        """Give money back. `metadata.sandbox_outcome` may ask for `pending` or `canceled:<reason>`."""
        payment = self.payment(new.payment_id)
        if payment.status != "succeeded":
            raise invalid("The payment is not succeeded", "payment_id")
        pending = sum(
            refund.amount_kopecks for refund in self._refunds_of(payment.id) if refund.status == "pending"
        )
        if new.amount_kopecks > payment.rest_kopecks - pending:
            raise invalid("The amount is above what is left to refund", "amount.value")
        refund = Refund(
            id=str(uuid4()),
            payment_id=payment.id,
            created_at=self.clock.now(),
            amount_kopecks=new.amount_kopecks,
            status="pending",
            description=new.description,
            metadata=new.metadata,
            receipt=new.receipt,
        )
        self._save_refund(refund)
        outcome = new.metadata.get("sandbox_outcome", "succeeded")
        return refund if outcome == "pending" else self.finish_refund(refund.id, outcome)

    def finish_refund(self, refund_id: str, outcome: str) -> Refund:
        """End a pending refund: `succeeded` or `canceled:<reason>`. A final one stays as it is."""
        refund = self.find_refund(refund_id)
        if refund.status != "pending":
            return refund
        status, _, reason = outcome.partition(":")
        if status == "canceled":
            details = {"party": "refund_network", "reason": reason or REFUND_REASON}
            refund = replace(refund, status="canceled", cancellation=details)
        else:
            refund = replace(refund, status="succeeded")
        self._save_refund(refund)
        logs.event("yookassa.refund", id=refund.id, payment=refund.payment_id, status=refund.status)
        if refund.status == "succeeded":
            self._count_refund(refund)
        return refund

    def find_refund(self, refund_id: str) -> Refund:
        row = self._store.execute("SELECT body FROM refunds WHERE id = ?", (refund_id,)).fetchone()
        if row is None:
            raise not_found("Refund")
        return Refund(**orjson.loads(row["body"]))

    def refunds(self, query: ListQuery) -> tuple[list[Refund], str | None]:
        rows, cursor = self._page("refunds", query)
        return [Refund(**orjson.loads(row["body"])) for row in rows], cursor

    def _open(self, payment_id: str) -> Payment:
        payment = self.payment(payment_id)
        if payment.status == "waiting_for_capture":
            raise invalid("The payment has already been authorised")
        return payment

    def _require_waiting(self, payment: Payment) -> None:
        if payment.status != "waiting_for_capture":
            raise invalid(f"Incorrect payment status: {payment.status}, expected waiting_for_capture")

    def _change(self, payment: Payment) -> Payment:
        """Store a change of status and announce it."""
        self._save(payment)
        logs.event("yookassa.payment", id=payment.id, status=payment.status)
        self._notifier.announce(
            event=f"payment.{payment.status}", shown=self.show(payment), facts=facts_of(payment)
        )
        return payment

    def _count_refund(self, refund: Refund) -> None:
        payment = self.payment(refund.payment_id)
        payment = replace(payment, refunded_kopecks=payment.refunded_kopecks + refund.amount_kopecks)
        self._save(payment)
        self._notifier.announce(
            event="refund.succeeded", shown=refund_object(refund), facts=facts_of(payment)
        )

    def _due(self, status: str, moment: str, before: float, reason: str) -> list[Payment]:
        """Find payments in a status whose moment (a column) has come; answer them as canceled, unsaved."""
        query = f"SELECT body FROM payments WHERE status = ? AND {moment} <= ?"  # noqa: S608
        details = {"party": "yoo_money", "reason": reason}
        return [
            replace(Payment(**orjson.loads(row["body"])), status="canceled", cancellation=details)
            for row in self._store.execute(query, (status, before))
        ]

    def _refunds_of(self, payment_id: str) -> list[Refund]:
        rows = self._store.execute("SELECT body FROM refunds WHERE payment_id = ?", (payment_id,))
        return [Refund(**orjson.loads(row["body"])) for row in rows]

    def _page(self, table: str, query: ListQuery) -> tuple[list[sqlite3.Row], str | None]:
        conditions, values = list(query.conditions), list(query.values)
        if query.before_seq is not None:
            conditions.append("seq < ?")
            values.append(query.before_seq)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._store.execute(
            f"SELECT seq, body FROM {table} {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            (*values, query.limit + 1),
        ).fetchall()
        page = rows[: query.limit]
        return page, f"c-{page[-1]['seq']}" if len(rows) > query.limit else None

    def _save(self, payment: Payment) -> None:
        self._store.execute(
            "INSERT INTO payments (id, created_at, captured_at, expires_at, status, method, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at,"
            " captured_at = excluded.captured_at,"
            " expires_at = excluded.expires_at, status = excluded.status,"
            " method = excluded.method, body = excluded.body",
            (
                payment.id,
                payment.created_at,
                payment.captured_at,
                payment.expires_at,
                payment.status,
                payment.method["type"] if payment.method else None,
                orjson.dumps(asdict(payment)),
            ),
        )

    def _save_refund(self, refund: Refund) -> None:
        self._store.execute(
            "INSERT INTO refunds (id, payment_id, created_at, status, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
            (refund.id, refund.payment_id, refund.created_at, refund.status, orjson.dumps(asdict(refund))),
        )
