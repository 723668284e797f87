"""Reads of runs; every lookup starts from the customer's own rows."""

from typing import Any
from uuid import UUID

import orjson
from django.db.models import QuerySet

from orchestration.errors import RunNotFound
from orchestration.models import Attempt, Run, RunState


def runs_of(customer_id: UUID) -> QuerySet[Run]:
    """The customer's runs; order them by `id`."""
    return Run.objects.filter(customer_id=customer_id, fence__gte=1)  # as the index says


def run_of(customer_id: UUID, run_id: str | UUID) -> Run:
    """Raises RunNotFound for somebody else's run exactly as for a missing one."""
    try:
        return Run.objects.get(customer_id=customer_id, id=UUID(str(run_id)))
    except (ValueError, Run.DoesNotExist) as error:
        raise RunNotFound from error


def is_running(run_id: UUID) -> bool:
    """Whether somebody still works on this run: its hold is in use. Named by the settings, for billing."""
    return Run.objects.filter(id=run_id, state=RunState.RUNNING).exists()


def attempts_of(run: Run) -> list[Attempt]:
    return list(Attempt.objects.filter(run_id=run.id, customer_id=run.customer_id).order_by("number"))


def text_of(frames: list[str]) -> str:
    """The visible text in frames."""
    parts: list[str] = []
    for line in frames:
        frame: dict[str, Any] = orjson.loads(line)
        if frame["type"] == "delta":
            parts.append(frame["text"])
    return "".join(parts)
