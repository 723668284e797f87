"""How the OpenAI format fails: classes, packets of refusals, waiting times, silence, readers who leave."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from orchestration.providers import openai_chat
from orchestration.providers.openai_chat import OpenAIChat
from orchestration.shapes import Answer
from plyrum import clock
from tests.orchestration.asking import STREAM, ask, call_of, calls_of, chunk, sent
from tests.orchestration.hosts import head, host
from tests.sandbox_process import SandboxProcess
from tests.server_process import ReservedPort


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("fault-400", "request_invalid", 400),
        ("fault-401", "auth_invalid", 401),
        ("fault-402", "out_of_funds", 402),
        ("fault-403-region", "region_blocked", 403),
        ("fault-404", "model_unavailable", 404),
        ("fault-429", "rate_limited", 429),
        ("fault-429-date", "rate_limited", 429),
        ("fault-429-quota", "out_of_funds", 429),
        ("fault-500", "retry_same", 500),
        ("fault-503", "overloaded", 503),
        ("fault-context", "context_too_long", 400),
        ("fault-html", "retry_same", 502),
        ("fault-huge-error", "retry_same", 500),
        ("fault-bad-json", "stream_broken", None),
        ("fault-cut", "stream_broken", None),
        ("fault-cut-early", "stream_broken", None),
    ],
)
async def test_fault_of_the_sandbox_has_its_class(
    session: ClientSession, sandbox: SandboxProcess, model: str, kind: str, status: int | None, stream: bool
) -> None:
    _, _, error = await ask(session, call_of(f"{sandbox.url}/openai/v1", model, stream=stream))

    assert error is not None
    assert (error.kind.name, error.http_status) == (kind, status)


@pytest.mark.parametrize(
    ("model", "delivered"), [("fault-error-in-stream", False), ("fault-error-late", True)]
)
async def test_error_inside_a_good_status(
    session: ClientSession, sandbox: SandboxProcess, model: str, delivered: bool
) -> None:
    answer, _, error = await ask(session, call_of(f"{sandbox.url}/openai/v1", model))

    assert error is not None
    assert error.kind.name == "stream_broken"
    assert answer.has_output is delivered


async def test_scripted_fault_spoils_an_ordinary_model_once(
    session: ClientSession, sandbox: SandboxProcess
) -> None:
    call = call_of(f"{sandbox.url}/openai/v1")
    script = {"fault": "fault-429-quota", "match": {"contains": call.messages[0]["content"]}, "times": 1}
    sandbox.control("provider", script)

    _, _, first = await ask(session, call)
    _, _, second = await ask(session, call)

    assert first is not None
    assert (first.kind.name, second) == ("out_of_funds", None)


# Source: provider guide 2.5 and 11 (OpenAI), 8 (hosts of the same format).
ROWS = [
    (400, {"type": "invalid_request_error", "code": None}, "request_invalid"),
    (400, {"type": "invalid_request_error", "code": "context_length_exceeded"}, "context_too_long"),
    (400, {"type": "invalid_request_error", "code": "content_policy_violation"}, "content_blocked"),
    (400, {"type": "image_generation_user_error", "code": "moderation_blocked"}, "content_blocked"),
    (400, {"message": "Your credit is fine, the prompt is not."}, "request_invalid"),
    (401, {"code": "invalid_api_key"}, "auth_invalid"),
    (401, {"message": "The organization is not found."}, "auth_invalid"),
    (403, {"code": "unsupported_country_region_territory"}, "region_blocked"),
    (403, {"message": "The project may not use this model."}, "auth_invalid"),
    (403, {"code": "account_deactivated"}, "auth_invalid"),
    (404, {"code": "model_not_found"}, "model_unavailable"),
    (408, {}, "retry_same"),
    (409, {}, "retry_same"),
    (413, {}, "request_invalid"),
    (422, {}, "request_invalid"),
    (429, {"type": "requests", "code": "rate_limit_exceeded"}, "rate_limited"),
    (429, {"code": "slow_down"}, "rate_limited"),
    (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, "out_of_funds"),
    (429, {"type": "insufficient_quota", "code": "organization_spend_limit_exceeded"}, "out_of_funds"),
    (429, {"type": "insufficient_quota", "code": "project_spend_limit_exceeded"}, "out_of_funds"),
    (429, {"type": "insufficient_quota", "code": "organization_usage_limit_exceeded"}, "out_of_funds"),
    (429, {"type": "insufficient_quota", "code": None}, "out_of_funds"),
    (429, {"code": "insufficient_quota"}, "out_of_funds"),
    (429, {"code": "billing_hard_limit_reached"}, "out_of_funds"),
    (402, {"message": "Payment Required"}, "out_of_funds"),
    (412, {}, "auth_invalid"),
    (498, {}, "overloaded"),
    (500, {"code": "server_error"}, "retry_same"),
    (502, {}, "retry_same"),
    (503, {"code": "server_is_overloaded"}, "overloaded"),
    (503, {"type": "service_unavailable_error"}, "overloaded"),
    (504, {}, "retry_same"),
    (529, {}, "overloaded"),
    (418, {}, "unmapped"),
    (204, {}, "unmapped"),
]


@pytest.mark.parametrize(("status", "error", "kind"), ROWS)
async def test_refusal_is_classed_by_code_then_type_then_status(
    session: ClientSession, status: int, error: dict[str, Any], kind: str
) -> None:
    async with host(head(status, "Content-Type: application/json"), orjson.dumps({"error": error})) as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert (refused.kind.name, refused.http_status) == (kind, status)


@pytest.mark.parametrize(
    "choices",
    [
        [{"message": {"content": "Половина"}, "finish_reason": None}],
        [{"message": {"content": "Половина"}, "finish_reason": "stop"}, {"message": {"content": 5}}],
    ],
    ids=["no finish", "no text"],
)
async def test_answer_in_one_that_cannot_be_read_to_its_end_has_delivered_nothing(
    session: ClientSession, choices: list[dict[str, Any]]
) -> None:
    async with host(head(200), orjson.dumps({"choices": choices})) as served:
        answer, groups, error = await ask(session, call_of(served.url, stream=False))

    assert error is not None
    assert error.kind.name == "stream_broken"
    assert (groups, answer.has_output) == ([], False)


async def test_event_that_never_becomes_json_is_given_up(session: ClientSession) -> None:
    lines = b"data: x\n" * (openai_chat.SPREAD_EVENT_BYTES + 1)
    async with host(STREAM, lines, keeps_open=True) as served:
        _, _, error = await ask(session, call_of(served.url))

    assert error is not None
    assert error.kind.name == "stream_broken"


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"error":"words"}', b'{"error":[]}', b"\xff\xfe", b""])
async def test_refusal_without_a_shape_is_classed_by_its_status(session: ClientSession, body: bytes) -> None:
    async with host(head(429), body) as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert refused.kind.name == "rate_limited"


async def test_refusal_in_several_packets_is_read_whole(session: ClientSession) -> None:
    async with host(head(429), b'{"error":{"code":', b'"insufficient', b'_quota"}}') as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert refused.kind.name == "out_of_funds"


async def test_endless_refusal_is_read_to_four_kilobytes(session: ClientSession) -> None:
    async with host(head(500), b"x" * openai_chat.ERROR_BODY_BYTES, keeps_open=True) as served:
        async with asyncio.timeout(20):
            _, _, refused = await ask(session, call_of(served.url))
            await served.left.wait()

    assert refused is not None
    assert refused.kind.name == "retry_same"


async def test_redirect_is_not_followed(session: ClientSession) -> None:
    async with host(head(500)) as inside, host(head(307, f"Location: {inside.url}/chat")) as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert (refused.kind.name, refused.http_status) == ("unmapped", 307)
    assert inside.requests == []


def in_future(**ahead: int) -> Callable[[], str]:
    """A date counted from the moment it is asked for, which is not the one the test was collected in."""
    return lambda: format_datetime(clock.now() + timedelta(**ahead), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("2", 2, 2),
        ("0.5", 0.5, 0.5),
        ("100000", 3600, 3600),
        ("inf", 3600, 3600),
        (in_future(hours=30), 3600, 3600),
        (in_future(minutes=30), 900, 1800),
    ],
    ids=["seconds", "parts", "too many", "endless", "date too far", "date"],
)
async def test_retry_after_is_read_as_seconds_or_date(
    session: ClientSession, header: str | Callable[[], str], least: float, most: float
) -> None:
    value = header if isinstance(header, str) else header()
    async with host(head(429, f"Retry-After: {value}")) as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert refused.retry_after_seconds is not None
    assert least <= refused.retry_after_seconds <= most


@pytest.mark.parametrize(
    "header",
    ["", "0", "-5", "nan", "soon", "1s", in_future(hours=-1), "Wed, 21 Oct 2099 07:28:00 -0000"],
    ids=["empty", "zero", "negative", "nan", "word", "unit", "past", "no zone"],
)
async def test_retry_after_that_says_nothing_is_passed_over(
    session: ClientSession, header: str | Callable[[], str]
) -> None:
    value = header if isinstance(header, str) else header()
    async with host(head(429, f"Retry-After: {value}")) as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert refused is not None
    assert (refused.kind.name, refused.retry_after_seconds) == ("rate_limited", None)


async def test_no_connection_is_a_failure_that_may_be_tried_again(session: ClientSession) -> None:
    port = ReservedPort()  # nobody listens on it

    try:
        _, _, error = await ask(session, call_of(f"http://127.0.0.1:{port.number}"))
    finally:
        port.release()

    assert error is not None
    assert error.kind.name == "retry_same"


async def test_socket_closed_before_the_status_may_be_tried_again(session: ClientSession) -> None:
    async with host() as served:
        _, _, error = await ask(session, call_of(served.url))

    assert error is not None
    assert error.kind.name == "retry_same"


async def test_silence_before_the_status_is_a_time_out(session: ClientSession) -> None:
    async with host(keeps_open=True) as served:
        _, _, error = await ask(session, call_of(served.url, idle_seconds=1))

    assert error is not None
    assert error.kind.name == "timeout_first"


@pytest.mark.parametrize("stream", [True, False])
async def test_silence_within_an_answer_is_a_time_out(session: ClientSession, stream: bool) -> None:
    async with host(STREAM + chunk("A"), keeps_open=True) as served:
        answer, _, error = await ask(session, call_of(served.url, idle_seconds=1, stream=stream))
        async with asyncio.timeout(20):
            await served.left.wait()

    assert error is not None
    assert error.kind.name == "timeout_idle"
    assert answer.has_output is stream


async def test_reader_that_leaves_closes_the_socket(session: ClientSession) -> None:
    async with host(STREAM, chunk("A"), keeps_open=True) as served:
        groups = OpenAIChat().stream(session, call_of(served.url), Answer())
        assert isinstance(groups, AsyncGenerator)
        assert await anext(groups) == [("text", "A")]
        await groups.aclose()
        async with asyncio.timeout(20):
            await served.left.wait()


async def test_cancelled_call_is_seen_by_the_sandbox(session: ClientSession, sandbox: SandboxProcess) -> None:
    call = call_of(f"{sandbox.url}/openai/v1", "fault-slow")
    task = asyncio.create_task(ask(session, call))
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(calls_of, sandbox, call):
            await asyncio.sleep(0.05)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(20):
        while not (await asyncio.to_thread(sent, sandbox, call))["disconnected"]:
            await asyncio.sleep(0.05)
