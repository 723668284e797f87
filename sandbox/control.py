"""What tests may do to the sandbox: script faults, move time, pay without a browser, look at what arrived.

JSON only (a page of another site cannot post here without asking first). The product never calls this.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandbox.cbr.rates import Rates
from sandbox.clock import iso
from sandbox.mail.messages import Mailbox
from sandbox.openai.calls import Call, Calls
from sandbox.yookassa import hosted
from sandbox.yookassa.cards import Card
from sandbox.yookassa.errors import ApiError
from sandbox.yookassa.notifications import Notifier
from sandbox.yookassa.scripts import Scripts
from sandbox.yookassa.shapes import Json, Payment, refund_object
from sandbox.yookassa.shop import Shop

SUCCESS_CARD = Card(number="5555555555554444", expiry_month="12", expiry_year="2030")
DECLINED_CARD = Card(number="5555555555554527", expiry_month="12", expiry_year="2030")
SHOWN_CALLS = 100
SHOP_FIELDS = frozenset({"next_webhooks", "next_create", "next_refund", "next_read"})
Handler = Callable[[Request, Json], Awaitable[Json]]


class ControlError(Exception):
    """The control request makes no sense; the text says what is taken."""


class Control:
    """The control API over all parts."""

    def __init__(
        self,
        *,
        shop: Shop,
        scripts: Scripts,
        notifier: Notifier,
        calls: Calls,
        mailbox: Mailbox,
        rates: Rates,
    ) -> None:
        self._shop = shop
        self._scripts = scripts
        self._notifier = notifier
        self._calls = calls
        self._mailbox = mailbox
        self._rates = rates

    def routes(self) -> Sequence[BaseRoute]:
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/control/yookassa", self._shop_state),
            ("POST", "/control/yookassa", self._script_shop),
            ("POST", "/control/payments/{payment_id}/outcome", self._outcome),
            ("POST", "/control/payments/{payment_id}/age", self._age),
            ("POST", "/control/payments/{payment_id}/tamper", self._tamper),
            ("POST", "/control/payments/{payment_id}/webhooks", self._webhooks),
            ("POST", "/control/refunds/{refund_id}/outcome", self._refund_outcome),
            ("GET", "/control/provider/calls", self._provider_calls),
            ("POST", "/control/provider", self._script_provider),
            ("POST", "/control/reset-provider", self._reset_provider),
            ("POST", "/control/reset-mailbox", self._reset_mailbox),
            ("POST", "/control/cbr", self._script_bank),
        ]
        return [Route(path, _door(handler), methods=[method]) for method, path, handler in table]

    # YooKassa

    async def _shop_state(self, request: Request, _body: Json) -> Json:
        return {
            "clock_offset_seconds": self._shop.clock.offset_seconds,
            "webhook_url": self._notifier.url,
            "receipt_required": self._shop.is_receipt_required,
            "rules": [
                {
                    "id": rule.id,
                    "kind": rule.kind,
                    "effect": rule.effect,
                    "match": rule.match,
                    "times": rule.times,
                }
                for rule in self._scripts.rules
            ],
            "notifications": self._notifier.rows(request.query_params.get("object_id")),
        }

    async def _script_shop(self, request: Request, body: Json) -> Json:
        match, times = body.pop("match", {}), body.pop("times", 1)
        if body.pop("reset", False):
            self._scripts.clear()
            self._shop.clock.offset_seconds = 0.0
            self._shop.is_receipt_required = False
        for name, value in body.items():
            if name in SHOP_FIELDS:
                kind = "webhook" if name == "next_webhooks" else name.removeprefix("next_")
                self._scripts.add(kind=kind, effect=value, match=match, times=times)
            elif name == "clock_offset_seconds":
                self._shop.clock.offset_seconds = float(value)
                self._shop.expire_due()
            elif name == "receipt_required":
                self._shop.is_receipt_required = bool(value)
            elif name == "webhook_url":
                self._notifier.url = value
            else:
                raise ControlError(f"unknown field {name}")
        return await self._shop_state(request, {})

    async def _outcome(self, request: Request, body: Json) -> Json:
        """Pay as a payer would: outcome `succeeded` or `canceled:<reason>`, method `bank_card` or `sbp`."""
        payment_id = request.path_params["payment_id"]
        outcome, _, reason = str(body.get("outcome", "")).partition(":")
        method = body.get("method", "bank_card")
        if outcome not in {"succeeded", "canceled"} or method not in {"bank_card", "sbp"}:
            raise ControlError("outcome is succeeded or canceled:<reason>; method is bank_card or sbp")
        if outcome == "succeeded":
            return self._shop.show(self._pay(payment_id, method))
        return self._shop.show(self._decline(payment_id, method, reason, body))

    def _pay(self, payment_id: str, method: str) -> Payment:
        if method == "sbp":
            return self._shop.pay(payment_id, method=hosted.sbp_method(payment_id), authorization=None)
        return self._shop.pay(
            payment_id,
            method=hosted.card_method(payment_id, SUCCESS_CARD),
            authorization=hosted.authorization(payment_id, SUCCESS_CARD),
        )

    def _decline(self, payment_id: str, method: str, reason: str, body: Json) -> Payment:
        shown = (
            hosted.sbp_method(payment_id)
            if method == "sbp"
            else hosted.card_method(payment_id, DECLINED_CARD)
        )
        party = str(body.get("party", "payment_network"))
        return self._shop.decline(payment_id, reason=reason or "general_decline", party=party, method=shown)

    async def _age(self, request: Request, body: Json) -> Json:
        """Move one payment into the past: `{"seconds": 3700}`."""
        return self._shop.show(
            self._shop.age(request.path_params["payment_id"], float(body.get("seconds", 0)))
        )

    async def _tamper(self, request: Request, body: Json) -> Json:
        """Show other fields from now on: `{"amount": {...}, "test": false, ...}`."""
        return self._shop.show(self._shop.tamper(request.path_params["payment_id"], body))

    async def _webhooks(self, request: Request, body: Json) -> Json:
        """Send held notifications (`{"action": "release"}`) or all of them again (`{"action": "resend"}`)."""
        payment_id = request.path_params["payment_id"]
        if body.get("action") == "release":
            return {"sent": self._notifier.release(payment_id)}
        if body.get("action") == "resend":
            return {"sent": self._notifier.resend(payment_id)}
        raise ControlError("action is release or resend")

    async def _refund_outcome(self, request: Request, body: Json) -> Json:
        """End a pending refund: `{"outcome": "succeeded" | "canceled:<reason>"}`."""
        outcome = str(body.get("outcome", ""))
        if outcome.partition(":")[0] not in {"succeeded", "canceled"}:
            raise ControlError("outcome is succeeded or canceled:<reason>")
        return refund_object(self._shop.finish_refund(request.path_params["refund_id"], outcome))

    # provider, mailbox and central bank

    async def _provider_calls(self, request: Request, _body: Json) -> Json:
        query = request.query_params
        found = list(self._calls.find(model=query.get("model"), contains=query.get("contains")))
        return {"count": len(found), "calls": [_call(call) for call in islice(found, SHOWN_CALLS)]}

    async def _script_provider(self, _request: Request, body: Json) -> Json:
        """Spoil the next calls: `{"fault": "fault-500", "match": {"model", "key", "contains"}}`."""
        self._calls.add_script(
            fault=body.get("fault", ""), match=body.get("match", {}), times=body.get("times", 1)
        )
        return {"scripts": len(self._calls.scripts)}

    async def _reset_provider(self, _request: Request, _body: Json) -> Json:
        self._calls.reset()
        return {}

    async def _reset_mailbox(self, _request: Request, _body: Json) -> Json:
        self._mailbox.clear()
        return {}

    async def _script_bank(self, _request: Request, body: Json) -> Json:
        """Set rates (`{"rates": {"USD": "96,0000"}, "nominal": 1}`), spoil answers (`{"fault", "times"}`)."""
        for code, value in body.get("rates", {}).items():
            self._rates.set(code, value, int(body.get("nominal", 1)))
        if "fault" in body:
            self._rates.spoil(body["fault"], int(body.get("times", 1)))
        return {"rates": {code: rate.value for code, rate in self._rates.by_code.items()}}


def _door(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            answer, status = await handler(request, await _read(request)), 200
        except (ControlError, TypeError, ValueError) as error:
            answer, status = {"error": str(error)}, 400
        except ApiError as error:
            answer, status = error.body(), error.status
        return Response(orjson.dumps(answer), status_code=status, media_type="application/json")

    return handle


async def _read(request: Request) -> Json:
    if request.method == "GET":
        return {}
    if not request.headers.get("Content-Type", "").startswith("application/json"):
        raise ControlError("Content-Type must be application/json")
    body: Any = orjson.loads(await request.body() or b"{}")
    if not isinstance(body, dict):
        raise ControlError("the body must be a JSON object")
    return body


def _call(call: Call) -> Json:
    try:
        body = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        body = None
    return {
        "seq": call.seq,
        "at": iso(call.at),
        "model": call.model,
        "stream": call.is_streamed,
        "key_fingerprint": call.key,
        "state": call.state,
        "disconnected": call.state == "disconnected",
        "sent_chunks": call.sent_chunks,
        "body": body,
    }
