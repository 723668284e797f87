"""Reads a chat completions body, refusing what the real provider refuses.

Called by `door` for every call, so the checks are plain look-ups. Knows nothing about answers.
Source: the project's providers reference, 2.1.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.openai.errors import ProviderError, invalid

Json = dict[str, Any]
Check = Callable[[Any, str], None]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
ROLES = frozenset({"developer", "system", "user", "assistant", "tool"})
PART_TYPES = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "audio"}
)
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
UNSUPPORTED = frozenset(
    {"audio", "modalities", "prediction", "web_search_options", "functions", "function_call"}
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request; `limit` is the bound of output tokens, None when not given."""

    model: str
    messages: list[Json]
    is_streamed: bool
    has_usage_chunk: bool
    limit: int | None
    count: int
    stop: tuple[str, ...]
    tools: list[Json]
    tool_choice: Any
    response_format: Json | None


def read(raw: bytes) -> ChatRequest:
    """Parse and check a body. Raises ProviderError 400 naming the parameter."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid("We could not parse the JSON body of your request.", None) from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.", None)
    for name, value in body.items():
        check = CHECKS.get(name)
        if check is None:
            raise _unknown(name)
        if value is not None:
            check(value, name)
    return _request(body)


def _request(body: Json) -> ChatRequest:
    for name in ("model", "messages"):
        if body.get(name) is None:
            raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    is_streamed = bool(body.get("stream"))
    options = body.get("stream_options")
    if options is not None and not is_streamed:
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    old, new = body.get("max_tokens"), body.get("max_completion_tokens")
    if old is not None and new is not None:
        raise invalid("'max_tokens' and 'max_completion_tokens' exclude each other.", "max_tokens")
    if body.get("tool_choice") is not None and not body.get("tools"):
        raise invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise invalid("'top_logprobs' needs 'logprobs' to be true.", "top_logprobs")
    stop = body.get("stop")
    return ChatRequest(
        model=body["model"],
        messages=body["messages"],
        is_streamed=is_streamed,
        has_usage_chunk=bool(options and options.get("include_usage")),
        limit=new if new is not None else old,
        count=body.get("n") or 1,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        tools=body.get("tools") or [],
        tool_choice=body.get("tool_choice"),
        response_format=body.get("response_format"),
    )


def _unknown(name: str) -> ProviderError:
    if name in UNSUPPORTED:
        return invalid(f"Unsupported parameter: '{name}'.", name, "unsupported_parameter")
    return invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")


def _wrong_type(name: str, expected: str) -> ProviderError:
    return invalid(f"Invalid type for '{name}': expected {expected}.", name, "invalid_type")


def _wrong_value(name: str, expected: str) -> ProviderError:
    return invalid(f"Invalid value for '{name}': expected {expected}.", name, "invalid_value")


def _is_text(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value:
        raise _wrong_type(name, "a non-empty string")


def _is_bool(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise _wrong_type(name, "a boolean")


def _is_object(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(name, "an object")


def _whole(lowest: int, highest: int) -> Check:
    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "an integer")
        if not lowest <= value <= highest:
            raise _wrong_value(name, f"an integer {lowest}..{highest}")

    return check


def _number(lowest: float, highest: float) -> Check:
    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(name, "a decimal")
        if not lowest <= value <= highest:
            raise invalid(
                f"Invalid '{name}': expected a value {lowest}..{highest}.", name, "decimal_out_of_range"
            )

    return check


def _one_of(allowed: frozenset[str]) -> Check:
    def check(value: Any, name: str) -> None:
        if value not in allowed:
            raise _wrong_value(name, f"one of {sorted(allowed)}")

    return check


def _is_stop(value: Any, name: str) -> None:
    items = [value] if isinstance(value, str) else value
    if (
        not isinstance(items, list)
        or not 1 <= len(items) <= 4
        or not all(isinstance(item, str) for item in items)
    ):
        raise _wrong_type(name, "a string or an array of 1..4 strings")


def _are_stream_options(value: Any, name: str) -> None:
    _is_object(value, name)
    for key, item in value.items():
        if key not in {"include_usage", "include_obfuscation"}:
            raise _unknown(f"{name}.{key}")
        _is_bool(item, f"{name}.{key}")


def _is_metadata(value: Any, name: str) -> None:
    _is_object(value, name)
    is_fine = len(value) <= 16 and all(
        len(key) <= 64 and isinstance(item, str) and len(item) <= 512 for key, item in value.items()
    )
    if not is_fine:
        raise _wrong_value(name, "at most 16 pairs of strings, 64 and 512 characters")


def _are_messages(value: Any, name: str) -> None:
    if not isinstance(value, list):
        raise _wrong_type(name, "an array of objects")
    if not value:
        raise invalid("Invalid 'messages': empty array.", name, "empty_array")
    for place, message in enumerate(value):
        _is_message(message, f"messages[{place}]")


def _is_message(message: Any, name: str) -> None:
    if not isinstance(message, dict):
        raise _wrong_type(name, "an object")
    if not message.keys() <= MESSAGE_FIELDS:
        raise _unknown(f"{name}.{next(iter(message.keys() - MESSAGE_FIELDS))}")
    role = message.get("role")
    if role not in ROLES:
        raise _wrong_value(f"{name}.role", f"one of {sorted(ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        for place, part in enumerate(content):
            _is_part(part, f"{name}.content[{place}]")
    elif content is None:
        if role != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
            raise _wrong_type(f"{name}.content", "a string or an array of parts, got null")
    elif not isinstance(content, str):
        raise _wrong_type(f"{name}.content", "a string or an array of parts")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise invalid(f"Missing parameter '{name}.tool_call_id'.", f"{name}.tool_call_id")


def _is_part(part: Any, name: str) -> None:
    if not isinstance(part, dict) or part.get("type") not in PART_TYPES:
        raise _wrong_value(f"{name}.type", f"one of {sorted(PART_TYPES)}")
    kind = part["type"]
    if kind == "text" and not isinstance(part.get("text"), str):
        raise _wrong_type(f"{name}.text", "a string")
    if kind == "image_url":
        picture = part.get("image_url")
        url = picture.get("url") if isinstance(picture, dict) else None
        if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:image/")):
            raise _wrong_value(f"{name}.image_url.url", "an http(s) or data URL")


def _are_tools(value: Any, name: str) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= 128:
        raise _wrong_type(name, "an array of 1..128 objects")
    for place, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict):
            raise _wrong_value(f"{name}[{place}].type", "'function' with a function object")
        if not isinstance(function.get("name"), str) or not NAME.fullmatch(function["name"]):
            raise _wrong_value(f"{name}[{place}].function.name", "1..64 of A-Z a-z 0-9 _ -")


def _is_tool_choice(value: Any, name: str) -> None:
    if isinstance(value, dict):
        function = value.get("function")
        if (
            value.get("type") == "function"
            and isinstance(function, dict)
            and isinstance(function.get("name"), str)
        ):
            return
    elif value in {"none", "auto", "required"}:
        return
    raise _wrong_value(name, "none, auto, required or a function")


def _is_response_format(value: Any, name: str) -> None:
    _is_object(value, name)
    kind = value.get("type")
    if kind not in {"text", "json_object", "json_schema"}:
        raise _wrong_value(f"{name}.type", "text, json_object or json_schema")
    schema = value.get("json_schema")
    if kind == "json_schema" and not (isinstance(schema, dict) and isinstance(schema.get("name"), str)):
        raise invalid(f"Missing required parameter: '{name}.json_schema.name'.", f"{name}.json_schema.name")


CHECKS: dict[str, Check] = {
    "model": _is_text,
    "messages": _are_messages,
    "stream": _is_bool,
    "stream_options": _are_stream_options,
    "max_tokens": _whole(1, 2_000_000),
    "max_completion_tokens": _whole(1, 2_000_000),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _whole(1, 128),
    "stop": _is_stop,
    "tools": _are_tools,
    "tool_choice": _is_tool_choice,
    "parallel_tool_calls": _is_bool,
    "response_format": _is_response_format,
    "reasoning_effort": _one_of(EFFORTS),
    "verbosity": _one_of(frozenset({"low", "medium", "high"})),
    "seed": _whole(-(2**63), 2**63 - 1),
    "logprobs": _is_bool,
    "top_logprobs": _whole(0, 20),
    "logit_bias": _is_object,
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "metadata": _is_metadata,
    "service_tier": _one_of(TIERS),
    "store": _is_bool,
    "prompt_cache_key": _is_text,
    "prompt_cache_options": _is_object,
    "safety_identifier": _is_text,
    "user": _is_text,
}
