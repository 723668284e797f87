"""What the sandbox's provider refuses, in OpenAI's words."""

from typing import Any

import httpx
import pytest

from tests import web
from tests.sandbox_process import SandboxProcess

Json = dict[str, Any]
ASK: Json = {"model": "sandbox-small", "messages": [{"role": "user", "content": "Привет"}]}


def assert_refused(answer: httpx.Response, status: int, code: str | None, param: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"] == code
    assert error["param"] == param
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("authorization", [None, "Bearer sk-wrong", "sk-sandbox-1", "Basic sk-sandbox-1"])
def test_a_wrong_key_is_refused(sandbox: SandboxProcess, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = web.post(f"{sandbox.url}/openai/v1/chat/completions", json=ASK, headers=headers)
    models = web.get(f"{sandbox.url}/openai/v1/models", headers=headers)

    assert_refused(answer, 401, "invalid_api_key")
    assert models.status_code == 401


def test_both_keys_are_good(sandbox: SandboxProcess) -> None:
    for key in ("sk-sandbox-1", "sk-sandbox-2"):
        headers = {"Authorization": f"Bearer {key}"}
        answer = web.post(f"{sandbox.url}/openai/v1/chat/completions", json=ASK, headers=headers)
        assert answer.status_code == 200


def test_models_are_listed(provider: httpx.Client) -> None:
    body = provider.get("/models").json()

    assert body["object"] == "list"
    assert {"sandbox-small", "sandbox-large", "sandbox-reasoning"} <= {one["id"] for one in body["data"]}
    assert all(set(one) == {"id", "object", "created", "owned_by"} for one in body["data"])


@pytest.mark.parametrize("model", ["gpt-x", "fault-unheard", "bench-0", "bench-x", "SANDBOX-SMALL"])
def test_an_unknown_model_is_not_found(provider: httpx.Client, model: str) -> None:
    answer = provider.post("/chat/completions", json=ASK | {"model": model})

    assert_refused(answer, 404, "model_not_found", "model")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"text"])
def test_a_body_that_is_no_object_is_refused(provider: httpx.Client, raw: bytes) -> None:
    assert_refused(provider.post("/chat/completions", content=raw), 400, None)


def message(**fields: Any) -> Json:
    return {"messages": [{"role": "user", "content": "Привет"} | fields]}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "Привет"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["Привет"]}, "messages[0]", "invalid_type"),
        (message(role="robot"), "messages[0].role", "invalid_value"),
        (message(content=None), "messages[0].content", "invalid_type"),
        (message(content=5), "messages[0].content", "invalid_type"),
        (message(content=[{"type": "smell"}]), "messages[0].content[0].type", "invalid_value"),
        (message(content=[{"type": "text"}]), "messages[0].content[0].text", "invalid_type"),
        (
            message(content=[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
            "messages[0].content[0].image_url.url",
            "invalid_value",
        ),
        (message(colour="red"), "messages[0].colour", "unknown_parameter"),
        (message(role="tool"), "messages[0].tool_call_id", None),
        ({"temperature": 2.1}, "temperature", "decimal_out_of_range"),
        ({"temperature": -0.1}, "temperature", "decimal_out_of_range"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": 1.1}, "top_p", "decimal_out_of_range"),
        ({"presence_penalty": 3}, "presence_penalty", "decimal_out_of_range"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", None),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stream": True, "stream_options": {"colour": True}}, "stream_options.colour", "unknown_parameter"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_type"),
        ({"tool_choice": "auto"}, "tool_choice", None),
        (
            {"tools": [{"type": "function", "function": {"name": "с пробелом"}}]},
            "tools[0].function.name",
            "invalid_value",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.name", None),
        ({"reasoning_effort": "heroic"}, "reasoning_effort", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata", "invalid_value"),
        ({"service_tier": "gold"}, "service_tier", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", None),
        ({"audio": {}}, "audio", "unsupported_parameter"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
    ],
)
def test_a_bad_field_is_named(provider: httpx.Client, change: Json, param: str, code: str | None) -> None:
    assert_refused(provider.post("/chat/completions", json=ASK | change), 400, code, param)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2, "top_p": 0, "seed": -1, "stop": "конец", "user": "u", "store": False},
        {"max_tokens": 50, "metadata": {"a": "b"}, "service_tier": "auto", "reasoning_effort": "low"},
        {"max_completion_tokens": 50, "logprobs": True, "top_logprobs": 2, "logit_bias": {}},
        {"stream": False, "stop": ["a", "b"], "prompt_cache_key": "k", "safety_identifier": "s"},
        {"temperature": None, "max_tokens": None, "stop": None},
        message(
            name="anna",
            content=[
                {"type": "text", "text": "Что на картинке?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        ),
        {"messages": [{"role": "developer", "content": "Кратко"}, {"role": "user", "content": "Да?"}]},
    ],
)
def test_every_allowed_field_is_taken(provider: httpx.Client, change: Json) -> None:
    assert provider.post("/chat/completions", json=ASK | change).status_code == 200


def test_only_post_is_taken(provider: httpx.Client) -> None:
    assert_refused(provider.get("/chat/completions"), 405, "method_not_supported")
