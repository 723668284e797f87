"""The adapter of the OpenAI format against the sandbox, and against hosts of raw bytes: requests, answers."""

from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from billing.pricing import Usage
from orchestration.providers.openai_chat import canonical_usage
from tests.orchestration.asking import STREAM, ask, call_of, chunk, sent, text_of
from tests.orchestration.hosts import head, host
from tests.sandbox_process import SandboxProcess

# --- what is sent -----------------------------------------------------------------------------------------


async def test_streamed_request_has_exactly_the_fields_meant(
    session: ClientSession, sandbox: SandboxProcess
) -> None:
    call = call_of(f"{sandbox.url}/openai/v1")

    await ask(session, call)

    assert sent(sandbox, call)["body"] == {
        "model": "sandbox-small",
        "messages": list(call.messages),
        "max_completion_tokens": 400,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_whole_request_names_temperature_and_effort_when_asked(
    session: ClientSession, sandbox: SandboxProcess
) -> None:
    call = call_of(f"{sandbox.url}/openai/v1", stream=False, temperature=0.0, reasoning_effort="none")

    await ask(session, call)

    assert sent(sandbox, call)["body"] == {
        "model": "sandbox-small",
        "messages": list(call.messages),
        "max_completion_tokens": 400,
        "temperature": 0.0,
        "reasoning_effort": "none",
    }


async def test_headers_carry_the_key_and_nothing_of_the_customer(session: ClientSession) -> None:
    async with host(head(500)) as served:
        await ask(session, call_of(served.url, key="sk-one"))

    lines = served.requests[0].split(b"\r\n\r\n")[0].decode().split("\r\n")
    names = {line.partition(":")[0].lower() for line in lines[1:]}
    assert lines[0] == "POST /chat/completions HTTP/1.1"
    assert "Authorization: Bearer sk-one" in lines
    assert names <= {
        "host", "authorization", "content-type", "accept", "accept-encoding", "user-agent", "content-length",
    }  # fmt: skip


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_normal_answer(session: ClientSession, sandbox: SandboxProcess, stream: bool) -> None:
    answer, groups, error = await ask(session, call_of(f"{sandbox.url}/openai/v1", stream=stream))

    assert error is None
    assert "Сколько будет два и два?" in text_of(answer)
    assert text_of(answer) == "".join(text for group in groups for _, text in group)
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0 < answer.usage.output_tokens


@pytest.mark.parametrize("stream", [True, False])
async def test_reasoning_is_kept_apart_from_the_text(
    session: ClientSession, sandbox: SandboxProcess, stream: bool
) -> None:
    call = call_of(f"{sandbox.url}/openai/v1", "sandbox-reasoning", stream=stream)
    answer, groups, error = await ask(session, call)

    assert error is None
    assert "Читаю вопрос" in "".join(answer.reasoning)
    assert "Читаю вопрос" not in text_of(answer)
    assert groups[0][0][0] == "reasoning"
    assert answer.usage is not None
    assert 0 < answer.usage.reasoning_tokens < answer.usage.output_tokens


async def test_reasoning_may_leave_no_room_for_text(session: ClientSession, sandbox: SandboxProcess) -> None:
    call = call_of(f"{sandbox.url}/openai/v1", "sandbox-reasoning", max_output_tokens=10)
    answer, _, error = await ask(session, call)

    assert (error, answer.finish_reason, answer.text) == (None, "length", [])
    assert answer.has_output


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "finish"),
    [
        ("fault-content-filter", "content_filter"),
        ("fault-unknown-finish", "stop"),
        ("fault-empty", "stop"),
        ("fault-empty-choices", "stop"),
        ("fault-no-done", "stop"),
        ("fault-usage-in-finish", "stop"),
        ("fault-usage-everywhere", "stop"),
        ("fault-split-utf8", "stop"),
        ("fault-no-usage", "stop"),
        ("fault-zero-usage", "stop"),
        ("fault-wrong-usage", "stop"),
    ],
)
async def test_odd_hosts_end_as_they_should(
    session: ClientSession, sandbox: SandboxProcess, model: str, finish: str, stream: bool
) -> None:
    answer, _, error = await ask(session, call_of(f"{sandbox.url}/openai/v1", model, stream=stream))

    assert error is None
    assert answer.finish_reason == finish
    assert "\ufffd" not in text_of(answer)


