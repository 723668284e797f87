"""Answers of the sandbox's provider: shapes, determinism, streams, usage, and every fault."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests import web
from tests.sandbox_process import SandboxProcess

Json = dict[str, Any]
DETAILS = {"prompt_tokens_details", "completion_tokens_details"}


def ask(model: str, text: str = "Сколько стоит чай?", **more: Any) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": text}]} | more


def whole(provider: httpx.Client, body: Json) -> Json:
    answer = provider.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def lines(answer: httpx.Response) -> Iterator[str]:
    return (line for line in answer.iter_lines() if line and not line.startswith(":"))


def streamed(provider: httpx.Client, body: Json) -> list[str]:
    """Answer the data of every event of a stream."""
    body = {"stream": True, "stream_options": {"include_usage": True}} | body
    with provider.stream("POST", "/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return [line.removeprefix("data: ") for line in lines(answer)]


def chunks(provider: httpx.Client, body: Json) -> list[Json]:
    data = streamed(provider, body)
    assert data[-1] == "[DONE]"
    return [json.loads(item) for item in data[:-1]]


def text_of(parsed: list[Json]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in parsed for choice in chunk["choices"])


def test_a_completion_has_the_published_shape(provider: httpx.Client) -> None:
    body = whole(provider, ask("sandbox-small"))

    assert set(body) == {"id", "object", "created", "model", "service_tier", "choices", "usage"}
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "sandbox-small"
    [choice] = body["choices"]
    assert set(choice) == {"index", "message", "finish_reason", "logprobs"}
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["refusal"] is None
    content = choice["message"]["content"]
    assert "«Сколько стоит чай?»" in content
    assert "```python" in content
    assert "\n- " in content


def test_usage_counts_quarters_of_bytes(provider: httpx.Client) -> None:
    body = whole(provider, ask("sandbox-small", "Чай"))
    usage = body["usage"]

    assert set(usage) == {"prompt_tokens", "completion_tokens", "total_tokens"} | DETAILS
    assert usage["prompt_tokens"] == math.ceil(len("Чай".encode()) / 4)
    content = body["choices"][0]["message"]["content"]
    assert usage["completion_tokens"] == math.ceil(len(content.encode()) / 4)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_the_same_question_gets_the_same_answer(provider: httpx.Client) -> None:
    first, second = whole(provider, ask("sandbox-large")), whole(provider, ask("sandbox-large"))

    assert first["choices"] == second["choices"]
    assert first["usage"] == second["usage"]
    assert first["id"] != second["id"]
    assert whole(provider, ask("sandbox-large", "Иначе?"))["choices"] != first["choices"]


def test_english_questions_get_english_answers(provider: httpx.Client) -> None:
    assert (
        "You asked" in whole(provider, ask("sandbox-small", "How much?"))["choices"][0]["message"]["content"]
    )


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 7, 50])
def test_the_bound_cuts_the_answer(provider: httpx.Client, name: str, limit: int) -> None:
    body = whole(provider, ask("sandbox-small") | {name: limit})

    assert body["choices"][0]["finish_reason"] == "length"
    assert 0 < body["usage"]["completion_tokens"] <= limit


def test_stop_sequences_end_the_answer(provider: httpx.Client) -> None:
    body = whole(provider, ask("sandbox-small", stop=["```", "**"]))

    assert body["choices"][0]["finish_reason"] == "stop"
    assert "**" not in body["choices"][0]["message"]["content"]


def test_several_choices_are_billed_together(provider: httpx.Client) -> None:
    one, three = whole(provider, ask("sandbox-small")), whole(provider, ask("sandbox-small", n=3))

    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]


def test_a_stream_tells_the_same_as_the_whole_answer(provider: httpx.Client) -> None:
    full = whole(provider, ask("sandbox-large"))

    parsed = chunks(provider, ask("sandbox-large"))

    first, *middle, finish, usage = parsed
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in middle)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in [first, *middle])
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == full["usage"]
    assert all(chunk["usage"] is None for chunk in [first, *middle, finish])
    assert {chunk["object"] for chunk in parsed} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in parsed}) == 1
    assert text_of(parsed) == full["choices"][0]["message"]["content"]


@pytest.mark.parametrize("options", [None, {"include_usage": False}])
def test_usage_is_not_sent_unasked(provider: httpx.Client, options: Json | None) -> None:
    parsed = chunks(provider, ask("sandbox-small", stream_options=options))

    assert parsed[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in parsed)


def test_reasoning_is_shown_and_counted(provider: httpx.Client) -> None:
    full = whole(provider, ask("sandbox-reasoning"))
    parsed = chunks(provider, ask("sandbox-reasoning"))

    thought = "".join(
        choice["delta"].get("reasoning_content", "") for chunk in parsed for choice in chunk["choices"]
    )
    usage = parsed[-1]["usage"]
    assert thought == full["choices"][0]["message"]["reasoning_content"] != ""
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert reasoning == math.ceil(len(thought.encode()) / 4)
    assert usage["completion_tokens"] > reasoning
    assert usage == full["usage"]


def test_reasoning_may_eat_the_whole_bound(provider: httpx.Client) -> None:
    body = whole(provider, ask("sandbox-reasoning", max_completion_tokens=10))

    assert body["choices"][0]["message"]["content"] == ""
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 10


def test_the_caching_model_reports_half_as_cached(provider: httpx.Client) -> None:
    usage = whole(provider, ask("sandbox-cached", "слово " * 100))["usage"]

    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] // 2 > 0


TOOL = {
    "type": "function",
    "function": {
        "name": "get_rate",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "integer"}, "currency": {"enum": ["USD", "CNY"]}},
        },
    },
}


def test_a_demanded_tool_is_called_in_both_shapes(provider: httpx.Client) -> None:
    body = ask("sandbox-small", tools=[TOOL], tool_choice="required")
    full = whole(provider, body)["choices"][0]
    parsed = chunks(provider, body)

    [call] = full["message"]["tool_calls"]
    pieces = [
        choice["delta"]["tool_calls"][0]
        for chunk in parsed
        for choice in chunk["choices"]
        if "tool_calls" in choice["delta"]
    ]
    assert full["finish_reason"] == "tool_calls"
    assert full["message"]["content"] is None
    assert json.loads(call["function"]["arguments"]) == {"day": 1, "currency": "USD"}
    assert pieces[0]["id"] == call["id"]
    assert pieces[0]["function"] == {"name": "get_rate", "arguments": ""}
    assert "".join(piece["function"]["arguments"] for piece in pieces) == call["function"]["arguments"]
    assert parsed[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_auto_calls_a_tool_only_when_it_is_named(provider: httpx.Client) -> None:
    silent = whole(provider, ask("sandbox-small", tools=[TOOL]))
    named = whole(provider, ask("sandbox-small", "Вызови get_rate", tools=[TOOL]))

    assert silent["choices"][0]["finish_reason"] == "stop"
    assert named["choices"][0]["finish_reason"] == "tool_calls"


def test_json_formats_give_json(provider: httpx.Client) -> None:
    schema = {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {
                "ok": {"type": "boolean"},
                "marks": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            },
        },
    }

    loose = whole(provider, ask("sandbox-small", response_format={"type": "json_object"}))
    strict = whole(
        provider, ask("sandbox-small", response_format={"type": "json_schema", "json_schema": schema})
    )

    assert "answer" in json.loads(loose["choices"][0]["message"]["content"])
    assert json.loads(strict["choices"][0]["message"]["content"]) == {"ok": True, "marks": [1]}


@pytest.mark.parametrize("count", [1, 20, 300])
def test_bench_sends_exactly_the_named_chunks(provider: httpx.Client, count: int) -> None:
    parsed = chunks(provider, ask(f"bench-{count}"))

    assert len(parsed) == count + 3
    assert whole(provider, ask(f"bench-{count}"))["choices"][0]["message"]["content"] == text_of(parsed)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("fault-400", 400, "invalid_value"),
        ("fault-401", 401, "invalid_api_key"),
        ("fault-402", 402, "insufficient_balance"),
        ("fault-403-region", 403, "unsupported_country_region_territory"),
        ("fault-404", 404, "model_not_found"),
        ("fault-429", 429, "rate_limit_exceeded"),
        ("fault-429-date", 429, "rate_limit_exceeded"),
        ("fault-429-quota", 429, "insufficient_quota"),
        ("fault-500", 500, "server_error"),
        ("fault-503", 503, "server_is_overloaded"),
        ("fault-context", 400, "context_length_exceeded"),
        ("fault-huge-error", 500, "server_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_plain_fault_is_a_published_error(
    provider: httpx.Client, fault: str, status: int, code: str, stream: bool
) -> None:
    answer = provider.post("/chat/completions", json=ask(fault, stream=stream))

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert ("retry-after" in answer.headers) == (fault in {"fault-429", "fault-429-date"})
    if fault == "fault-429":
        assert answer.headers["retry-after"] == "2"


def test_the_proxy_page_is_html(provider: httpx.Client) -> None:
    answer = provider.post("/chat/completions", json=ask("fault-html"))

    assert answer.status_code == 502
    assert answer.headers["Content-Type"] == "text/html"


@pytest.mark.parametrize(("fault", "some"), [("fault-cut", True), ("fault-cut-early", False)])
def test_a_cut_stream_breaks_the_connection(provider: httpx.Client, fault: str, some: bool) -> None:
    got: list[str] = []

    with (
        provider.stream("POST", "/chat/completions", json=ask(fault, stream=True)) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        got.extend(lines(answer))

    assert bool(got) is some
    assert "data: [DONE]" not in got


@pytest.mark.parametrize("fault", ["fault-cut", "fault-cut-early"])
def test_a_cut_answer_breaks_the_connection(provider: httpx.Client, fault: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        provider.post("/chat/completions", json=ask(fault))


@pytest.mark.parametrize(("fault", "before"), [("fault-error-in-stream", 0), ("fault-error-late", 6)])
def test_an_error_inside_a_stream_ends_it_without_done(
    provider: httpx.Client, fault: str, before: int
) -> None:
    *good, last = streamed(provider, ask(fault))

    assert len(good) == before
    assert json.loads(last)["error"]["code"] == "server_error"
    assert provider.post("/chat/completions", json=ask(fault)).status_code == 500


def test_bad_json_is_really_bad(provider: httpx.Client) -> None:
    data = streamed(provider, ask("fault-bad-json"))
    answer = provider.post("/chat/completions", json=ask("fault-bad-json"))

    with pytest.raises(json.JSONDecodeError):
        json.loads(data[-2])
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_content_filter_and_unknown_finish(provider: httpx.Client) -> None:
    filtered = chunks(provider, ask("fault-content-filter"))
    novelty = whole(provider, ask("fault-unknown-finish"))

    assert filtered[-2]["choices"][0]["finish_reason"] == "content_filter"
    assert text_of(filtered)
    assert novelty["choices"][0]["finish_reason"] == "sandbox_novelty"


def test_usage_can_be_missing_or_everywhere_or_wrong(provider: httpx.Client) -> None:
    without = chunks(provider, ask("fault-no-usage"))
    everywhere = chunks(provider, ask("fault-usage-everywhere"))
    in_finish = chunks(provider, ask("fault-usage-in-finish"))
    zero = chunks(provider, ask("fault-zero-usage"))
    wrong = whole(provider, ask("fault-wrong-usage"))["usage"]

    assert not any(chunk.get("usage") for chunk in without)
    assert "usage" not in whole(provider, ask("fault-no-usage"))
    spent = [chunk["usage"]["completion_tokens"] for chunk in everywhere]
    assert spent == sorted(spent)
    assert spent[0] == 0 < spent[-1]
    assert in_finish[-1]["usage"]["completion_tokens"] > 0
    assert in_finish[-1]["choices"][0]["finish_reason"] == "stop"
    assert zero[-1]["usage"]["total_tokens"] == 0
    assert text_of(zero)
    assert wrong["prompt_tokens_details"]["cached_tokens"] > wrong["prompt_tokens"]


def test_an_empty_answer_is_empty(provider: httpx.Client) -> None:
    parsed = chunks(provider, ask("fault-empty"))

    assert text_of(parsed) == ""
    assert parsed[-1]["usage"]["completion_tokens"] == 0
    assert whole(provider, ask("fault-empty"))["choices"][0]["message"]["content"] == ""


def test_a_stream_may_begin_with_empty_choices_and_lack_its_done(provider: httpx.Client) -> None:
    azure = chunks(provider, ask("fault-empty-choices"))
    endless = streamed(provider, ask("fault-no-done"))

    assert azure[0]["choices"] == []
    assert "usage" not in azure[0]
    assert endless[-1] != "[DONE]"
    assert json.loads(endless[-1])["usage"]


def test_split_writes_still_carry_the_same_text(provider: httpx.Client) -> None:
    body = ask("fault-split-utf8", stream=True, stream_options={"include_usage": True})
    with provider.stream("POST", "/chat/completions", json=body) as answer:
        parts = list(answer.iter_raw())
    raw = b"".join(parts)
    parsed = [json.loads(line[6:]) for line in raw.decode().split("\r\n") if line.startswith("data: {")]

    assert b": sandbox\r\n" in raw
    assert b"\n\n" not in raw.replace(b"\r\n", b"")
    assert any(is_torn(part) for part in parts)
    assert text_of(parsed) == whole(provider, ask("fault-split-utf8"))["choices"][0]["message"]["content"]


def is_torn(part: bytes) -> bool:
    """Tell whether a write begins or ends inside a letter."""
    try:
        part.decode()
    except UnicodeDecodeError:
        return True
    return False


def test_slow_models_are_slow(provider: httpx.Client, sandbox: SandboxProcess) -> None:
    mark = uuid4().hex
    began = time.monotonic()
    body = ask("fault-slow", mark, stream=True)
    with provider.stream("POST", "/chat/completions", json=body) as answer:
        for place, _ in enumerate(lines(answer)):
            if place == 3:
                break
    took = time.monotonic() - began

    assert took > 0.7
    call = wait_for_end(sandbox, mark)
    assert call["disconnected"] is True
    assert 1 <= call["sent_chunks"] < 40


def test_the_first_token_can_be_late(provider: httpx.Client) -> None:
    began = time.monotonic()
    with provider.stream("POST", "/chat/completions", json=ask("fault-slow-first", stream=True)) as answer:
        next(lines(answer))
    assert time.monotonic() - began > 2.8


def test_a_hanging_model_notices_that_the_client_left(
    provider: httpx.Client, sandbox: SandboxProcess
) -> None:
    mark = uuid4().hex
    with pytest.raises(httpx.ReadTimeout):
        provider.post("/chat/completions", json=ask("fault-hang", mark), timeout=httpx.Timeout(20, read=0.3))

    assert wait_for_end(sandbox, mark)["disconnected"] is True


def wait_for_end(sandbox: SandboxProcess, mark: str) -> Json:
    for _ in range(1000):
        for call in sandbox.control(f"provider/calls?contains={mark}")["calls"]:  # none until it is read
            if call["state"] != "running":
                found: Json = call
                return found
        time.sleep(0.02)
    raise AssertionError("the call is still running")


def test_calls_are_recorded_with_a_fingerprint_of_the_key(
    provider: httpx.Client, sandbox: SandboxProcess
) -> None:
    mark = f"Пометка {uuid4().hex}"
    whole(provider, ask("sandbox-small", mark))
    ascii_body = json.dumps(ask("sandbox-cached", mark)).encode()
    provider.post("/chat/completions", content=ascii_body)

    found = sandbox.control(f"provider/calls?contains={mark}")
    of_model = sandbox.control(f"provider/calls?contains={mark}&model=sandbox-cached")

    assert found["count"] == 2
    assert of_model["count"] == 1
    call = found["calls"][1]
    assert call["state"] == "finished"
    assert call["body"]["messages"][0]["content"] == mark
    assert "sk-sandbox" not in json.dumps(found)


def test_a_script_spoils_only_the_calls_it_names(provider: httpx.Client, sandbox: SandboxProcess) -> None:
    mark = uuid4().hex
    script = {"fault": "fault-500", "match": {"contains": mark, "key": "sk-sandbox-1"}, "times": 2}
    sandbox.control("provider", script)
    other = {"Authorization": "Bearer sk-sandbox-2"}

    spared = provider.post("/chat/completions", json=ask("sandbox-small", "другое"))
    other_key = provider.post("/chat/completions", json=ask("sandbox-small", mark), headers=other)
    statuses = [
        provider.post("/chat/completions", json=ask("sandbox-small", mark)).status_code for _ in range(3)
    ]

    assert spared.status_code == other_key.status_code == 200
    assert statuses == [500, 500, 200]


def test_an_unknown_fault_cannot_be_scripted(sandbox: SandboxProcess) -> None:
    answer = web.post(f"{sandbox.url}/control/provider", json={"fault": "fault-dream"})

    assert answer.status_code == 400
