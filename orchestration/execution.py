"""Carry out a plan: call models in order, tell the story in frames, count and settle the money.

Runs inside a task of the engine, which outlives the reader's connection. Nothing here holds a database
connection while a provider works; the only database call is the settlement at the end.
"""

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from aiohttp import ClientSession
from django.conf import settings

from billing import ledger, pricing
from billing.pricing import Usage
from orchestration.catalogue import Snapshot
from orchestration.frames import Story
from orchestration.models import RunState
from orchestration.providers import base, registry
from orchestration.providers.base import ErrorClass, ProviderError
from orchestration.providers.registry import Key
from orchestration.providers.transport import IDLE_SECONDS
from orchestration.shapes import Answer, Call, Candidate, Delta, Plan, RunRequest
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

STAGE = "final"
MAX_ATTEMPTS = 6
MAX_KEYS_PER_MODEL = 3
RETRY_PAUSE_SECONDS = 0.25
# The arguments of run_settle_one().
SETTLE_FIELDS = (
    "run_id", "customer_id", "fence", "state", "finish_reason", "error_code", "model", "provider",
    "input_tokens", "output_tokens", "estimated", "attempts", "money.hold_id", "money.amount",
    "money.source_type", "money.usage", "story",
)  # fmt: skip
USEFUL_TOKENS = 20  # a broken answer shorter than this is not paid for (orchestration guide 11.2)


@dataclass(frozen=True)
class Try:
    """One call of a provider: `row` is how it is kept, written until the run ends."""

    row: dict[str, Any]
    candidate: Candidate
    answer: Answer


@dataclass
class RunTask:
    """A run in the hands of this process."""

    id: UUID
    request: RunRequest
    plan: Plan
    snapshot: Snapshot
    story: Story
    held_micro_rub: int
    fence: int = 1
    task: asyncio.Task[None] | None = None
    stop_requested: bool = False
    has_begun: bool = False
    is_ending: bool = False
    is_archived: bool = False  # with its charge
    ends: float = math.inf  # by the loop's clock; who is asked then is left, and nobody is asked any more
    attempts: list[Try] = field(default_factory=list)

    def wants_stop(self) -> bool:
        return self.stop_requested

    def stop(self) -> None:
        """Ask the executor to stop: the upstream socket closes, what was delivered is settled."""
        if self.task is not None and not self.stop_requested and not self.is_ending:
            self.stop_requested = True
            if self.has_begun:  # a task cancelled before its first step would never end the run
                self.task.cancel()


@dataclass
class Outcome:
    """How a run ended, before its money is moved."""

    state: RunState
    finish_reason: str = ""
    error: ErrorClass | None = None
    candidate: Candidate | None = None
    answer: Answer = field(default_factory=Answer)
    charge_is_due: bool = False


async def carry_out(run: RunTask, session: ClientSession) -> Outcome:
    """Call the candidates until one answers. Never raises: every end is an Outcome."""
    if run.wants_stop():
        return _ended_early(run, RunState.STOPPED, None)
    run.ends = asyncio.get_running_loop().time() + settings.PLYRUM_RUN_SECONDS
    outcome = Outcome(RunState.FAILED, error=base.UNMAPPED)
    try:
        outcome = await _try_candidates(run, session)
    except TimeoutError:
        outcome = _ended_early(run, RunState.FAILED, base.TIMEOUT_TOTAL)
    except asyncio.CancelledError:
        if not run.wants_stop():
            raise
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        outcome = _ended_early(run, RunState.STOPPED, None)
    return outcome


async def _try_candidates(run: RunTask, session: ClientSession) -> Outcome:
    failure = base.UNMAPPED
    for index, candidate in enumerate(run.plan.candidates):
        if index:
            previous = run.plan.candidates[index - 1]
            run.story.append(
                "fallback",
                {"stage": STAGE, "from": previous.offer.id, "to": candidate.offer.id, "class": failure.name},
            )
        _announce(run, candidate)
        outcome, failure = await _try_keys(run, candidate, session)
        if outcome is not None:
            return outcome
        if not failure.other_model or len(run.attempts) >= MAX_ATTEMPTS:
            break
    return Outcome(RunState.FAILED, error=failure, candidate=run.plan.candidates[0])


