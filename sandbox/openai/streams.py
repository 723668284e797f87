"""Writes a completion as server-sent events: role chunk, content chunks, finish, usage when asked, `[DONE]`.

Called by `door`. One `send` per chunk; each chunk is a head made once per call, a delta encoded once per
answer, and a tail. Source: the project's providers reference, 2.3.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from time import time
from typing import Any, Protocol

import orjson
from starlette.types import Send

from sandbox.openai import answers
from sandbox.openai.answers import Answer
from sandbox.openai.calls import Call
from sandbox.openai.models import Behaviour
from sandbox.openai.requests import ChatRequest

Json = dict[str, Any]
Write = Callable[[bytes], Awaitable[None]]

DONE = b"data: [DONE]\n\n"
ROLE = b'{"role":"assistant","content":"","refusal":null}'
CUT_AFTER = 5
SLOW_FIRST_SECONDS = 3.0
SPLIT_PAUSE_SECONDS = 0.002
BROKEN_CHUNK = b'data: {"id":"chatcmpl-broken","choices":[{"delta":{"content":"\n\n'
STREAM_ERROR = (
    b'data: {"error":{"message":"The server had an error while processing your request.",'
    b'"type":"server_error","param":null,"code":"server_error"}}\n\n'
)
OPENING = (
    b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":%d,"model":%s,'
    b'"service_tier":"default",'
)
BASE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


class Pauses(Protocol):
    """Waits between chunks; False when the client is gone."""

    async def pause(self, seconds: float | None) -> bool: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Stream:
    """Everything one streamed answer is made of."""

    request: ChatRequest
    behaviour: Behaviour
    reply: Answer
    prompt_tokens: int
    identity: bytes


async def run(stream: Stream, call: Call, send: Send, pauses: Pauses | None) -> str:
    """Send the whole stream; answer how it ended: finished, cut or disconnected."""
    headers = [*BASE_HEADERS, (b"x-request-id", b"req_" + stream.identity)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        if stream.behaviour.fault is None:
            return await _ordinary(stream, call, send, pauses)
        return await _faulty(stream, call, send, pauses)
    finally:
        if pauses is not None:
            pauses.close()


async def _ordinary(stream: Stream, call: Call, send: Send, pauses: Pauses | None) -> str:
    """The common path, kept flat for speed."""
    tail = _tail(stream)
    pause = stream.behaviour.pause_seconds
    for index in range(stream.request.count):
        head = _head(stream, index)
        await send(_body(head + ROLE + tail))
        for delta in stream.reply.deltas:
            if pause and pauses is not None and not await pauses.pause(pause):
                return "disconnected"
            await send(_body(head + delta + tail))
            call.sent_chunks += 1
        await send(_body(_finish(head, stream)))
    if stream.request.has_usage_chunk:
        await send(_body(_usage_chunk(stream)))
    await send({"type": "http.response.body", "body": DONE})
    return "finished"


async def _faulty(stream: Stream, call: Call, send: Send, pauses: Pauses | None) -> str:
    """The same story with one thing wrong."""
    fault = stream.behaviour.fault
    write = _splitting(send, pauses) if fault == "fault-split-utf8" else _whole(send)
    if fault == "fault-cut-early":
        return "cut"
    if fault == "fault-error-in-stream":
        await send({"type": "http.response.body", "body": STREAM_ERROR})
        return "refused"
    if fault == "fault-slow-first" and pauses is not None and not await pauses.pause(SLOW_FIRST_SECONDS):
        return "disconnected"
    if fault == "fault-empty-choices":
        await write(_bare_chunk(stream))
    head = _head(stream, 0)
    await write(head + ROLE + _tail(stream, sent=0))
    deltas = cycle(stream.reply.deltas) if fault == "fault-endless" else stream.reply.deltas
    for place, delta in enumerate(deltas):
        if place == CUT_AFTER and fault in {"fault-cut", "fault-error-late", "fault-bad-json"}:
            return await _break(str(fault), send)
        wait = stream.behaviour.pause_seconds
        if wait and pauses is not None and not await pauses.pause(wait):
            return "disconnected"
        await write(head + delta + _tail(stream, sent=place + 1))
        call.sent_chunks += 1
    await _end(stream, head, write, send)
    return "finished"


async def _break(fault: str, send: Send) -> str:
    if fault == "fault-cut":
        return "cut"
    body = STREAM_ERROR if fault == "fault-error-late" else BROKEN_CHUNK + DONE
    await send({"type": "http.response.body", "body": body})
    return "refused"


async def _end(stream: Stream, head: bytes, write: Write, send: Send) -> None:
    fault = stream.behaviour.fault
    await write(_finish(head, stream))
    if stream.request.has_usage_chunk and fault not in {"fault-no-usage", "fault-usage-in-finish"}:
        await write(_usage_chunk(stream))
    if fault != "fault-no-done":
        await write(DONE)
    await send({"type": "http.response.body", "body": b""})


def usage_of(request: ChatRequest, behaviour: Behaviour, reply: Answer, prompt_tokens: int) -> Json:
    """Build the usage of an answer, wrong where the fault says so."""
    usage = answers.usage(prompt_tokens, reply, is_cached=behaviour.is_caching, count=request.count)
    if behaviour.fault == "fault-zero-usage":
        usage.update(prompt_tokens=0, completion_tokens=0, total_tokens=0)
        usage["completion_tokens_details"]["reasoning_tokens"] = 0
    if behaviour.fault == "fault-wrong-usage":
        usage["prompt_tokens_details"]["cached_tokens"] = prompt_tokens + 100
    return usage


def _head(stream: Stream, index: int) -> bytes:
    return b'%s"choices":[{"index":%d,"delta":' % (_opening(stream), index)


def _opening(stream: Stream) -> bytes:
    return OPENING % (stream.identity, int(time()), orjson.dumps(stream.request.model))


def _tail(stream: Stream, sent: int = 0) -> bytes:
    if stream.behaviour.fault == "fault-usage-everywhere":
        usage = usage_of(stream.request, stream.behaviour, stream.reply, stream.prompt_tokens)
        grown = min(sent, usage["completion_tokens"])
        usage.update(completion_tokens=grown, total_tokens=usage["prompt_tokens"] + grown)
        return b',"logprobs":null,"finish_reason":null}],"usage":%s}\n\n' % orjson.dumps(usage)
    if stream.request.has_usage_chunk:
        return b',"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
    return b',"logprobs":null,"finish_reason":null}]}\n\n'


def _finish(head: bytes, stream: Stream) -> bytes:
    reason = orjson.dumps(stream.reply.finish_reason)
    if stream.behaviour.fault in {"fault-usage-everywhere", "fault-usage-in-finish"}:
        usage = b',"usage":' + orjson.dumps(_usage(stream))
    else:
        usage = b',"usage":null' if stream.request.has_usage_chunk else b""
    return b'%s{},"logprobs":null,"finish_reason":%s}]%s}\n\n' % (head, reason, usage)


def _usage(stream: Stream) -> Json:
    return usage_of(stream.request, stream.behaviour, stream.reply, stream.prompt_tokens)


def _usage_chunk(stream: Stream) -> bytes:
    return b'%s"choices":[],"usage":%s}\n\n' % (_opening(stream), orjson.dumps(_usage(stream)))


def _bare_chunk(stream: Stream) -> bytes:
    return b'%s"choices":[],"prompt_filter_results":[]}\n\n' % _opening(stream)


def _body(data: bytes) -> Json:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _whole(send: Send) -> Write:
    async def write(data: bytes) -> None:
        await send(_body(data))

    return write


def _splitting(send: Send, pauses: Pauses | None) -> Write:
    """Write CRLF and comment lines, cut inside letters and lines, each part in a packet of its own."""

    async def write(data: bytes) -> None:
        spoiled = b": sandbox\r\n\r\n" + data.replace(b"\n", b"\r\n")
        places = _split_places(spoiled)
        for start, end in zip((0, *places), (*places, len(spoiled)), strict=True):
            await send(_body(spoiled[start:end]))
            if pauses is not None:
                await pauses.pause(SPLIT_PAUSE_SECONDS)

    return write


def _split_places(data: bytes) -> tuple[int, ...]:
    """Choose where to cut: inside the field name, a letter of several bytes, and the last CRLF."""
    letter = next((place for place, byte in enumerate(data) if byte & 0xC0 == 0x80), len(data) // 2)
    places = {data.index(b"data") + 2 if b"data" in data else 1, letter, len(data) - 1}
    return tuple(sorted(places))
