"""The HTTP door of YooKassa's API v3: credentials, content type, key, body; one act; the published answer.

Mounted at `/yookassa/v3` by `app`. Scripted faults are applied here, before or after the act.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sandbox.yookassa import requests
from sandbox.yookassa.errors import ApiError, invalid, not_found
from sandbox.yookassa.keys import Keys
from sandbox.yookassa.scripts import Scripts, facts_of, facts_of_request
from sandbox.yookassa.shapes import SECRET_KEY, SHOP_ID, Json, refund_object
from sandbox.yookassa.shop import Shop

CREDENTIALS = b64encode(f"{SHOP_ID}:{SECRET_KEY}".encode()).decode()
MAX_BODY = 512 * 1024
SLOW_SECONDS = 5
PROVIDER_LIMIT_SECONDS = 30
HTML_ERROR = "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"
Act = Callable[[Json], Json]


class YooKassaApi:
    """The calls of the API over one shop."""

    def __init__(self, shop: Shop, keys: Keys, scripts: Scripts) -> None:
        self._shop = shop
        self._keys = keys
        self._scripts = scripts

    def app(self) -> Starlette:
        """Build the mounted application with YooKassa's own error bodies."""
        routes = [
            Route("/payments", _with_credentials(self._create_payment), methods=["POST"]),
            Route("/payments", _with_credentials(self._list_payments), methods=["GET"]),
            Route("/payments/{payment_id}", _with_credentials(self._get_payment), methods=["GET"]),
            Route(
                "/payments/{payment_id}/capture", _with_credentials(self._capture_payment), methods=["POST"]
            ),
            Route("/payments/{payment_id}/cancel", _with_credentials(self._cancel_payment), methods=["POST"]),
            Route("/refunds", _with_credentials(self._create_refund), methods=["POST"]),
            Route("/refunds", _with_credentials(self._list_refunds), methods=["GET"]),
            Route("/refunds/{refund_id}", _with_credentials(self._get_refund), methods=["GET"]),
            Route("/me", _with_credentials(self._me), methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {ApiError: _refusal, HTTPException: _http_refusal}
        return Starlette(routes=routes, exception_handlers=handlers)

    # payments

    async def _create_payment(self, request: Request) -> Response:
        def act(body: Json) -> Json:
            new = requests.new_payment(body, is_receipt_required=self._shop.is_receipt_required)
            return self._shop.show(self._shop.create(new))

        return await self._run(request, act, kind="create")

    async def _get_payment(self, request: Request) -> Response:
        payment = self._shop.payment(request.path_params["payment_id"])
        fault = await self._fault_before(self._scripts.take("read", facts_of(payment)))
        return fault or _json(self._shop.show(payment))

    async def _list_payments(self, request: Request) -> Response:
        payments, cursor = self._shop.payments(requests.payments_query(request.query_params.multi_items()))
        return _list([self._shop.show(payment) for payment in payments], cursor)

    async def _capture_payment(self, request: Request) -> Response:
        def act(body: Json) -> Json:
            payment = self._shop.payment(request.path_params["payment_id"])
            amount = requests.capture_kopecks(body, authorised_kopecks=payment.amount_kopecks)
            return self._shop.show(self._shop.capture(payment, amount_kopecks=amount))

        return await self._run(request, act)

    async def _cancel_payment(self, request: Request) -> Response:
        def act(body: Json) -> Json:
            if body:
                raise invalid("The body of cancel is empty", next(iter(body)))
            return self._shop.show(self._shop.cancel(self._shop.payment(request.path_params["payment_id"])))

        return await self._run(request, act)

    # refunds

    async def _create_refund(self, request: Request) -> Response:
        def act(body: Json) -> Json:
            return refund_object(self._shop.refund(requests.new_refund(body)))

        return await self._run(request, act, kind="refund")

    async def _get_refund(self, request: Request) -> Response:
        return _json(refund_object(self._shop.find_refund(request.path_params["refund_id"])))

    async def _list_refunds(self, request: Request) -> Response:
        refunds, cursor = self._shop.refunds(requests.refunds_query(request.query_params.multi_items()))
        return _list([refund_object(refund) for refund in refunds], cursor)

    async def _me(self, _request: Request) -> Response:
        return _json(
            {
                "account_id": SHOP_ID,
                "status": "enabled",
                "test": True,
                "fiscalization": {"enabled": self._shop.is_receipt_required, "provider": "yoo_receipt"},
                "payment_methods": sorted(requests.ENABLED_METHODS),
            }
        )

    # faults and keys around an act

    async def _run(self, request: Request, act: Act, *, kind: str | None = None) -> Response:
        """Run a POST once per key; scripted faults strike before or after it."""
        key = request.headers.get("Idempotence-Key")
        body = await _body(request)
        effect = self._scripts.take(kind, facts_of_request(body)) if kind else None
        fault = await self._fault_before(effect)
        if fault is not None:
            return fault
        stored = self._keys.bind(key, path=request.url.path, body=body)
        if stored is None and key is not None:
            stored = orjson.dumps(act(body))
            self._keys.keep(key, stored)
        return await self._fault_after(effect) or Response(stored, media_type="application/json")

    async def _fault_before(self, effect: str | None) -> Response | None:
        """Fail without running the act. Raises ApiError or answers what an edge server would."""
        if effect == "500":
            raise ApiError(500, "internal_server_error", "Scripted failure, nothing was done")
        if effect == "429":
            raise ApiError(429, "too_many_requests", "Too many requests", retry_after=1000)
        if effect == "not_found":
            raise not_found("Payment")
        if effect == "503_html":
            return HTMLResponse(HTML_ERROR, status_code=503)
        if effect == "slow":
            await self._shop.clock.sleep(SLOW_SECONDS)
        return None

    async def _fault_after(self, effect: str | None) -> Response | None:
        """Lose the answer of an act that ran."""
        if effect == "cut_after_execution":
            return CutResponse()
        if effect == "timeout_after_execution":
            await self._shop.clock.sleep(PROVIDER_LIMIT_SECONDS)
        if effect in {"timeout_after_execution", "500_after_execution"}:
            raise ApiError(500, "internal_server_error", "Scripted failure, the operation was executed")
        return None


class CutResponse(Response):
    """Headers of an answer whose body never comes: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"512")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _with_credentials(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic" or not compare_digest(value.strip().encode(), CREDENTIALS.encode()):
            raise ApiError(
                401, "invalid_credentials", "Basic authentication failed: check shopId and secret key"
            )
        return await handler(request)

    return checked


async def _body(request: Request) -> Json:
    """Read the JSON object of a POST. Raises ApiError 415 or 400."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(
            415, "invalid_request", "Content-Type must be application/json", parameter="Content-Type"
        )
    raw = await request.body()
    if len(raw) > MAX_BODY:
        raise invalid("The body is too large")
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise invalid("The body is not valid JSON") from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object")
    return body


def _list(items: list[Json], cursor: str | None) -> Response:
    body: Json = {"type": "list", "items": items}
    if cursor is not None:
        body["next_cursor"] = cursor
    return _json(body)


def _json(body: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


async def _refusal(_request: Request, error: ApiError) -> Response:
    return _json(error.body(), error.status)


async def _http_refusal(_request: Request, error: HTTPException) -> Response:
    codes = {404: "not_found", 405: "invalid_request"}
    code = codes.get(error.status_code, "invalid_request")
    return _json(ApiError(error.status_code, code, error.detail).body(), error.status_code)