def _announce(run: RunTask, candidate: Candidate) -> None:
    run.story.append(
        "route",
        {
            "stage": STAGE,
            "model": candidate.offer.id,
            "provider": candidate.offer.provider_label,
            "country": candidate.offer.country,
            "reasons": candidate.reasons,
        },
    )
    run.story.append(
        "stage.started",
        {
            "stage": STAGE,
            "role": "answer",
            "index": 0,
            "model": candidate.offer.id,
            "status": "running",
            "usage": None,
            "cost_micro_rub": 0,
        },
    )


async def _try_keys(
    run: RunTask, candidate: Candidate, session: ClientSession
) -> tuple[Outcome | None, ErrorClass]:
    """Try a model with up to three keys; the second part says why it failed."""
    pool = registry.keys_of(candidate.offer.provider)
    used: set[str] = set()
    failure = base.RATE_LIMITED  # every key rests
    for _ in range(MAX_KEYS_PER_MODEL):
        key = pool.take(used)
        if key is None or len(run.attempts) >= MAX_ATTEMPTS:
            break
        used.add(key.fingerprint)
        for again in (True, False):
            answer = Answer()
            error = await _attempt(run, candidate, key, answer, session)
            if error is None:
                return _answered(candidate, answer), failure
            failure = error.kind
            if answer.has_output:
                return _broken(candidate, answer, failure), failure
            if not (again and failure.same_key_again) or len(run.attempts) >= MAX_ATTEMPTS:
                break
            async with asyncio.timeout_at(run.ends):
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
        if failure.key_cooldown_seconds:
            key.rest(error.retry_after_seconds or failure.key_cooldown_seconds)  # type: ignore[union-attr]
        if not failure.other_key:
            break
    return None, failure


async def _attempt(
    run: RunTask, candidate: Candidate, key: Key, answer: Answer, session: ClientSession
) -> ProviderError | None:
    """One provider call; its row is kept whatever happens, also when the task is cancelled.

    Raises TimeoutError when the run's time is over.
    """
    row = _new_row(run, candidate, key)
    run.attempts.append(Try(row, candidate, answer))
    began = time.monotonic()
    adapter = registry.ADAPTERS[candidate.offer.wire]
    call = _call(run, candidate, key)
    try:
        async with asyncio.timeout_at(_first_output_until(run, candidate)) as limit:
            async for group in adapter.stream(session, call, answer):
                if row["first_token_ms"] is None:
                    row["first_token_ms"] = _ms_since(began)
                    if call.stream:
                        limit.reschedule(run.ends)
                if group:
                    _show(run.story, group)
    except TimeoutError:
        if limit.expired() and limit.when() == run.ends:
            raise
        error = ProviderError(base.TIMEOUT_FIRST)
    except ProviderError as failure:
        error = failure
    else:
        row["status"] = "done"
        return None
    finally:
        row["duration_ms"] = _ms_since(began)
    row["status"] = "failed"
    row["error_class"] = error.kind.name
    row["http_status"] = error.http_status
    return error


def _first_output_until(run: RunTask, candidate: Candidate) -> float:
    """By the loop's clock. A whole answer has the time of the run."""
    if not run.request.stream:
        return run.ends
    seconds: float = settings.PLYRUM_FIRST_TOKEN_SECONDS
    if "reasoning" in candidate.offer.capabilities:
        seconds = settings.PLYRUM_FIRST_TOKEN_REASONING_SECONDS
    return min(asyncio.get_running_loop().time() + seconds, run.ends)