async def test_usage_of_odd_hosts(session: ClientSession, sandbox: SandboxProcess) -> None:
    url = f"{sandbox.url}/openai/v1"
    usages = {
        model: (await ask(session, call_of(url, model)))[0].usage
        for model in ("fault-no-usage", "fault-zero-usage", "fault-wrong-usage", "sandbox-cached")
    }

    assert usages["fault-no-usage"] is None
    assert usages["fault-zero-usage"] == Usage()
    wrong, cached = usages["fault-wrong-usage"], usages["sandbox-cached"]
    assert wrong is not None
    assert wrong.cached_input_tokens == wrong.input_tokens > 0
    assert cached is not None
    assert cached.cached_input_tokens == cached.input_tokens // 2


async def test_last_of_many_usages_counts(session: ClientSession) -> None:
    """Orchestration guide 16, vector 10: 1, 2, ... 50 is 50, not 1 275."""
    packets = [chunk("ы", usage={"prompt_tokens": 3, "completion_tokens": number}) for number in range(1, 51)]
    async with host(STREAM, b"".join(packets) + chunk(finish="stop")) as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert error is None
    assert answer.usage == Usage(input_tokens=3, output_tokens=50)


async def test_refusal_is_text(session: ClientSession) -> None:
    refusal = {"choices": [{"delta": {"refusal": "Не могу помочь."}, "finish_reason": "stop"}]}
    async with host(STREAM, b"data: " + orjson.dumps(refusal) + b"\n\ndata: [DONE]\n\n") as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert (error, text_of(answer)) == (None, "Не могу помочь.")


async def test_parts_of_a_tool_call_are_no_text(session: ClientSession) -> None:
    parts = [
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "rate", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"day":1}'}}]},
    ]
    lines = [b"data: " + orjson.dumps({"choices": [{"delta": part}]}) + b"\n\n" for part in parts]
    async with host(STREAM, *lines, chunk(finish="tool_calls") + b"data: [DONE]\n\n") as served:
        answer, groups, error = await ask(session, call_of(served.url))

    assert (error, answer.finish_reason, answer.text, groups) == (None, "tool_calls", [], [])


# --- the wire ---------------------------------------------------------------------------------------------


async def test_letters_cut_between_packets_are_whole(session: ClientSession) -> None:
    body = chunk("Привет, мир") + chunk(finish="stop") + b"data: [DONE]\n\n"
    place = body.index("П".encode()) + 1
    async with host(STREAM, body[:place], body[place : place + 4], body[place + 4 :]) as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert (error, text_of(answer)) == (None, "Привет, мир")


async def test_stream_cut_inside_a_letter_is_broken_and_keeps_what_came(session: ClientSession) -> None:
    second = chunk("Привет")
    async with host(STREAM, chunk("Раз"), second[: second.index("П".encode()) + 1]) as served:
        answer, groups, error = await ask(session, call_of(served.url))

    assert error is not None
    assert error.kind.name == "stream_broken"
    assert (text_of(answer), groups) == ("Раз", [[("text", "Раз")]])


@pytest.mark.parametrize(
    "body",
    [
        b': keep-alive\r\n\r\ndata: {"choices":[{"delta":{"content":"A"}}]}\r\n\r\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n',
        b'data:{"choices":[{"delta":{"content":"A"},"finish_reason":"stop"}]}\n\ndata:[DONE]\n\n',
        b'event: message\nid: 1\nretry: 5\ndata: {"choices":[{"delta":{"content":"A"}}]}\n\n'
        b'unknown: field\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"A"}}]}\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"delta":\ndata: {"content":"A"},\ndata: "finish_reason":"stop"}]}\n\n',
        b'data:\n\ndata: {"choices":null}\n\n'
        b'data: {"choices":[{"delta":{"content":"A"}}]}\n\ndata: [DONE]\n\n',
        b'\xef\xbb\xbfdata: {"choices":[{"delta":{"content":"A"}}]}\n\ndata: [DONE]\n\n',
    ],
    ids=[
        "crlf-comments", "no-space", "other-fields", "two-in-one-event", "json-over-lines", "no-finish",
        "mark",
    ],
)  # fmt: skip
async def test_ways_to_write_events_are_understood(session: ClientSession, body: bytes) -> None:
    async with host(STREAM, body) as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert (error, text_of(answer), answer.finish_reason) == (None, "A", "stop")


async def test_every_byte_may_be_a_packet_of_its_own(session: ClientSession) -> None:
    body = b'\xef\xbb\xbfdata: {"choices":\r\n'
    body += b'data: [{"delta":{"content":"\xd1\x8f"},"finish_reason":"stop"}]}\r\n\r\n'
    async with host(STREAM, *[body[place : place + 1] for place in range(len(body))]) as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert (error, text_of(answer)) == (None, "я")


async def test_nothing_is_read_after_the_stream_is_done(session: ClientSession) -> None:
    body = chunk("A", "stop") + b"data: [DONE]\n\n" + chunk("B") + b"data: broken\n\n"
    async with host(STREAM, body) as served:
        answer, _, error = await ask(session, call_of(served.url))

    assert (error, text_of(answer)) == (None, "A")


