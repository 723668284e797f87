"""Facts of a request that every answer and every log line carries: its id and the client's address. And the
refusal of API calls over plain http.

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
from django.utils.decorators import sync_and_async_middleware

from plyrum import problems
from plyrum.errors import HttpsRequired
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


@sync_and_async_middleware
def api_over_https(
    get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """What `require_https` refuses is answered with its problem document."""

    def refused(request: HttpRequest) -> HttpResponseBase | None:
        try:
            require_https(request.path, is_secure=request.is_secure())
        except HttpsRequired as error:
            return problems.answer(request, error)
        return None

    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            return refused(request) or await get_response(request)

        return answer
    return lambda request: refused(request) or get_response(request)


def require_https(path: str, *, is_secure: bool) -> None:
    """Refuse a call of the API over plain http where pages are redirected to https, but for probes.

    A redirect would teach programs to send their key in clear once more each time. Raises HttpsRequired.
    """
    if is_secure or not settings.SECURE_SSL_REDIRECT or path in settings.PROBE_PATHS:
        return
    if f"/{path.lstrip('/')}".startswith(settings.API_PATHS):
        raise HttpsRequired("Call the API over https. A key that was sent over http is best revoked.")


def is_secure(scheme: str, forwarded_proto: str | None) -> bool:
    """As `HttpRequest.is_secure` finds it, for what is served without Django.

    `scheme` is the socket's, `forwarded_proto` the header with all its lines, None without it.
    """
    if settings.SECURE_PROXY_SSL_HEADER is not None and forwarded_proto is not None:
        return bool(forwarded_proto.partition(",")[0].strip() == settings.SECURE_PROXY_SSL_HEADER[1])
    return scheme == "https"


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
