"""The OpenAI chat format: requests, answers, streams, errors, usage. Serves every host that speaks it.

Source: the published chat completions reference and the behaviour of compatible hosts (usage in every chunk,
no [DONE], comments, chunks cut inside a character).
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession

from billing.pricing import Usage
from orchestration.providers import base
from orchestration.providers.base import ErrorClass, ProviderError
from orchestration.providers.transport import time_limits
from orchestration.shapes import Answer, Call, Delta

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
    413: base.REQUEST_INVALID,
    422: base.REQUEST_INVALID,
    429: base.RATE_LIMITED,
    500: base.RETRY_SAME,
    502: base.RETRY_SAME,
    503: base.OVERLOADED,
    504: base.RETRY_SAME,
    529: base.OVERLOADED,
}
ERROR_BODY_BYTES = 4096


class OpenAIChat:
    async def stream(self, session: ClientSession, call: Call, answer: Answer) -> AsyncIterator[list[Delta]]:
        try:
            response = await session.post(
                f"{call.base_url}/chat/completions",
                data=_body(call),
                headers={"Authorization": f"Bearer {call.key}", "Content-Type": "application/json"},
                timeout=time_limits(call.idle_seconds),
            )
        except TimeoutError as error:
            raise ProviderError(base.TIMEOUT_FIRST) from error
        except (ClientError, OSError) as error:
            raise ProviderError(base.RETRY_SAME) from error
        try:
            if response.status != 200:
                raise await _refusal(response)
            if call.stream:
                async for group in _read_stream(response, answer):
                    yield group
            else:
                yield _whole(await response.read(), answer)
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


async def _read_stream(response: ClientResponse, answer: Answer) -> AsyncIterator[list[Delta]]:
    rest = b""
    async for block in response.content.iter_any():
        rest += block
        if b"\n" not in block:
            continue
        ready, _, rest = rest.rpartition(b"\n")
        group: list[Delta] = []
        for line in ready.split(b"\n"):
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    if group:
                        yield group
                    return
                if data:
                    try:
                        _take(_parsed(data), answer, group)
                    except ProviderError:
                        if group:
                            yield group  # what came before the fault was delivered and is shown
                        raise
        if group:
            yield group
    if not answer.finish_reason:
        raise ProviderError(base.STREAM_BROKEN)  # the socket closed in the middle of the answer


def _take(chunk: dict[str, Any], answer: Answer, group: list[Delta]) -> None:
    """Read one chunk into `answer` and `group`."""
    error = chunk.get("error")
    if error:
        raise ProviderError(_by_code(error) or base.STREAM_BROKEN)
    usage = chunk.get("usage")
    if usage:
        answer.usage = canonical_usage(usage)  # repeated in every chunk by some hosts: the last one counts
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        text = delta.get("content") or delta.get("refusal")
        if text:
            answer.text.append(text)
            group.append(("text", text))
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            answer.reasoning.append(thought)
            group.append(("reasoning", thought))
        if choice.get("finish_reason"):
            answer.finish_reason = FINISH_REASONS.get(choice["finish_reason"], "stop")


def _whole(body: bytes, answer: Answer) -> list[Delta]:
    chunk = _parsed(body)
    group: list[Delta] = []
    for choice in chunk.get("choices") or ():
        choice["delta"] = choice.get("message")
    _take(chunk, answer, group)
    if not answer.finish_reason:
        raise ProviderError(base.STREAM_BROKEN)
    return group


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ProviderError(base.STREAM_BROKEN) from error
    if not isinstance(value, dict):
        raise ProviderError(base.STREAM_BROKEN)
    return value


def canonical_usage(raw: dict[str, Any]) -> Usage | None:
    """A provider's usage object as ours; None when it names no tokens. Parts above their whole are cut.

    Source: provider guide 12.1: cached and cache-write tokens are parts of prompt_tokens here.
    """
    prompt = _count(raw.get("prompt_tokens"))
    completion = _count(raw.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    inputs = raw.get("prompt_tokens_details") or {}
    outputs = raw.get("completion_tokens_details") or {}
    cached = min(_count(inputs.get("cached_tokens")) or 0, prompt)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_input_tokens=cached,
        cache_write_tokens=min(_count(inputs.get("cache_write_tokens")) or 0, prompt - cached),
        reasoning_tokens=min(_count(outputs.get("reasoning_tokens")) or 0, completion),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


async def _refusal(response: ClientResponse) -> ProviderError:
    body = await response.content.read(ERROR_BODY_BYTES)
    try:
        error = orjson.loads(body).get("error")
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
    try:
        return float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
