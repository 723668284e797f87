"""Threads and what was said in them. An answer's text is kept with its run; a message names the run."""

from django.conf import settings
from django.db import models

from plyrum.ids import uuid7


class Thread(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="threads", db_constraint=False
    )
    title = models.CharField(max_length=120)
    model = models.CharField(max_length=100, default="", blank=True)  # the choice of this thread
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "переписка"
        verbose_name_plural = "переписки"
        indexes = [models.Index(fields=["user", "-updated_at"], name="playground_thread_recent")]

    def __str__(self) -> str:
        return f"thread {self.id}"


class Message(models.Model):
    """A question (text kept here) or an answer (text kept with its run)."""

    class Role(models.TextChoices):
        USER = "user", "вопрос"
        ASSISTANT = "assistant", "ответ"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="messages")
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(default="", blank=True)
    run_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "сообщение"
        verbose_name_plural = "сообщения"
        indexes = [models.Index(fields=["thread", "id"], name="playground_message_order")]

    def __str__(self) -> str:
        return f"message {self.id}"
