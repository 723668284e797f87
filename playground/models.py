"""Threads and what was said in them. An answer's text is kept with its run; a message names the run.

Written by the acts of `playground/threads.py` only.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7

TITLE_CHARS = 120


class Thread(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="threads", db_constraint=False
    )
    title = models.CharField(_("название"), max_length=TITLE_CHARS)
    model = models.CharField(_("модель"), max_length=100, default="", blank=True)  # this thread's choice
    created_at = models.DateTimeField(_("начата"))
    updated_at = models.DateTimeField(_("изменена"))

    class Meta:
        verbose_name = _("переписка")
        verbose_name_plural = _("переписки")
        indexes = [models.Index(fields=["user", "-updated_at"], name="playground_thread_recent")]

    def __str__(self) -> str:
        return f"thread {self.id}"


class Message(models.Model):
    """A question (text kept here) or an answer (text kept with its run)."""

    class Role(models.TextChoices):
        USER = "user", _("вопрос")
        ASSISTANT = "assistant", _("ответ")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="messages")
    customer_id = models.UUIDField()  # the thread's user: the key of a question is the customer's own
    place = models.PositiveIntegerField()  # within the thread, from 1: ids of one millisecond have no order
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(default="", blank=True)
    question = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="answers")
    run_id = models.UUIDField(null=True)  # of an answer, once the engine has accepted the question
    idempotency_key = models.UUIDField(null=True)  # of a question: the form it came from
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("сообщение")
        verbose_name_plural = _("сообщения")
        constraints = [
            models.UniqueConstraint(fields=["thread", "place"], name="playground_message_one_per_place"),
            models.UniqueConstraint(
                fields=["customer_id", "idempotency_key"], name="playground_message_one_per_key"
            ),
            models.CheckConstraint(
                condition=Q(role="user", question=None, run_id=None) | Q(role="assistant", text=""),
                name="playground_message_text_or_run",
            ),
        ]
        indexes = [
            models.Index(fields=["run_id"], name="playground_message_of_run", condition=~Q(run_id=None))
        ]

    def __str__(self) -> str:
        return f"message {self.id}"