def _show(story: Story, group: list[Delta]) -> None:
    """One frame for neighbouring pieces of a kind that came off the wire together."""
    kind: str = group[0][0]
    parts = [group[0][1]]
    for next_kind, text in group[1:]:
        if next_kind != kind:
            story.append("delta" if kind == "text" else "reasoning", {"text": "".join(parts)})
            kind, parts = next_kind, []
        parts.append(text)
    story.append("delta" if kind == "text" else "reasoning", {"text": "".join(parts)})


def _call(run: RunTask, candidate: Candidate, key: Key) -> Call:
    return Call(
        base_url=run.snapshot.base_urls[candidate.offer.provider],
        key=key.secret,
        upstream_id=candidate.offer.upstream_id,
        messages=run.request.messages,
        max_output_tokens=candidate.max_output_tokens,
        temperature=run.request.temperature,
        reasoning_effort=run.request.reasoning_effort,
        stream=run.request.stream,
        idle_seconds=_idle_seconds(run, candidate),
    )


def _idle_seconds(run: RunTask, candidate: Candidate) -> int | None:
    """How long a silent socket is waited for: a whole answer arrives at once, a reasoning model thinks."""
    if not run.request.stream:
        return None
    if "reasoning" in candidate.offer.capabilities:
        return int(settings.PLYRUM_FIRST_TOKEN_REASONING_SECONDS)
    return IDLE_SECONDS


def _new_row(run: RunTask, candidate: Candidate, key: Key) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "run_id": run.id,
        "customer_id": run.request.customer_id,
        "stage": STAGE,
        "number": len(run.attempts) + 1,
        "model": candidate.offer.id,
        "provider": candidate.offer.provider,
        "key_fingerprint": key.fingerprint,
        "status": "running",
        "error_class": "",
        "http_status": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_micro_rub": 0,
        "first_token_ms": None,
        "duration_ms": 0,
        "started_at": datetime.now(UTC),
    }


def _answered(candidate: Candidate, answer: Answer) -> Outcome:
    if answer.finish_reason == "content_filter" and not answer.text:
        return Outcome(RunState.FAILED, "content_filter", base.CONTENT_BLOCKED, candidate, answer)
    if not answer.text and answer.finish_reason != "length":
        # Thoughts without a word are no answer: nothing is charged, the customer may try again.
        return Outcome(RunState.FAILED, "stop", base.EMPTY_ANSWER, candidate, answer)
    is_answer = bool(answer.text)
    return Outcome(RunState.DONE, answer.finish_reason, None, candidate, answer, charge_is_due=is_answer)


def _broken(candidate: Candidate, answer: Answer, failure: ErrorClass) -> Outcome:
    """The stream broke after output: the delivered part is paid for if it is of use."""
    useful = is_useful(answer)
    is_told = failure is base.ANSWER_TOO_LONG or failure.name.startswith("timeout")
    kind = failure if is_told else base.STREAM_BROKEN
    return Outcome(RunState.FAILED, "error", kind, candidate, answer, charge_is_due=useful)


def _ended_early(run: RunTask, state: RunState, error: ErrorClass | None) -> Outcome:
    """Stopped or out of time: what the last attempt delivered, and the input, are settled."""
    if not run.attempts:
        return Outcome(state, "cancelled", error, run.plan.candidates[0])
    last = run.attempts[-1]
    if last.row["status"] != "running":  # between two attempts: the failed one is not paid for
        return Outcome(state, "cancelled", error, last.candidate)
    last.row["status"] = "stopped"
    due = state == RunState.STOPPED or is_useful(last.answer)
    return Outcome(state, "cancelled", error, last.candidate, last.answer, charge_is_due=due)


def is_useful(answer: Answer) -> bool:
    """Whether a broken answer is long enough to be paid for. Thoughts do not count: nobody reads them."""
    return estimated_usage(sum(len(part.encode()) for part in answer.text), 0).output_tokens >= USEFUL_TOKENS


def _estimated(answer: Answer, input_bound: int, max_output: int) -> Usage:
    """Usage when the provider never said, from what was delivered, and no more than was asked for."""
    size = sum(len(part.encode()) for part in (*answer.text, *answer.reasoning))
    usage = estimated_usage(size, input_bound)
    return replace(usage, output_tokens=min(usage.output_tokens, max_output))


