"""The chat completions call as a bare ASGI function: the reference that benchmarks measure the product
against.

Mounted by `app` in front of all routing. Parses once with orjson, joins pre-encoded pieces and sends each
chunk by itself. Client disconnects are noticed where a stream pauses.
"""

import asyncio
from itertools import count
from time import time
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from sandbox.clock import Clock
from sandbox.openai import answers, faults, models, requests, streams, text
from sandbox.openai.answers import Answer
from sandbox.openai.calls import Call, Calls, fingerprint
from sandbox.openai.errors import ProviderError, bad_key, unknown_model
from sandbox.openai.models import PAUSES, PLAIN_FAULTS, Behaviour
from sandbox.openai.requests import ChatRequest
from sandbox.openai.streams import Stream

Json = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

KEYS = {f"Bearer {key}".encode(): key for key in ("sk-sandbox-1", "sk-sandbox-2")}
FINGERPRINTS = {key: fingerprint(key) for key in KEYS.values()}
JSON_TYPE = (b"content-type", b"application/json")
MAX_BODY = 8 * 1024 * 1024
SLOW_FIRST_SECONDS = 3.0


def key_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Answer the sandbox key of a request's bearer token, None when it has no good one."""
    for name, value in headers:
        if name == b"authorization":
            return KEYS.get(value)
    return None


class Waiter:
    """Pauses of one response that end early when the client leaves or the sandbox stops."""

    def __init__(self, receive: Receive, clock: Clock) -> None:
        self._gone = asyncio.ensure_future(_disconnected(receive))
        self._stopped = asyncio.ensure_future(clock.stopped())

    async def pause(self, seconds: float | None) -> bool:
        """Answer False when there is nobody left to write to."""
        done, _ = await asyncio.wait(
            {self._gone, self._stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return not done

    def close(self) -> None:
        self._gone.cancel()
        self._stopped.cancel()


class ChatDoor:
    """POST /openai/v1/chat/completions."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._ids = count(int(time() * 1000) << 20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = key_of(scope["headers"])
        identity = b"%x" % next(self._ids)
        try:
            if scope["method"] != "POST":
                raise ProviderError(
                    405, "method_not_supported", f"Not allowed to {scope['method']} on this path."
                )
            if key is None:
                raise bad_key()
            body = await _read(receive)
            request = requests.read(body)
            behaviour = models.find(request.model)
            if behaviour is None:
                raise unknown_model(request.model)
        except ProviderError as error:
            await send_error(send, error, identity)
            return
        call = self._calls.record(
            at=self._clock.now(),
            model=request.model,
            is_streamed=request.is_streamed,
            key=FINGERPRINTS[key],
            body=body,
        )
        if self._calls.scripts:
            fault = self._calls.scripted_fault(call, key)
            behaviour = behaviour if fault is None else models.find(fault) or behaviour
        await self._answer(request, behaviour, call, identity, receive, send)

    async def _answer(
        self,
        request: ChatRequest,
        behaviour: Behaviour,
        call: Call,
        identity: bytes,
        receive: Receive,
        send: Send,
    ) -> None:
        fault = behaviour.fault
        if fault is not None:
            if fault in PLAIN_FAULTS:
                call.state = "refused"
                await _refuse(send, fault, request.model, identity)
                return
            if fault == "fault-hang":
                call.state = "disconnected" if await self._client_leaves(receive, None) else "refused"
                return
        reply = answers.answer(request, behaviour)
        prompt = text.prompt_tokens(request.messages)
        if request.is_streamed:
            stream = Stream(
                request=request, behaviour=behaviour, reply=reply, prompt_tokens=prompt, identity=identity
            )
            call.state = await streams.run(stream, call, send, self._waiter(behaviour, receive))
        else:
            await self._plain(request, behaviour, reply, prompt, call, identity, receive, send)

    async def _plain(
        self,
        request: ChatRequest,
        behaviour: Behaviour,
        reply: Answer,
        prompt: int,
        call: Call,
        identity: bytes,
        receive: Receive,
        send: Send,
    ) -> None:
        """Send one whole completion, spoiled where the fault says so."""
        fault = behaviour.fault
        if fault in {"fault-slow", "fault-slow-first"} and await self._client_leaves(
            receive, SLOW_FIRST_SECONDS
        ):
            call.state = "disconnected"
            return
        if fault in {"fault-error-in-stream", "fault-error-late"}:
            call.state = "refused"
            await _refuse(send, "fault-500", request.model, identity)
            return
        body = _completion(request, behaviour, reply, prompt, identity)
        headers: Headers = [
            JSON_TYPE,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", b"req_" + identity),
        ]
        if fault == "fault-endless":
            await send({"type": "http.response.start", "status": 200, "headers": headers[::2]})
            call.state = await self._goes_on(reply, body, receive, send)
            return
        if fault == "fault-bad-json":
            body = body[:-20] + b"}" * 20
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if fault in {"fault-cut", "fault-cut-early"}:
            call.state = "cut"
            if fault == "fault-cut":
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})
        call.state = "finished"

    def _waiter(self, behaviour: Behaviour, receive: Receive) -> Waiter | None:
        """Make the waiter of a stream that pauses; others do not pay for it."""
        if behaviour.pause_seconds or behaviour.fault in {"fault-slow-first", "fault-split-utf8"}:
            return Waiter(receive, self._clock)
        return None

    async def _goes_on(self, reply: Answer, body: bytes, receive: Receive, send: Send) -> str:
        """Send the completion up to its text, and the text again and again until the client leaves."""
        text = orjson.dumps(reply.content)[1:-1]
        waiter = Waiter(receive, self._clock)
        try:
            part = body.partition(text)[0]
            while True:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                if not await waiter.pause(PAUSES["fault-endless"]):
                    return "disconnected"
                part = text
        finally:
            waiter.close()

    async def _client_leaves(self, receive: Receive, seconds: float | None) -> bool:
        """Wait; answer True when the client went away (or the sandbox stops) before the time was over."""
        waiter = Waiter(receive, self._clock)
        try:
            return not await waiter.pause(seconds)
        finally:
            waiter.close()


async def send_error(send: Send, error: ProviderError, identity: bytes) -> None:
    """Answer with OpenAI's error shape."""
    body = error.body()
    headers: Headers = [
        JSON_TYPE,
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"req_" + identity),
        *error.headers,
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, fault: str, model: str, identity: bytes) -> None:
    if fault != "fault-html":
        await send_error(send, faults.refusal(fault, model), identity)
        return
    headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(faults.HTML_BODY))]
    await send({"type": "http.response.start", "status": 502, "headers": headers})
    await send({"type": "http.response.body", "body": faults.HTML_BODY})


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise ProviderError(413, "request_too_large", "The request body is too large.")
    return body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _completion(
    request: ChatRequest, behaviour: Behaviour, reply: Answer, prompt: int, identity: bytes
) -> bytes:
    """Build the `chat.completion` object."""
    message: Json = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    body: Json = {
        "id": "chatcmpl-" + identity.decode(),
        "object": "chat.completion",
        "created": int(time()),
        "model": request.model,
        "service_tier": "default",
        "choices": [
            {"index": index, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
            for index in range(request.count)
        ],
    }
    if behaviour.fault != "fault-no-usage":
        body["usage"] = streams.usage_of(request, behaviour, reply, prompt)
    return orjson.dumps(body)
