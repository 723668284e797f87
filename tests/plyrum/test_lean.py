"""The lean path as a server would call it: routes, bodies, streams, disconnects, failures."""

import asyncio
import re
from collections.abc import AsyncIterator, MutableMapping
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from pydantic import BaseModel
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisAway
from structlog.testing import capture_logs

from plyrum import lean
from plyrum.errors import Conflict, InvalidJson, InvalidRequest, NotFound
from plyrum.lean import Exchange, Route

LIMIT = 100
Message = MutableMapping[str, Any]


class Asked(BaseModel):
    number: int


class Browser:
    """Plays the server's side of one exchange; answers are kept in `sent`."""

    def __init__(self, *messages: Message, disconnects_after: int | None = None) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []
        self.disconnects_after = disconnects_after
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.sent, "the answer began twice"
        self.sent.append(message)
        if self.disconnects_after is not None and len(self.sent) > self.disconnects_after:
            self.gone.set()
            await asyncio.sleep(0.01)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found


def chunk(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(exchange: Exchange) -> None:
    await exchange.answer(200, {"body": await exchange.body(LIMIT), "name": exchange.parameters["name"]})


async def facts(exchange: Exchange) -> None:
    body = {"query": exchange.query, "agent": exchange.header("user-agent")}
    await exchange.answer(201, body, {"X-Own": "1"})


async def lines(*groups: list[bytes] | Exception) -> AsyncIterator[list[bytes]]:
    for group in groups:
        if isinstance(group, Exception):
            raise group
        yield group
        await asyncio.sleep(0)


def failing(error: Exception) -> lean.Handler:
    async def handler(exchange: Exchange) -> None:
        raise error

    return handler


def streaming(*groups: list[bytes] | Exception) -> lean.Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.stream("application/x-ndjson", lines(*groups), {"x-own": "1"})

    return handler


async def behind(scope: lean.Scope, receive: lean.Receive, send: lean.Send) -> None:
    await send({"type": "behind"})


async def call(
    browser: Browser,
    handler: lean.Handler = echo,
    *,
    method: str = "POST",
    path: str = "/echo/one",
    **scope: Any,
) -> Browser:
    routes = [
        Route("POST", re.compile(r"/echo/(?P<name>[^/]+)"), handler),
        Route("GET", re.compile(r"/both"), facts),
        Route("POST", re.compile(r"/both"), echo),
    ]
    given = {"type": "http", "path": path, "method": method, "headers": [], "query_string": b"", **scope}
    await lean.router(routes, behind)(given, browser.receive, browser.send)
    return browser


async def test_route_gets_its_parameters_and_its_body() -> None:
    browser = await call(Browser(chunk(b'{"a":1}')))

    assert (browser.status, browser.json) == (200, {"body": {"a": 1}, "name": "one"})
    assert browser.headers["content-type"] == "application/json"
    assert browser.headers["x-content-type-options"] == "nosniff"
    assert UUID(browser.headers["x-request-id"]).version == 7


async def test_facts_of_the_request(settings: Settings) -> None:
    settings.PLYRUM_TRUSTED_PROXY_COUNT = 1
    browser = await call(
        Browser(), method="GET", path="/both", query_string=b"a=1&b=%D1%8F&c=", client=("10.0.0.1", 5),
        headers=[
            (b"user-agent", b"tests"), (b"x-request-id", b"my-request"),
        ],
    )  # fmt: skip

    assert (browser.status, browser.headers["x-own"], browser.headers["x-request-id"]) == (
        201,
        "1",
        "my-request",
    )
    assert browser.json == {"query": {"a": "1", "b": "я", "c": ""}, "agent": "tests"}


async def test_request_without_a_socket_is_answered() -> None:
    assert (await call(Browser(), method="GET", path="/both", client=None)).status == 201


@pytest.mark.parametrize(("path", "allow"), [("/echo/one", "POST"), ("/both", "GET, POST")])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
async def test_other_method_is_told_which_are_offered(method: str, path: str, allow: str) -> None:
    browser = await call(Browser(), method=method, path=path)

    assert (browser.status, browser.json["code"], browser.headers["allow"]) == (
        405,
        "method_not_allowed",
        allow,
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("proto", "status"), [(b"https", 200), (b"http", 400), (None, 400)])
async def test_plain_http_is_refused_before_anything_is_read(
    settings: Settings, method: str, proto: bytes | None, status: int
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.API_PATHS = ("/echo/",)
    headers = [(b"x-forwarded-proto", proto)] if proto is not None else []
    browser = await call(Browser(chunk(b"{}")), method=method, headers=headers)

    assert browser.status == (405 if (status, method) == (200, "PUT") else status)
    if status == 400:
        assert browser.headers["content-type"] == "application/problem+json"
        assert browser.json["code"] == "https_required"
        assert len(browser.messages) == 1


@pytest.mark.parametrize("path", ["/", "/echo", "/echo/one/two", "/echo/", "/ECHO/one", "/x/echo/one"])
async def test_other_path_goes_on_to_what_stands_behind(path: str) -> None:
    assert (await call(Browser(), path=path)).sent == [{"type": "behind"}]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_goes_on_too(kind: str) -> None:
    assert (await call(Browser(), type=kind)).sent == [{"type": "behind"}]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":"\\u0000"}', "validation_failed"),
        (b'{"\\u0000":1}', "validation_failed"),
        (b'{"a":[{"b":["x","\\u0000"]}]}', "validation_failed"),
        (b'{"a":"\\\\u0000"}', ""),
    ],
)
async def test_body_must_be_a_json_object(body: bytes, code: str) -> None:
    browser = await call(Browser(chunk(body)))

    assert browser.json.get("code", "") == code


