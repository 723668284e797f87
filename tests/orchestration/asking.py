"""How tests ask a provider: calls, chunks of the OpenAI format, what the sandbox was sent."""

from typing import Any
from uuid import uuid4

import orjson
from aiohttp import ClientSession

from orchestration.providers.base import ProviderError
from orchestration.providers.openai_chat import OpenAIChat
from orchestration.shapes import Answer, Call, Delta
from tests import web
from tests.orchestration.hosts import head
from tests.sandbox_process import PROVIDER_KEY, SandboxProcess

STREAM = head(200, "Content-Type: text/event-stream")


def call_of(url: str, model: str = "sandbox-small", **facts: Any) -> Call:
    given: dict[str, Any] = {
        "base_url": url, "key": PROVIDER_KEY, "upstream_id": model,
        "messages": ({"role": "user", "content": f"Сколько будет два и два? {uuid4()}"},),
        "max_output_tokens": 400, "temperature": None, "reasoning_effort": None, "stream": True,
        "idle_seconds": 5,
    }  # fmt: skip
    return Call(**given | facts)


async def ask(session: ClientSession, call: Call) -> tuple[Answer, list[list[Delta]], ProviderError | None]:
    """The whole answer, the groups it came in, and how it failed."""
    answer, groups = Answer(), []
    try:
        async for group in OpenAIChat().stream(session, call, answer):
            groups.append(group)  # noqa: PERF401 - what came before a failure is wanted too
    except ProviderError as error:
        return answer, groups, error
    return answer, groups, None


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def text_of(answer: Answer) -> str:
    return "".join(answer.text)


def sent(sandbox: SandboxProcess, call: Call) -> dict[str, Any]:
    (found,) = calls_of(sandbox, call)
    return dict(found)


def calls_of(sandbox: SandboxProcess, call: Call) -> list[dict[str, Any]]:
    """What has reached the sandbox so far."""
    question = call.messages[0]["content"]
    answer = web.get(f"{sandbox.url}/control/provider/calls", params={"contains": question})
    return list(answer.json()["calls"])