@pytest.mark.parametrize(
    "line",
    [
        b"{broken",
        b'"text"',
        b"[]",
        b"null",
        b'{"choices":[1]}',
        b'{"choices":7}',
        b'{"choices":[{"delta":"text"}]}',
        b'{"choices":[{"delta":{"content":["part"]}}]}',
        b'{"choices":[{"delta":{"reasoning":1.5}}]}',
        b'{"choices":[{"delta":{},"finish_reason":{"a":1}}]}',
        b'{"choices":[],"usage":[1]}',
        b'{"error":"text"}',
        b'{"error":{"message":"words"}}',
    ],
)
async def test_chunk_of_another_shape_is_a_broken_stream(session: ClientSession, line: bytes) -> None:
    async with host(STREAM, chunk("A") + b"data: " + line + b"\n\n" + chunk("B", "stop")) as served:
        answer, groups, error = await ask(session, call_of(served.url))

    assert error is not None
    assert error.kind.name == "stream_broken"
    assert (text_of(answer), groups) == ("A", [[("text", "A")]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[1]}',
        b'{"choices":3}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":[{"message":{"content":{"a":1}},"finish_reason":"stop"}]}',
        b'{"error":{"code":"nonsense"}}',
    ],
)
async def test_whole_answer_of_another_shape_is_broken(session: ClientSession, body: bytes) -> None:
    async with host(head(), body) as served:
        _, _, error = await ask(session, call_of(served.url, stream=False))

    assert error is not None
    assert error.kind.name == "stream_broken"


async def test_byte_order_mark_is_passed_over(session: ClientSession) -> None:
    body = b'\xef\xbb\xbf{"choices":[{"message":{"content":"A"},"finish_reason":"stop"}]}'
    async with host(head(), body) as served:
        answer, _, error = await ask(session, call_of(served.url, stream=False))
    async with host(head(429), b'\xef\xbb\xbf{"error":{"code":"insufficient_quota"}}') as served:
        _, _, refused = await ask(session, call_of(served.url))

    assert (error, text_of(answer)) == (None, "A")
    assert refused is not None
    assert refused.kind.name == "out_of_funds"


# --- usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}, Usage(12, 9)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 999}, Usage(5, 1)),
        ({"prompt_tokens": 5}, None),
        ({"completion_tokens": 5}, None),
        ({}, None),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 5, "completion_tokens": -1}, None),
        ({"prompt_tokens": 5.0, "completion_tokens": 1}, None),
        ({"prompt_tokens": "5", "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
        ({"prompt_tokens": None, "completion_tokens": 1}, None),
    ],
)
def test_usage_needs_both_counts(raw: dict[str, Any], usage: Usage | None) -> None:
    assert canonical_usage(raw) == usage


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ({"cached_tokens": 64, "cache_write_tokens": 10}, {"reasoning_tokens": 25}, (64, 10, 25)),
        ({"cached_tokens": 120, "cache_write_tokens": 1}, {"reasoning_tokens": 40}, (120, 0, 40)),
        ({"cached_tokens": 121}, {"reasoning_tokens": 41}, (120, 0, 40)),
        ({"cached_tokens": 100, "cache_write_tokens": 50}, {}, (100, 20, 0)),
        ({"cached_tokens": -1, "cache_write_tokens": -1}, {"reasoning_tokens": -1}, (0, 0, 0)),
        ({"cached_tokens": 1.5}, {"reasoning_tokens": "7"}, (0, 0, 0)),
        (None, None, (0, 0, 0)),
        ([], "text", (0, 0, 0)),
    ],
)
def test_parts_are_never_above_their_whole(inputs: Any, outputs: Any, expected: tuple[int, int, int]) -> None:
    usage = canonical_usage(
        {
            "prompt_tokens": 120,
            "completion_tokens": 40,
            "prompt_tokens_details": inputs,
            "completion_tokens_details": outputs,
        }
    )

    assert usage is not None
    found = (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens)
    assert found == expected
    assert (usage.input_tokens, usage.output_tokens, usage.images) == (120, 40, 0)


def test_cached_part_may_stand_beside_the_whole() -> None:
    """DeepSeek's form; the standard one wins where both are told."""
    told: dict[str, Any] = {"prompt_tokens": 120, "completion_tokens": 40, "prompt_cache_hit_tokens": 100}
    both = {**told, "prompt_tokens_details": {"cached_tokens": 60}}

    assert [usage.cached_input_tokens for usage in map(canonical_usage, (told, both)) if usage] == [100, 60]
