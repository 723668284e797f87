"""A conversation as the templates know it: plain values, text already rendered and safe."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.html import escape
from django.utils.translation import gettext as _

from orchestration.catalogue import Snapshot
from orchestration.models import Run, RunState
from playground import answers, markdown, offers, queries
from playground.models import Message

# An answer whose question never reached the engine: nothing was asked, nothing was charged.
NEVER_ASKED = {"state": str(RunState.FAILED), "cost_micro_rub": 0, "model": ""}


def shown(customer_id: UUID, messages: Sequence[Message], snapshot: Snapshot) -> list[dict[str, Any]]:
    """Messages for `playground/_message.html`."""
    runs = queries.runs_by_answer(customer_id, messages)
    finished = [run.id for run in runs.values() if run.finished_at is not None]
    texts = answers.texts(finished)
    return [_message(message, runs.get(message.id), texts, snapshot) for message in messages]


def is_running(messages: Sequence[dict[str, Any]]) -> bool:
    return any(message["run"] is not None and message["run"].get("events_url") for message in messages)


def run_facts(run: Run, snapshot: Snapshot) -> dict[str, Any]:
    """A run for the line under its answer; with the addresses of its events while it is under way."""
    facts: dict[str, Any] = {
        "id": run.id,
        "state": run.state,
        "model": offers.label(run.model, snapshot),
        "cost_micro_rub": run.cost_micro_rub if run.finished_at else None,
        "input_tokens": run.input_tokens if run.finished_at else None,
        "output_tokens": run.output_tokens,
        "duration_ms": duration_ms(run),
        "why_url": reverse("run_why", args=[run.id]),
    }
    if run.finished_at is None:
        facts |= run_urls(run.id) | {"last_seq": 0}
    return facts


def run_urls(run_id: UUID) -> dict[str, str]:
    return {
        "events_url": reverse("chat_events", args=[run_id]),
        "stop_url": reverse("chat_stop", args=[run_id]),
    }


def duration_ms(run: Run) -> int | None:
    if run.finished_at is None:
        return None
    return round((run.finished_at - run.created_at).total_seconds() * 1000)


def _message(message: Message, run: Run | None, texts: dict[UUID, str], snapshot: Snapshot) -> dict[str, Any]:
    if message.role == Message.Role.USER:
        return {"id": message.id, "role": message.role, "html": escape(message.text), "run": None}
    if run is None:
        return {"id": message.id, "role": message.role, "html": "", "run": NEVER_ASKED}
    text = texts.get(run.id)
    html = markdown.render(text) if text else ""
    if text is None and run.state == RunState.DONE:
        html = markdown.render(_("Текст этого ответа больше не хранится."))
    return {"id": message.id, "role": message.role, "html": html, "run": run_facts(run, snapshot)}
