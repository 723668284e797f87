"""Ask a question from the browser: store it (act), ask the engine, write down its run (act).

Called by the chat's doors, in the ASGI process that has the engine. Nothing here waits for the answer.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asgiref.sync import sync_to_async

from accounts import credentials
from accounts.credentials import Credential
from orchestration import callers, catalogue
from orchestration.engine import engine
from orchestration.shapes import Message as Said
from orchestration.shapes import RunRequest
from playground import threads
from playground.offers import AUTO
from playground.queries import run_key
from playground.threads import Asked
from plyrum.errors import PlyrumError

PROFILE = "balanced"


@dataclass(frozen=True)
class Question:
    """A checked form. `key` is the form's own: sent twice, it is one question."""

    text: str
    model: str
    key: UUID
    thread_id: UUID | None


@dataclass(frozen=True)
class Begun:
    """A question whose run is under way, or was begun before."""

    asked: Asked
    run_id: UUID
    is_replay: bool


async def begin(*, customer_id: UUID, question: Question, now: datetime) -> Begun:
    """Store the question and start its run, once per key.

    Raises what the engine refuses with (money, no route), TermsOutdated, ThreadNotFound; what was refused is
    taken back, so that it may be sent again.
    """
    caller = await sync_to_async(_caller)(customer_id)
    asked = await sync_to_async(threads.ask)(
        customer_id=customer_id,
        thread_id=question.thread_id,
        text=question.text,
        model=question.model,
        key=question.key,
        now=now,
    )
    if asked.run_id is not None:
        return Begun(asked, asked.run_id, is_replay=True)
    told = await sync_to_async(threads.conversation)(customer_id=customer_id, question_id=asked.question_id)
    try:
        opened = await engine().start(run_request(caller, question.model, told, asked))
    except PlyrumError:
        await sync_to_async(threads.withdraw)(customer_id=customer_id, question_id=asked.question_id)
        raise
    await sync_to_async(threads.attach_run)(answer_id=asked.answer_id, run_id=opened.run_id)
    return Begun(asked, opened.run_id, opened.is_replay)


def _caller(customer_id: UUID) -> Credential:
    """Who asks, if the offer is accepted. In a thread: a process that has just begun reads the catalogue."""
    caller = credentials.for_site_session(customer_id)
    callers.require_terms(caller.accepted_offer_version_ids, catalogue.current())
    return caller


def run_request(caller: Credential, model: str, told: tuple[Said, ...], asked: Asked | None) -> RunRequest:
    """What the engine is asked; without `asked` it is good for an estimate only."""
    question_id = asked.question_id if asked is not None else None
    return RunRequest(
        customer_id=caller.user_id,
        idempotency_key=run_key(question_id) if question_id else "",
        fingerprint=hashlib.sha256(f"{question_id}:{model}".encode()).hexdigest(),
        surface="site",
        messages=told,
        mode="auto" if model == AUTO else "single",
        profile=PROFILE,
        models=() if model == AUTO else (model,),
        max_output_tokens=None,
        temperature=None,
        reasoning_effort=None,
        max_cost_micro_rub=None,
        stream=True,
        accepted_terms=caller.accepted_offer_version_ids,
        unlimited=caller.is_unlimited,
    )
