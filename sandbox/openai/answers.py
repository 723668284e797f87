"""Turns a checked request into everything the wire needs: pieces, finish reason, tool call, usage.

Called by `door`. Pure and cached: the same request gives the same answer, and a benchmark pays for the text
once.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from sandbox.openai import text
from sandbox.openai.models import Behaviour
from sandbox.openai.requests import ChatRequest
from sandbox.openai.text import Question

Json = dict[str, Any]

BENCH_PIECE = "слово "
SLOW_CHUNKS = 40
ENDLESS_PIECE = "и так далее " * 100
FILTER_AFTER = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer: `deltas` are the encoded JSON objects of its content chunks, in order."""

    content: str | None
    reasoning: str
    deltas: tuple[bytes, ...]
    finish_reason: str
    completion_tokens: int
    reasoning_tokens: int
    tool_calls: tuple[Json, ...] = ()


def answer(request: ChatRequest, behaviour: Behaviour) -> Answer:
    """Compose the answer to a request."""
    if behaviour.bench_chunks is not None:
        return _bench(behaviour.bench_chunks)
    if request.tools:
        call = _tool_call(request)
        if call is not None:
            return call
    if request.response_format is not None and request.response_format["type"] != "text":
        written = _json_text(request.response_format, text.question_of(request.messages))
        return _textual(written, "", request.limit, request.stop)
    return _composed(behaviour, text.question_of(request.messages), request.limit, request.stop)


def usage(prompt_tokens: int, reply: Answer, *, is_cached: bool, count: int = 1) -> Json:
    """Build the usage object with its details; `count` answers were written."""
    completion = reply.completion_tokens * count
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {
            "cached_tokens": prompt_tokens // 2 if is_cached else 0,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens * count,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@lru_cache(maxsize=64)
def _bench(chunks: int) -> Answer:
    delta = orjson.dumps({"content": BENCH_PIECE})
    content = BENCH_PIECE * chunks
    return Answer(content, "", (delta,) * chunks, "stop", text.tokens(content), 0)


@lru_cache(maxsize=2048)
def _composed(behaviour: Behaviour, question: Question, limit: int | None, stop: tuple[str, ...]) -> Answer:
    if behaviour.fault == "fault-empty":
        return Answer("", "", (), "stop", 0, 0)
    if behaviour.fault == "fault-endless":
        return _from_pieces("", (ENDLESS_PIECE,), "stop")
    if behaviour.fault == "fault-slow":
        pieces = tuple(
            f"Медленный ответ, часть {place} из {SLOW_CHUNKS}. " for place in range(1, SLOW_CHUNKS + 1)
        )
        return _from_pieces("", pieces, "stop")
    reasoning = text.think(question) if behaviour.is_reasoning else ""
    reply = _textual(text.write(behaviour.name, question), reasoning, limit, stop)
    if behaviour.fault == "fault-content-filter":
        return _from_pieces("", text.pieces(reply.content or "")[:FILTER_AFTER], "content_filter")
    if behaviour.fault == "fault-unknown-finish":
        return _from_pieces("", text.pieces(reply.content or ""), "sandbox_novelty")
    return reply


def _textual(written: str, reasoning: str, limit: int | None, stop: tuple[str, ...]) -> Answer:
    """Apply stop sequences and the bound; reasoning is paid from the same bound, first."""
    thought, is_thought_cut = text.cut(reasoning, limit)
    rest = None if limit is None else limit - text.tokens(thought)
    content, is_cut = text.cut(text.cut_at_stop(written, stop), rest)
    reason = "length" if is_cut or is_thought_cut else "stop"
    return _from_pieces(thought, text.pieces(content), reason)


def _from_pieces(reasoning: str, pieces: tuple[str, ...], reason: str) -> Answer:
    content = "".join(pieces)
    thoughts = tuple(orjson.dumps({"reasoning_content": piece}) for piece in text.pieces(reasoning))
    deltas = thoughts + tuple(orjson.dumps({"content": piece}) for piece in pieces)
    reasoning_tokens = text.tokens(reasoning)
    return Answer(
        content, reasoning, deltas, reason, text.tokens(content) + reasoning_tokens, reasoning_tokens
    )


def _tool_call(request: ChatRequest) -> Answer | None:
    """Call the demanded tool, or with `auto` the one whose name the last user message contains."""
    function = _chosen_function(request)
    if function is None:
        return None
    arguments = orjson.dumps(instance(function.get("parameters") or {})).decode()
    identity = f"call_{text.tokens(function['name'])}{len(request.messages)}{len(arguments)}"
    call = {
        "id": identity,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    opening = {"tool_calls": [{"index": 0, **call, "function": {"name": function["name"], "arguments": ""}}]}
    middle = len(arguments) // 2
    parts = [opening] + [
        {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
        for part in (arguments[:middle], arguments[middle:])
        if part
    ]
    deltas = tuple(orjson.dumps(part) for part in parts)
    spent = text.tokens(function["name"]) + text.tokens(arguments)
    return Answer(None, "", deltas, "tool_calls", spent, 0, (call,))


def _chosen_function(request: ChatRequest) -> Json | None:
    functions = [tool["function"] for tool in request.tools]
    choice = request.tool_choice or "auto"
    if isinstance(choice, dict):
        wanted = choice["function"]["name"]
        return next((function for function in functions if function["name"] == wanted), None)
    if choice == "required":
        return functions[0] if functions else None
    if choice == "none" or request.messages[-1]["role"] == "tool":
        return None
    asked = text.question_of(request.messages).quoted
    return next((function for function in functions if function["name"] in asked), None)


def _json_text(response_format: Json, question: Question) -> str:
    if response_format["type"] == "json_object":
        return orjson.dumps({"answer": f"Вопрос: {question.quoted}", "words": question.words}).decode()
    return orjson.dumps(instance(response_format["json_schema"].get("schema") or {})).decode()


def instance(schema: Any) -> Any:
    """Build the smallest sensible value of a JSON schema: first of enum, zeros, every property once."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            return instance(schema[name][0])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {name: instance(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {}))] if schema.get("minItems") else []
    simple: Json = {"string": "песочница", "integer": 1, "number": 1.0, "boolean": True}
    return simple.get(kind)
