"""The engine's HTTP doors, served by the lean ASGI path: run, follow, stop. They parse, call, render.

The frames of a run are rendered as NDJSON, or gathered into one JSON answer.
"""

import asyncio
import contextlib
import hashlib
import re
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from billing.errors import IdempotencyKeyRequired
from orchestration.engine import Engine, Opened, engine
from orchestration.errors import FramesGone, RunFailed, RunNotFound, RunRefused
from orchestration.frames import Groups
from orchestration.models import RunState
from orchestration.schemas import FrameOut, ResultOut, RunIn, StopOut
from orchestration.shapes import RunRequest
from plyrum import idempotency
from plyrum.errors import InvalidRequest, PlyrumError
from plyrum.lean import Exchange, Route, operation, require_no_fields

NDJSON = "application/x-ndjson"
STOP_SECONDS = 30
ALL_MODELS: frozenset[str] = frozenset()
CUSTOMERS_ERRORS = ("request_invalid", "context_too_long", "content_blocked")


async def run(exchange: Exchange) -> None:
    """POST /api/stream/run: the frames of a new run, or of the run that this key began before."""
    caller = await engine().callers.credential(exchange.header("authorization"))
    key = caller.api_key
    if key is not None and key.networks:
        key.require_address(exchange.client_ip)
    asked = RunIn.model_validate(await exchange.body(settings.MAX_CHAT_BODY_BYTES))
    named = idempotency.key_from(exchange.given("idempotency-key"), asked.idempotency_key)
    if not named:
        raise IdempotencyKeyRequired("Send Idempotency-Key (1..255 characters) or idempotency_key.")
    opened = await engine().start(
        RunRequest(
            customer_id=caller.user_id,
            idempotency_key=named,
            fingerprint=hashlib.sha256(asked.canonical()).hexdigest(),
            surface="api",
            messages=asked.conversation(),
            mode=asked.mode,
            profile=asked.profile,
            models=asked.named_models(),
            max_output_tokens=asked.max_output_tokens,
            temperature=asked.temperature,
            reasoning_effort=asked.reasoning_effort,
            max_cost_micro_rub=asked.max_cost_micro_rub,
            stream=asked.stream,
            accepted_terms=caller.accepted_offer_version_ids,
            unlimited=caller.is_unlimited,
            api_key_id=key.id if key is not None else None,
            allowed_models=key.models if key is not None else ALL_MODELS,
        )
    )
    headers = {"x-plyrum-run": str(opened.run_id)}
    if opened.is_replay:
        headers["Idempotent-Replayed"] = "true"
    if asked.stream:
        await exchange.stream(NDJSON, engine().follow(opened.run_id), headers)
        return
    result = await _result(engine(), opened)
    headers["x-plyrum-cost-micro-rub"] = str(result["cost_micro_rub"])
    await exchange.answer(200, result, headers)


async def frames(exchange: Exchange) -> None:
    """GET /api/runs/{id}/frames?after_seq=N: the stored frames after N, then live ones."""
    row = await _own_run(exchange)
    query = exchange.query
    if unknown := sorted(set(query) - {"after_seq"}):
        text = f"unknown parameters: {', '.join(unknown)[:200]}"
        error = {"loc": ["query"], "msg": text, "type": "value_error"}
        raise InvalidRequest("The request has wrong fields.", errors=[error])
    after = query.get("after_seq", "0")
    if not after.isdecimal() or len(after) > 9:
        error = {"loc": ["query", "after_seq"], "msg": "A whole number from 0.", "type": "int_parsing"}
        raise InvalidRequest("The request has wrong fields.", errors=[error])
    groups = engine().follow(row["id"], int(after))
    if row["state"] != RunState.RUNNING:
        groups = _required(groups, await _first(groups))
    await exchange.stream(NDJSON, groups, {"x-plyrum-run": str(row["id"])})


async def cancel(exchange: Exchange) -> None:
    """POST /api/runs/{id}/cancel: stop; the input and the delivered output are paid for."""
    row = await _own_run(exchange)
    require_no_fields(await exchange.raw_body(settings.MAX_JSON_BODY_BYTES))
    if row["state"] == RunState.RUNNING:
        await _stop(row["id"])
        row = await _own_run(exchange)
    await exchange.answer(
        200,
        {
            "run_id": str(row["id"]),
            "state": row["state"],
            "finish_reason": row["finish_reason"],
            "cost_micro_rub": row["cost_micro_rub"],
            "ledger_entry_id": row["id"] if row["cost_micro_rub"] else None,
        },
    )