def estimated_usage(output_bytes: int, input_bound: int) -> Usage:
    """Half of the bounds that a hold is made of: a token for four bytes, still at or above the true count of
    ordinary text (orchestration guide 10.1), so an estimate is later corrected downwards only.
    """
    return Usage(input_tokens=input_bound // 2, output_tokens=-(-output_bytes // 4))


@dataclass(frozen=True)
class Bill:
    """What a run is charged and how it was counted."""

    usage: Usage
    cost_micro_rub: int
    charged_micro_rub: int
    estimated: bool


def bill(run: RunTask, outcome: Outcome) -> Bill:
    """Price the outcome. Never above the hold: what exceeds it is our loss, and it is logged."""
    candidate = outcome.candidate
    if not outcome.charge_is_due or candidate is None:
        return Bill(Usage(), 0, 0, estimated=False)
    usage, estimated = _usage_of(outcome.answer, run.plan.input_bound, candidate.max_output_tokens)
    cost = pricing.cost(usage, candidate.price)
    cap = run.request.max_cost_micro_rub
    charged = 0 if run.request.unlimited else min(cost, run.held_micro_rub, cap if cap is not None else cost)
    if charged < cost and not run.request.unlimited and settings.PLYRUM_BILLING_ENFORCE_BALANCE:
        log.error("cost_above_hold", run_id=str(run.id), cost=cost, held=run.held_micro_rub)
    return Bill(usage, cost, charged, estimated)


def _usage_of(answer: Answer, input_bound: int, max_output: int) -> tuple[Usage, bool]:
    """What the provider told, unless it is absent or cannot be true."""
    told = answer.usage
    if told is None or not _is_believable(told, answer, input_bound, max_output):
        return _estimated(answer, input_bound, max_output), True
    return told, False


def _is_believable(told: Usage, answer: Answer, input_bound: int, max_output: int) -> bool:
    """Not zero beside an answer, and not far beyond what was asked (bounds are rough, hence the factor)."""
    if told.output_tokens == 0 and answer.text:
        return False
    return told.input_tokens <= 4 * input_bound and told.output_tokens <= 4 * max_output


def settle_step(run: RunTask, outcome: Outcome, counted: Bill) -> dict[str, Any]:
    """The step of `run_settle` for this outcome: money, usage rows, attempts and the run's last state."""
    candidate = outcome.candidate or run.plan.candidates[0]
    attempts = [made.row for made in run.attempts]
    if run.attempts and run.attempts[-1].answer is outcome.answer:  # the others cost nothing
        attempts[-1] |= {
            "input_tokens": counted.usage.input_tokens,
            "output_tokens": counted.usage.output_tokens,
            "cost_micro_rub": counted.charged_micro_rub,
        }
    usage = (
        [
            ledger.usage_row(
                run_id=run.id,
                model=candidate.offer.id,
                provider=candidate.offer.provider,
                usage=counted.usage,
                price=candidate.price,
                cost=counted.cost_micro_rub,
                charged=counted.charged_micro_rub,
                api_key_id=run.request.api_key_id,
                estimated=counted.estimated,
            )
        ]
        if outcome.charge_is_due
        else []
    )
    return {
        "run_id": run.id,
        "customer_id": run.request.customer_id,
        "fence": run.fence,
        "state": outcome.state.value,
        "finish_reason": outcome.finish_reason,
        "error_code": outcome.error.name if outcome.error is not None else "",
        "model": candidate.offer.id,
        "provider": candidate.offer.provider,
        "input_tokens": counted.usage.input_tokens,
        "output_tokens": counted.usage.output_tokens,
        "estimated": counted.estimated,
        "attempts": attempts,
        "money": ledger.settle_step(
            hold_id=None if run.request.unlimited else run.id,
            customer_id=run.request.customer_id,
            amount=counted.charged_micro_rub,
            usage=usage,
        ),
    }


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
