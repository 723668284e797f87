"""The lean ASGI path: what the engine's doors need of HTTP, and nothing that costs a thread hop.

Routes are a small table; errors are the same problem documents as everywhere. Everything that matches no
lean route goes to Django.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
import psycopg
import structlog
from django.db import OperationalError as DatabaseUnavailable
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisError

from plyrum import problems
from plyrum.errors import (
    BadRequest,
    BodyTooLarge,
    InvalidJson,
    InvalidRequest,
    MethodNotAllowed,
    PlyrumError,
    Unavailable,
)
from plyrum.middleware import client_ip, is_secure, request_id, require_https

log = structlog.get_logger(__name__)

BODY_SECONDS = 30  # in which a whole body has to arrive; what nobody sends keeps no socket open

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, parameters: dict[str, str]) -> None:
        self.path: str = scope["path"]
        self.parameters = parameters
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id(self.header("x-request-id"))
        self.is_disconnected = False
        self.has_begun = False  # the status line is sent
        self._closes = False  # the connection, after the answer

    def header(self, name: str) -> str:
        return self.given(name) or ""

    def given(self, name: str) -> str | None:
        """A header that may be empty; None when it was not sent."""
        value = self._headers.get(name.encode("latin-1"))
        return value.decode("latin-1") if value is not None else None

    @property
    def client_ip(self) -> str:
        """The client's address by the frame's rule; every line of the header counts, as Django joins them."""
        socket = self._scope.get("client") or ("",)
        return client_ip(socket[0], self._all_lines(b"x-forwarded-for") or "")

    @property
    def is_secure(self) -> bool:
        return is_secure(self._scope.get("scheme") or "http", self._all_lines(b"x-forwarded-proto"))

    def _all_lines(self, name: bytes) -> str | None:
        lines = [value for given, value in self._scope["headers"] if given == name]
        return b",".join(lines).decode("latin-1") if lines else None

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))

    async def body(self, limit: int) -> dict[str, Any]:
        """The JSON object sent. Raises InvalidJson, and what `raw_body` raises."""
        return parse_object(await self.raw_body(limit))

    async def raw_body(self, limit: int) -> bytes:
        """What was sent, b"" for nothing. Raises BodyTooLarge, BadRequest (it does not arrive)."""
        declared = self.header("content-length")
        if declared.isdecimal() and int(declared) > limit:
            raise BodyTooLarge(f"The body may have {limit} bytes.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._whole_body(limit)
        except TimeoutError as error:
            self._closes = True  # what may still come of this request is not the next one
            raise BadRequest(f"The body did not arrive within {BODY_SECONDS} seconds.") from error

    async def _whole_body(self, limit: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_disconnected = True
                raise BadRequest("The body did not arrive.")
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"The body may have {limit} bytes.")
            if not message.get("more_body"):
                return b"".join(parts)

    async def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole JSON answer."""
        await self._whole(status, "application/json", body, headers or {})

    async def problem(self, error: PlyrumError) -> None:
        body = problems.document(error, instance=self.path, request_id=self.request_id)
        await self._whole(error.status, problems.CONTENT_TYPE, body, problems.headers(error))

    async def _whole(self, status: int, content_type: str, value: Any, headers: dict[str, str]) -> None:
        body = orjson.dumps(value, default=str)
        await self._begin(status, content_type, {**headers, "Content-Length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def stream(
        self, content_type: str, groups: AsyncIterator[list[bytes] | None], headers: dict[str, str]
    ) -> None:
        """Send groups of lines as they come, None for nothing yet; ends early when the reader has left."""
        await self._begin(
            200,
            content_type,
            {**headers, "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"},
        )
        watcher = asyncio.create_task(self._watch())
        try:
            async for group in groups:
                if self.is_disconnected:
                    return
                if group:
                    await self._send(
                        {"type": "http.response.body", "body": b"".join(group), "more_body": True}
                    )
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True

    async def _begin(self, status: int, content_type: str, headers: dict[str, str]) -> None:
        self.has_begun = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type.encode("latin-1")),
                    (b"x-request-id", self.request_id.encode("latin-1")),
                    (b"x-content-type-options", b"nosniff"),
                    *([(b"connection", b"close")] if self._closes else ()),
                    *(
                        (name.lower().encode("latin-1"), text.encode("latin-1"))
                        for name, text in headers.items()
                    ),
                ],
            }
        )


Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """`pattern` matches a whole path; its named groups become the exchange's parameters."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


def router(routes: list[Route], otherwise: App) -> App:
    """An ASGI app that serves `routes` itself and hands everything else on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await otherwise(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        allowed = []
        for route in routes:
            match = route.pattern.fullmatch(path)
            if match is not None:
                if route.method == method:
                    await _serve(route.handler, Exchange(scope, receive, send, match.groupdict()))
                    return
                allowed.append(route.method)
        if allowed:
            await _serve(_offering(allowed), Exchange(scope, receive, send, {}))
            return
        await otherwise(scope, receive, send)

    return app


def _offering(allowed: list[str]) -> Handler:
    async def refuse(exchange: Exchange) -> None:
        raise MethodNotAllowed(f"Use {', '.join(allowed)}.", allow=allowed)

    return refuse


async def _serve(handler: Handler, exchange: Exchange) -> None:
    try:
        require_https(exchange.path, is_secure=exchange.is_secure)
        await handler(exchange)
    except PlyrumError as error:
        await _tell(exchange, error)
    except ValidationError as error:
        await _tell(exchange, problems.body_errors(error))
    except (psycopg.OperationalError, DatabaseUnavailable, RedisError) as error:
        log.warning("server_away", path=exchange.path, error=type(error).__name__)
        await _tell(exchange, Unavailable("The service is not available now. Try again."))
    except Exception:
        # The outer edge: the traceback is logged, the caller learns a code and the request id.
        log.exception("request_failed", path=exchange.path, request_id=exchange.request_id)
        await _tell(exchange, PlyrumError("Something broke on our side."))


async def _tell(exchange: Exchange, error: PlyrumError) -> None:
    """Answer with the problem; an answer that has begun can only be cut."""
    if exchange.has_begun:
        log.warning("answer_cut", path=exchange.path, request_id=exchange.request_id, code=error.code)
    else:
        await exchange.problem(error)


def parse_object(body: bytes) -> dict[str, Any]:
    """Raises InvalidJson for no JSON (NaN included) and for no object, InvalidRequest for NUL in texts."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson("The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise InvalidJson("The body must be a JSON object.")
    if b"\\u0000" in body:
        refuse_nul(value, "body")
    return value


class OnlyKey(BaseModel):
    """The body of a call that is told everything by its address."""

    model_config = ConfigDict(extra="forbid", strict=True)

    idempotency_key: str | None = Field(None, min_length=1, max_length=255)


def require_no_fields(body: bytes) -> None:
    """Nothing, or an object with no more than a key: a call that repeats itself harmlessly may carry one.

    Raises InvalidJson, InvalidRequest.
    """
    if body:
        try:
            OnlyKey.model_validate(parse_object(body))
        except ValidationError as error:
            raise problems.body_errors(error) from error


def refuse_nul(value: Any, *loc: str) -> None:
    """Raise InvalidRequest when a text inside `value` holds a NUL: no text of the database can keep one."""
    waiting: list[tuple[Any, tuple[str, ...]]] = [(value, loc)]  # JSON may nest deeper than calls may
    while waiting:
        part, place = waiting.pop()
        if isinstance(part, str) and "\0" in part:
            row = {"loc": list(place), "msg": "A text may not contain NUL characters.", "type": "nul"}
            raise InvalidRequest("The request has wrong fields.", errors=[row])
        if isinstance(part, dict):
            waiting += [(name, place) for name in part]
            waiting += [(inner, (*place, name)) for name, inner in part.items()]
        elif isinstance(part, list):
            waiting += [(inner, (*place, str(number))) for number, inner in enumerate(part)]


def operation(
    summary: str,
    *,
    body: type[BaseModel] | None,
    answer: str,
    tag: str,
    content: dict[str, type[BaseModel]] | None = None,
) -> dict[str, Any]:
    """An OpenAPI operation of a lean route; `content` has the shape of the answer in each of its types."""
    found: dict[str, Any] = {
        "summary": summary,
        "tags": [tag],
        "security": [{"ApiKey": []}, {"AccessToken": []}],
        "responses": {"200": {"description": answer}},
    }
    if content:
        shapes = {kind: {"schema": _schema(shape)} for kind, shape in content.items()}
        found["responses"]["200"]["content"] = shapes
    if body is not None:
        shape = {"schema": _schema(body)}
        found["requestBody"] = {"required": True, "content": {"application/json": shape}}
    return found


def _schema(shape: type[BaseModel]) -> dict[str, Any]:
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema
