"""The OpenAI chat format: requests, answers, streams, errors, usage. Serves every host that speaks it.

Source: the published chat completions reference and the behaviour of compatible hosts (usage in every chunk,
no [DONE], comments, chunks cut inside a character).
"""

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession

from billing.pricing import Usage
from orchestration.providers import base
from orchestration.providers.base import ErrorClass, ProviderError
from orchestration.providers.transport import time_limits
from orchestration.shapes import Answer, Call, Delta
from plyrum import clock

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
BY_CODE: dict[str, ErrorClass] = {
    "context_length_exceeded": base.CONTEXT_TOO_LONG,
    "content_policy_violation": base.CONTENT_BLOCKED,
    "content_filter": base.CONTENT_BLOCKED,
    "moderation_blocked": base.CONTENT_BLOCKED,
    "invalid_api_key": base.AUTH_INVALID,
    "account_deactivated": base.AUTH_INVALID,
    "unsupported_country_region_territory": base.REGION_BLOCKED,
    "model_not_found": base.MODEL_UNAVAILABLE,
    "rate_limit_exceeded": base.RATE_LIMITED,
    "slow_down": base.RATE_LIMITED,
    "credit_balance_exhausted": base.OUT_OF_FUNDS,
    "organization_spend_limit_exceeded": base.OUT_OF_FUNDS,
    "project_spend_limit_exceeded": base.OUT_OF_FUNDS,
    "organization_usage_limit_exceeded": base.OUT_OF_FUNDS,
    "insufficient_quota": base.OUT_OF_FUNDS,
    "billing_hard_limit_reached": base.OUT_OF_FUNDS,
    "server_is_overloaded": base.OVERLOADED,
    "service_unavailable_error": base.OVERLOADED,
}
BY_STATUS: dict[int, ErrorClass] = {
    400: base.REQUEST_INVALID,
    401: base.AUTH_INVALID,
    402: base.OUT_OF_FUNDS,
    403: base.AUTH_INVALID,
    404: base.MODEL_UNAVAILABLE,
    408: base.RETRY_SAME,
    409: base.RETRY_SAME,
    412: base.AUTH_INVALID,  # Fireworks: the account is suspended
    413: base.REQUEST_INVALID,
    422: base.REQUEST_INVALID,
    429: base.RATE_LIMITED,
    498: base.OVERLOADED,  # Groq: flex capacity is exceeded
    500: base.RETRY_SAME,
    502: base.RETRY_SAME,
    503: base.OVERLOADED,
    504: base.RETRY_SAME,
    529: base.OVERLOADED,
}
ERROR_BODY_BYTES = 4096
# A provider that does not keep to the asked bound must not fill the memory. Far above any honest answer.
SPARE_BYTES = 2**25  # thoughts, which some hosts do not count
EVENT_BYTES = 512  # a token in an event of its own
TOKEN_BYTES = 64
SPREAD_EVENT_BYTES = 2**16  # JSON over several data lines is read again with each of them
LONGEST_RETRY_AFTER_SECONDS = 3600  # no header may take a key away for longer
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class OpenAIChat:
    async def stream(self, session: ClientSession, call: Call, answer: Answer) -> AsyncIterator[list[Delta]]:
        try:
            response = await session.post(
                f"{call.base_url}/chat/completions",
                data=_body(call),
                headers={"Authorization": f"Bearer {call.key}", "Content-Type": "application/json"},
                timeout=time_limits(call.idle_seconds),
                allow_redirects=False,  # a key and a customer's words go to the checked address only
            )
        except TimeoutError as error:
            raise ProviderError(base.TIMEOUT_FIRST) from error
        except (ClientError, OSError) as error:
            raise ProviderError(base.RETRY_SAME) from error
        try:
            if response.status != 200:
                raise await _refusal(response)
            if call.stream:
                async for group in _read_stream(response, _room(call), answer):
                    yield group
            else:
                yield _whole(await _read(response, _room(call)), answer)
        except TimeoutError as error:
            raise ProviderError(base.TIMEOUT_IDLE) from error
        except (ClientError, OSError) as error:
            raise ProviderError(base.STREAM_BROKEN) from error
        finally:
            # An unfinished answer must close its socket: that is how upstream learns to stop.
            if response.content.at_eof():
                response.release()
            else:
                response.close()


def _body(call: Call) -> bytes:
    body: dict[str, Any] = {
        "model": call.upstream_id,
        "messages": call.messages,
        "max_completion_tokens": call.max_output_tokens,
    }
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.reasoning_effort is not None:
        body["reasoning_effort"] = call.reasoning_effort
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return orjson.dumps(body)


def _room(call: Call) -> int:
    """How many bytes an answer may have."""
    return SPARE_BYTES + call.max_output_tokens * (EVENT_BYTES if call.stream else TOKEN_BYTES)


async def _read(response: ClientResponse, room: int) -> bytes:
    blocks: list[bytes] = []
    while block := await response.content.readany():
        room -= len(block)
        if room < 0:
            raise ProviderError(base.ANSWER_TOO_LONG)
        blocks.append(block)
    return b"".join(blocks)


