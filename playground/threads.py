"""The acts of a conversation: a question is stored before the engine is asked, and named its run afterwards.

Called by `playground/asking.py`, which asks the engine in between. Nothing here moves money or calls a model.
"""

import textwrap
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from accounts.models import User
from billing.errors import IdempotencyMismatch
from orchestration.models import RunState
from orchestration.queries import runs_of
from orchestration.shapes import Message as Said
from playground import answers, queries
from playground.models import Message, Thread

TITLE_WIDTH = 60
MORE = "…"
CONVERSATION_MESSAGES = 20  # earlier messages that go along with a question


@dataclass(frozen=True)
class Asked:
    """A stored question with the place of its answer; `run_id` is known when it was asked before."""

    thread_id: UUID
    question_id: UUID
    answer_id: UUID
    run_id: UUID | None
    is_new: bool


@transaction.atomic(durable=True)
def ask(
    *, customer_id: UUID, thread_id: UUID | None, text: str, model: str, key: UUID, now: datetime
) -> Asked:
    """Store a question and the place of its answer, in a new thread without `thread_id`; once per key.

    Raises ThreadNotFound, IdempotencyMismatch when the key came with another question.
    """
    # Two sends of one form would both miss the key: the customer's questions are stored one after another.
    User.objects.select_for_update(no_key=True).get(pk=customer_id)
    known = (
        Message.objects.filter(customer_id=customer_id, idempotency_key=key).select_related("thread").first()
    )
    if known is not None:
        return _asked_before(known, thread_id, text)
    if thread_id is None:
        thread = Thread.objects.create(
            user_id=customer_id, title=_title(text), model=model, created_at=now, updated_at=now
        )
    else:
        thread = queries.thread_of(customer_id, thread_id)
        thread.model, thread.updated_at = model, now
        thread.save(update_fields=["model", "updated_at"])
    last = (
        Message.objects.filter(thread=thread).order_by("-place").values_list("place", flat=True).first() or 0
    )
    question = Message.objects.create(
        thread=thread,
        customer_id=customer_id,
        place=last + 1,
        role=Message.Role.USER,
        text=text,
        idempotency_key=key,
        created_at=now,
    )
    answer = Message.objects.create(
        thread=thread,
        customer_id=customer_id,
        place=last + 2,
        role=Message.Role.ASSISTANT,
        question=question,
        created_at=now,
    )
    return Asked(thread.id, question.id, answer.id, None, is_new=True)


@transaction.atomic(durable=True)
def attach_run(*, answer_id: UUID, run_id: UUID) -> None:
    """Write down which run answers; a run that is already written down stays."""
    Message.objects.filter(pk=answer_id, run_id=None).update(run_id=run_id)


@transaction.atomic(durable=True)
def withdraw(*, customer_id: UUID, question_id: UUID) -> None:
    """Take back a question that the engine has refused, and the thread if it was the only one.

    A question with a run stays: a second send of the same form was accepted in the meantime.
    """
    User.objects.select_for_update(no_key=True).get(pk=customer_id)
    question = Message.objects.filter(customer_id=customer_id, pk=question_id).first()
    runs = runs_of(customer_id).filter(idempotency_key=queries.run_key(question_id))
    if question is None or runs.exclude(state=RunState.REFUSED).exists():
        return
    question.delete()
    Thread.objects.filter(pk=question.thread_id, messages=None).delete()


def conversation(*, customer_id: UUID, question_id: UUID) -> tuple[Said, ...]:
    """What the model is told: the last messages before the question, and the question."""
    question = queries.message_of(customer_id, question_id)
    earlier = Message.objects.filter(thread_id=question.thread_id, place__lt=question.place)
    return (*_told(earlier), {"role": "user", "content": question.text})


def history(thread: Thread) -> tuple[Said, ...]:
    """What would go along with the next question of a thread."""
    return _told(Message.objects.filter(thread=thread))


def _told(earlier: QuerySet[Message]) -> tuple[Said, ...]:
    """The last of `earlier` messages in order; answers without text (failed ones) are left out."""
    messages = list(earlier.order_by("-place")[:CONVERSATION_MESSAGES])[::-1]
    if not messages:
        return ()
    runs = queries.runs_by_answer(messages[0].customer_id, messages)
    texts = answers.texts([run.id for run in runs.values()])
    by_answer = {answer_id: texts.get(run.id, "") for answer_id, run in runs.items()}
    said = [(str(message.role), message.text or by_answer.get(message.id, "")) for message in messages]
    return tuple({"role": role, "content": text} for role, text in said if text.strip())


def _asked_before(question: Message, thread_id: UUID | None, text: str) -> Asked:
    if question.text != text or (thread_id is not None and thread_id != question.thread_id):
        raise IdempotencyMismatch("This form was sent with another question.")
    answer = question.answers.get()
    return Asked(question.thread_id, question.id, answer.id, answer.run_id, is_new=False)


def _title(text: str) -> str:
    """The first words of the question."""
    words = textwrap.shorten(text, TITLE_WIDTH, placeholder=MORE)
    return words if words != MORE else text.strip()[: TITLE_WIDTH - 1] + MORE