def test_place_of_a_nul_is_told() -> None:
    with pytest.raises(InvalidRequest) as refused:
        lean.parse_object(b'{"a":[{"b":"\\u0000"}]}')

    assert refused.value.extra["errors"][0]["loc"] == ["body", "a", "0", "b"]


@pytest.mark.parametrize("depth", [900, 1020, 5000])
def test_deep_nesting_is_no_fault_of_ours(depth: int) -> None:
    body = b'{"a":' + b"[" * depth + b'"\\u0000"' + b"]" * depth + b"}"

    with pytest.raises((InvalidJson, InvalidRequest)):
        lean.parse_object(body)


async def test_body_may_have_the_limit_and_no_more() -> None:
    whole = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(whole) == LIMIT

    assert (await call(Browser(chunk(whole)))).status == 200
    assert (await call(Browser(chunk(whole + b" ")))).status == 413


async def test_declared_length_is_refused_before_anything_is_read() -> None:
    browser = Browser(chunk(b"{}"))
    await call(browser, headers=[(b"content-length", str(LIMIT + 1).encode())])

    assert (browser.status, browser.json["code"]) == (413, "body_too_large")
    assert len(browser.messages) == 1


@pytest.mark.parametrize("length", [b"", b"x", b"-1", b"\xb2", b"1e9"])
async def test_nonsense_length_is_passed_over(length: bytes) -> None:
    assert (await call(Browser(chunk(b"{}")), headers=[(b"content-length", length)])).status == 200


async def test_chunked_body_is_refused_as_soon_as_it_is_too_long() -> None:
    browser = Browser(*[chunk(b"x" * 40, more=True) for _ in range(10)])
    await call(browser)

    assert browser.status == 413
    assert len(browser.messages) == 7  # the third chunk was one too many


async def test_chunks_are_joined() -> None:
    browser = await call(Browser(chunk(b'{"a"', True), chunk(b"", True), chunk(b":1}")))

    assert browser.json["body"] == {"a": 1}


async def test_client_that_leaves_while_sending_is_answered_to_nobody() -> None:
    browser = Browser(chunk(b'{"a"', True), {"type": "http.disconnect"})
    await call(browser)

    assert (browser.status, browser.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "messages",
    [[], [chunk(b'{"a"', True)], [chunk(b'{"a":1}', True), chunk(b"", True)]],
    ids=["nothing", "a part", "all but its end"],
)
async def test_body_that_does_not_arrive_is_not_waited_for(
    messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "BODY_SECONDS", 0.05)
    async with asyncio.timeout(10):
        browser = await call(Browser(*messages))

    assert (browser.status, browser.json["code"]) == (400, "bad_request")
    assert browser.headers["connection"] == "close"


async def test_time_of_a_body_is_that_of_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "BODY_SECONDS", 0.05)
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        await asyncio.sleep(0.01)
        sent += 1
        return chunk(b"", more=sent < 1000)

    browser = Browser()
    browser.receive = receive  # type: ignore[method-assign]
    await call(browser)

    assert (browser.status, sent < 1000) == (400, True)
    assert "connection" not in (await call(Browser(chunk(b"{}")))).headers