async def _read_stream(response: ClientResponse, room: int, answer: Answer) -> AsyncIterator[list[Delta]]:
    parts: list[bytes] = []  # of a line that has not ended
    held = b""
    mark = BYTE_ORDER_MARK  # may stand before the first line
    while block := await response.content.readany():
        room -= len(block)
        if room < 0:
            raise ProviderError(base.ANSWER_TOO_LONG)
        parts.append(block)
        if b"\n" not in block:
            continue
        ready, _, rest = b"".join(parts).rpartition(b"\n")
        parts = [rest]
        ready, mark = ready.removeprefix(mark), b""
        group: list[Delta] = []
        is_done = False
        try:
            held, is_done = _read_lines(ready, held, answer, group)
        finally:
            if group:
                yield group  # also what came before a fault: it was delivered and is shown
        if is_done:
            return
    if not answer.finish_reason:
        raise ProviderError(base.STREAM_BROKEN)  # the socket closed in the middle of the answer


def _read_lines(lines: bytes, held: bytes, answer: Answer, group: list[Delta]) -> tuple[bytes, bool]:
    """Read whole lines of events; JSON may be spread over several data lines of one event.

    `held` is the data of an event that began before. Answers the new one, and whether the stream is done.
    """
    for line in lines.split(b"\n"):
        if line.startswith(b"data:"):
            data = held + line[5:].strip()
            if data == b"[DONE]":
                answer.finish_reason = answer.finish_reason or "stop"
                return b"", True
            try:
                chunk = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                if held and len(data) > SPREAD_EVENT_BYTES:
                    raise ProviderError(base.STREAM_BROKEN) from error
                held = data
            else:
                held = b""
                _take(chunk, answer, group)
        elif held and not line.strip():
            raise ProviderError(base.STREAM_BROKEN)  # the event is over and is no JSON
    return held, False


def _take(chunk: Any, answer: Answer, group: list[Delta]) -> None:
    """Read one chunk into `answer` and `group`; a chunk of another shape is a broken answer."""
    try:
        _take_parts(chunk, answer, group)
    except (AttributeError, TypeError) as error:
        raise ProviderError(base.STREAM_BROKEN) from error


def _take_parts(chunk: dict[str, Any], answer: Answer, group: list[Delta]) -> None:
    error = chunk.get("error")
    if error:
        raise ProviderError(_by_code(error) or base.STREAM_BROKEN)
    usage = chunk.get("usage")
    if usage:
        answer.usage = canonical_usage(usage)  # repeated in every chunk by some hosts: the last one counts
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            answer.reasoning.append(_text(thought))
            group.append(("reasoning", thought))
        text = delta.get("content") or delta.get("refusal")
        if text:
            answer.text.append(_text(text))
            group.append(("text", text))
        if choice.get("finish_reason"):
            answer.finish_reason = FINISH_REASONS.get(choice["finish_reason"], "stop")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text is a string")
    return value


def _whole(body: bytes, answer: Answer) -> list[Delta]:
    chunk = _parsed(body)
    choices = chunk.get("choices") or ()
    group: list[Delta] = []
    try:
        chunk["choices"] = [{**choice, "delta": choice.get("message")} for choice in choices]
    except (AttributeError, TypeError) as error:
        raise ProviderError(base.STREAM_BROKEN) from error
    whole = Answer()
    _take(chunk, whole, group)
    if not whole.finish_reason:
        raise ProviderError(base.STREAM_BROKEN)
    # Only now: what is not handed out was not delivered.
    answer.text, answer.reasoning = whole.text, whole.reasoning
    answer.finish_reason, answer.usage = whole.finish_reason, whole.usage
    return group


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise ProviderError(base.STREAM_BROKEN) from error
    if not isinstance(value, dict):
        raise ProviderError(base.STREAM_BROKEN)
    return value


def canonical_usage(raw: dict[str, Any]) -> Usage | None:
    """A provider's usage object as ours; None when it names no tokens. Parts above their whole are cut.

    Source: provider guide 12.1: cached and cache-write tokens are parts of prompt_tokens here; DeepSeek names
    the cached part beside them.
    """
    prompt = _count(raw.get("prompt_tokens"))
    completion = _count(raw.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    inputs = _details(raw.get("prompt_tokens_details"))
    outputs = _details(raw.get("completion_tokens_details"))
    cached = min(_count(inputs.get("cached_tokens", raw.get("prompt_cache_hit_tokens"))) or 0, prompt)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_input_tokens=cached,
        cache_write_tokens=min(_count(inputs.get("cache_write_tokens")) or 0, prompt - cached),
        reasoning_tokens=min(_count(outputs.get("reasoning_tokens")) or 0, completion),
    )


def _details(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


async def _refusal(response: ClientResponse) -> ProviderError:
    """Class a refusal by the beginning of its body, however many packets that comes in."""
    body = b""
    while len(body) < ERROR_BODY_BYTES and not response.content.at_eof():
        body += await response.content.read(ERROR_BODY_BYTES - len(body))
    try:
        error = orjson.loads(body.removeprefix(BYTE_ORDER_MARK)).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        error = None
    kind = _by_code(error) or BY_STATUS.get(response.status, base.UNMAPPED)
    return ProviderError(kind, http_status=response.status, retry_after_seconds=_retry_after(response))


def _by_code(error: object) -> ErrorClass | None:
    """By the vendor's code, then its type: messages are words for people and decide nothing."""
    if not isinstance(error, dict):
        return None
    for name in ("code", "type"):
        kind = BY_CODE.get(str(error.get(name)))
        if kind is not None:
            return kind
    return None


def _retry_after(response: ClientResponse) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; None when it says nothing of use."""
    text = response.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - clock.now()).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS) if seconds > 0 else None
