"""Facts of a request that every answer and every log line carries: its id and the client's address.

Async-capable, so that it never costs a thread hop.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

import structlog
from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from plyrum.ids import uuid7

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{8,128}")


class RequestFacts:
    """Sets `request.request_id` and `request.client_ip`; answers with `X-Request-Id`."""

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        self._learn(request)
        if self.is_async:
            return self._answer(request)
        response = self.get_response(request)
        return self._mark(request, response)  # type: ignore[arg-type]

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        return self._mark(request, await self.get_response(request))  # type: ignore[misc]

    @staticmethod
    def _learn(request: HttpRequest) -> None:
        request.request_id = request_id(request.headers.get("X-Request-Id", ""))  # type: ignore[attr-defined]
        request.client_ip = client_ip(  # type: ignore[attr-defined]
            request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", "")
        )
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)  # type: ignore[attr-defined]

    @staticmethod
    def _mark(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        return response


def request_id(given: str) -> str:
    """The caller's id if it is sane, else a new one."""
    return given if SANE_REQUEST_ID.fullmatch(given) else str(uuid7())


def client_ip(socket_address: str, forwarded_for: str) -> str:
    """The client's address: the N-th from the right of X-Forwarded-For, N trusted proxies; "" when unknown.

    Source: security bar, "Trusted client address": the left side of the header is the client's own claim.
    """
    count = settings.PLYRUM_TRUSTED_PROXY_COUNT
    claimed = socket_address
    if count:
        entries = [part.strip() for part in forwarded_for.split(",") if part.strip()]
        claimed = entries[-count] if len(entries) >= count else ""
    try:
        address = ipaddress.ip_address(claimed)
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