async def test_body_that_comes_late_is_taken() -> None:
    coming: asyncio.Queue[Message] = asyncio.Queue()
    browser = Browser()
    browser.receive = coming.get  # type: ignore[method-assign]
    answering = asyncio.create_task(call(browser))

    for part in (chunk(b'{"a"', True), chunk(b":1}")):
        await asyncio.sleep(0.01)
        coming.put_nowait(part)
    await answering

    assert browser.json["body"] == {"a": 1}


async def test_waiting_for_a_body_ends_with_its_request() -> None:
    coming: asyncio.Queue[Message] = asyncio.Queue()
    exchange = Exchange({"path": "/", "headers": []}, coming.get, Browser().send, {})
    waiting = asyncio.create_task(exchange.body(LIMIT))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    coming.put_nowait(chunk(b"{}"))
    assert coming.qsize() == 1
    assert not coming._getters  # type: ignore[attr-defined]  # nobody stands in the queue any more


async def test_stream_sends_groups_as_they_come() -> None:
    browser = await call(Browser(), streaming([b"1\n", b"2\n"], [], [b"3\n"]))

    assert [message["body"] for message in browser.sent[1:]] == [b"1\n2\n", b"3\n", b""]
    assert [message.get("more_body", False) for message in browser.sent[1:]] == [True, True, False]
    assert browser.headers["cache-control"] == "no-store, no-transform"
    assert (browser.headers["x-accel-buffering"], browser.headers["x-own"]) == ("no", "1")
    assert browser.headers["content-type"] == "application/x-ndjson"


async def test_stream_ends_when_its_reader_has_left() -> None:
    browser = await call(Browser(disconnects_after=2), streaming(*[[b"line\n"] for _ in range(50)]))

    assert len(browser.sent) <= 4
    assert all(message.get("more_body", True) for message in browser.sent[1:])


async def test_silent_stream_ends_when_its_reader_has_left() -> None:
    silences = []

    async def groups() -> AsyncIterator[list[bytes] | None]:
        yield [b"line\n"]
        for number in range(50):
            silences.append(number)
            yield None

    await call(Browser(disconnects_after=1), lambda exchange: exchange.stream("text/plain", groups(), {}))

    assert len(silences) == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("No."), 404, "not_found"),
        (Conflict(extra_fact=1), 409, "conflict"),
        (ValueError("a secret inside"), 500, "internal_error"),
        (psycopg.OperationalError("gone"), 503, "unavailable"),
        (RedisAway("gone"), 503, "unavailable"),
    ],
)
async def test_failure_is_a_problem_with_the_request_id(error: Exception, status: int, code: str) -> None:
    with capture_logs() as said:
        browser = await call(Browser(), failing(error), headers=[(b"x-request-id", b"my-request")])

    body = browser.json
    assert (browser.status, body["status"], body["code"]) == (status, status, code)
    assert (body["request_id"], body["instance"]) == ("my-request", "/echo/one")
    assert browser.headers["content-type"] == "application/problem+json"
    assert "secret" not in browser.body.decode()
    assert [line["event"] for line in said] == {500: ["request_failed"], 503: ["server_away"]}.get(status, [])


async def test_wrong_fields_are_told_by_place() -> None:
    async def handler(exchange: Exchange) -> None:
        Asked.model_validate(await exchange.body(LIMIT))

    browser = await call(Browser(chunk(b'{"number":"secret"}')), handler)

    assert (browser.status, browser.json["errors"][0]["loc"]) == (422, ["body", "number"])
    assert "secret" not in browser.body.decode()


@pytest.mark.parametrize("error", [NotFound(), ValueError("inside"), RedisAway("gone")])
async def test_failure_in_the_middle_of_a_stream_cuts_it(error: Exception) -> None:
    with capture_logs() as said:
        browser = await call(Browser(), streaming([b"1\n"], error))

    assert browser.status == 200
    assert browser.body == b"1\n"
    assert browser.sent[-1]["more_body"] is True  # no proper end: the reader sees that it was cut
    assert said[-1]["event"] == "answer_cut"


def test_operation_describes_its_body() -> None:
    with_body = lean.operation("Ask", body=Asked, answer="Frames", tag="runs")
    without = lean.operation("Look", body=None, answer="Frames", tag="runs")

    assert with_body["requestBody"]["content"]["application/json"]["schema"]["properties"]["number"]
    assert "requestBody" not in without
    assert without["security"] == [{"ApiKey": []}, {"AccessToken": []}]
