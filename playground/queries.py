"""Reads of conversations; every lookup starts from the customer's own rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.db.models.functions import Left
from django.utils.text import Truncator

from orchestration.models import Run
from orchestration.queries import runs_of
from playground.errors import MessageNotFound, ThreadNotFound
from playground.models import Message, Thread

PAGE_MESSAGES = 20
PREVIEW_CHARS = 80


@dataclass(frozen=True)
class MessagePage:
    """Messages in the order they were said; `older_before` is the place to page on from, if there is more."""

    messages: list[Message]
    older_before: int | None


def run_key(question_id: UUID) -> str:
    """The engine's idempotency key of a question: one question is one run, however often it is sent."""
    return f"site:{question_id}"


def thread_of(customer_id: UUID, thread_id: UUID) -> Thread:
    """Raises ThreadNotFound for somebody else's conversation exactly as for a missing one."""
    found = Thread.objects.filter(user_id=customer_id, id=thread_id).first()
    if found is None:
        raise ThreadNotFound
    return found


def message_of(customer_id: UUID, message_id: UUID) -> Message:
    """Raises MessageNotFound for somebody else's message exactly as for a missing one."""
    found = Message.objects.filter(customer_id=customer_id, id=message_id).first()
    if found is None:
        raise MessageNotFound
    return found


def answer_of_run(customer_id: UUID, run_id: UUID) -> Message | None:
    """The answer that a run of the site belongs to; None for a run of the API."""
    return Message.objects.filter(customer_id=customer_id, run_id=run_id).first()


def page_of(thread: Thread, *, before: int | None = None) -> MessagePage:
    """The newest messages of a thread, or those before a place."""
    rows: QuerySet[Message] = Message.objects.filter(thread=thread).order_by("-place")
    if before is not None:
        rows = rows.filter(place__lt=before)
    found = list(rows[: PAGE_MESSAGES + 1])
    has_more = len(found) > PAGE_MESSAGES
    messages = found[:PAGE_MESSAGES][::-1]
    return MessagePage(messages, messages[0].place if has_more else None)


def runs_by_answer(customer_id: UUID, messages: Sequence[Message]) -> dict[UUID, Run]:
    """Runs of the answers among `messages`, by the answer's id.

    An answer whose run was started but not yet written down (the process ended in between) is found by its
    question's key.
    """
    answers = [message for message in messages if message.role == Message.Role.ASSISTANT]
    by_id = runs_of(customer_id).in_bulk([answer.run_id for answer in answers if answer.run_id])
    lost = {
        run_key(answer.question_id): answer for answer in answers if not answer.run_id and answer.question_id
    }
    by_key = {}
    if lost:
        by_key = {run.idempotency_key: run for run in runs_of(customer_id).filter(idempotency_key__in=lost)}
    found = {answer.id: by_id[answer.run_id] for answer in answers if answer.run_id in by_id}
    return found | {answer.id: by_key[key] for key, answer in lost.items() if key in by_key}


def cost_of(thread: Thread) -> int:
    """What the whole conversation has cost, in micro-RUB."""
    run_ids = Message.objects.filter(thread=thread).exclude(run_id=None).values("run_id")
    total = runs_of(thread.user_id).filter(id__in=run_ids).aggregate(cost=Sum("cost_micro_rub"))["cost"]
    return int(total or 0)


def previews(customer_id: UUID, run_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The first words of the questions that runs answer; runs of the API have none here."""
    found = Message.objects.filter(customer_id=customer_id, run_id__in=run_ids).exclude(question=None)
    pairs = found.values_list("run_id", Left("question__text", PREVIEW_CHARS * 2))
    return {
        run_id: Truncator(" ".join(text.split())).chars(PREVIEW_CHARS)
        for run_id, text in pairs
        if run_id is not None
    }