async def _stop(run_id: UUID) -> None:
    """Ask again each second until the run has ended: a stop handed to another process may be lost."""
    for _ in range(STOP_SECONDS):
        await engine().stop(run_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for _group in engine().follow(run_id):
                    pass  # the last frame comes after the settlement
                return


async def _own_run(exchange: Exchange) -> dict[str, Any]:
    """The run named in the path, if it is the caller's."""
    caller = await engine().callers.credential(exchange.header("authorization"))
    if caller.api_key is not None and caller.api_key.networks:
        caller.api_key.require_address(exchange.client_ip)
    try:
        run_id = UUID(exchange.parameters["run_id"])
    except ValueError as error:
        raise RunNotFound from error
    row = await engine().run_row(run_id, caller.user_id)
    if row is None:
        raise RunNotFound
    return row


async def _first(groups: Groups) -> list[bytes]:
    """The first frames of a finished run. Raises FramesGone when nothing is kept any more."""
    async for group in groups:
        if group is not None:
            return group
    raise FramesGone("The frames of this run are no longer kept.")


async def _required(groups: Groups, first: list[bytes]) -> Groups:
    yield first
    async for group in groups:
        yield group


async def _result(served_by: Engine, opened: Opened) -> dict[str, Any]:
    """The whole answer of a run, gathered from its frames. Raises what the run failed with."""
    told = await served_by.whole_story(opened.run_id)
    by_type: dict[str, dict[str, Any]] = {}
    text: list[str] = []
    for frame in orjson.loads(b"[%b]" % b",".join(told)):
        if frame["type"] == "delta":
            text.append(frame["text"])
        by_type[frame["type"]] = frame
    failed = by_type.get("error")
    if failed is not None:
        failure = _failure(opened.run_id, failed)
        failure.is_replay = opened.is_replay
        raise failure
    if not {"route", "usage", "settled", "run.finished"} <= by_type.keys():
        raise FramesGone("The frames of this run are no longer kept.")
    settled = by_type["settled"]
    return {
        "run_id": opened.run_id,
        "state": RunState.STOPPED
        if by_type["run.finished"]["finish_reason"] == "cancelled"
        else RunState.DONE,
        "model": by_type["route"]["model"],
        "provider": by_type["route"]["provider"],
        "text": "".join(text),
        "finish_reason": by_type["run.finished"]["finish_reason"],
        "usage": by_type["usage"]["usage"],
        "cost_micro_rub": settled["cost_micro_rub"],
        "released_micro_rub": settled["released_micro_rub"],
        "balance_micro_rub": settled["balance_micro_rub"],
        "ledger_entry_id": settled["ledger_entry_id"],
    }


def _failure(run_id: UUID, frame: dict[str, Any]) -> PlyrumError:
    facts = {
        "run_id": str(run_id),
        "reason": frame["code"],
        "charged_micro_rub": frame["charged_micro_rub"],
    }
    if frame["code"] in CUSTOMERS_ERRORS:
        return RunRefused("The model refused this request.", **facts)
    return RunFailed("The models did not answer. See `charged_micro_rub` for what was charged.", **facts)


_ID = r"(?P<run_id>[^/]+)"
ROUTES = [
    Route("POST", re.compile(r"/api/stream/run"), run),
    Route("GET", re.compile(rf"/api/runs/{_ID}/frames"), frames),
    Route("POST", re.compile(rf"/api/runs/{_ID}/cancel"), cancel),
]


def describe(schema: dict[str, Any]) -> None:
    """Add these doors to the OpenAPI document of the customer API."""
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for shape in (RunIn, ResultOut):
        nested = shape.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
        components.update(nested)
    run_id = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
    after = {"name": "after_seq", "in": "query", "schema": {"type": "integer", "minimum": 0, "default": 0}}
    schema["paths"]["/api/stream/run"] = {
        "post": operation(
            "Run a request and stream its frames",
            body=RunIn,
            answer="Frames, one JSON object a line; with stream=false one JSON object",
            tag="runs",
            content={NDJSON: FrameOut, "application/json": ResultOut},
        )
    }
    schema["paths"]["/api/runs/{run_id}/frames"] = {
        "parameters": [run_id, after],
        "get": operation(
            "Follow a run from a frame on", body=None, answer="Frames", tag="runs", content={NDJSON: FrameOut}
        ),
    }
    schema["paths"]["/api/runs/{run_id}/cancel"] = {
        "parameters": [run_id],
        "post": operation(
            "Stop a run",
            body=None,
            answer="The state and the price",
            tag="runs",
            content={"application/json": StopOut},
        ),
    }
