"""Tables of the journal (append-only, enforced by the database) and of periodic work.

Rows of `AuditEvent` are written by `journal.record` only, rows of `JobRun` by `jobs.run_job` only.
"""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7

# Tables whose rows the application role may read and insert, never change or delete.
PROTECTED_TABLES = ("auditlog_auditevent",)


class AuditEvent(models.Model):
    """One thing that somebody did, tried or was refused."""

    class Status(models.TextChoices):
        OK = "ok", _("выполнено")
        DENIED = "denied", _("отказано")
        FAILED = "failed", _("ошибка")

    class ActorKind(models.TextChoices):
        CUSTOMER = "customer", _("клиент")
        OPERATOR = "operator", _("сотрудник")
        SYSTEM = "system", _("система")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # A sequence, not a locked head row: acts do not queue behind each other's commits. Gaps are rollbacks.
    seq = models.BigIntegerField(
        _("номер"),
        unique=True,
        editable=False,
        db_default=models.Func(models.Value("auditlog_auditevent_seq"), function="nextval"),
    )
    action = models.CharField(_("действие"), max_length=100)
    status = models.CharField(_("исход"), max_length=10, choices=Status, default=Status.OK)
    actor_kind = models.CharField(_("кто"), max_length=10, choices=ActorKind)
    actor_id = models.CharField(_("id участника"), max_length=100, blank=True)
    target_user_id = models.UUIDField(_("о ком"), null=True, blank=True)
    subject = models.CharField(_("предмет"), max_length=200, blank=True)
    data = models.JSONField(_("подробности"), default=dict, encoder=DjangoJSONEncoder)
    ip = models.GenericIPAddressField(_("адрес"), null=True, blank=True)
    request_id = models.CharField(_("id запроса"), max_length=128, blank=True)
    created_at = models.DateTimeField(_("время"), db_default=Now())

    class Meta:
        verbose_name = _("событие аудита")
        verbose_name_plural = _("аудит")
        indexes = [
            models.Index(fields=["action", "-seq"], name="auditlog_event_by_action"),
            models.Index(fields=["actor_id", "-seq"], name="auditlog_event_by_actor"),
            models.Index(fields=["target_user_id", "-seq"], name="auditlog_event_by_target"),
            models.Index(fields=["created_at"], name="auditlog_event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"


class JobRun(models.Model):
    """One slot of one periodic job. running -> done | failed; failed or abandoned -> running again."""

    class Outcome(models.TextChoices):
        RUNNING = "running", _("идёт")
        DONE = "done", _("выполнено")
        FAILED = "failed", _("ошибка")
        SKIPPED = "skipped", _("пропущено")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("задание"), max_length=100)
    slot = models.CharField(_("окно"), max_length=64)
    attempts = models.PositiveIntegerField(_("попыток"), default=1)
    started_at = models.DateTimeField(_("начато"))
    finished_at = models.DateTimeField(_("закончено"), null=True, blank=True)
    outcome = models.CharField(_("исход"), max_length=10, choices=Outcome, default=Outcome.RUNNING)
    detail = models.CharField(_("пояснение"), max_length=500, blank=True)
    counts = models.JSONField(_("числа"), default=dict)

    class Meta:
        verbose_name = _("задание")
        verbose_name_plural = _("задания")
        constraints = [
            models.UniqueConstraint(fields=["name", "slot"], name="auditlog_jobrun_runs_once_a_slot"),
        ]
        indexes = [models.Index(fields=["-started_at"], name="auditlog_jobrun_by_time")]

    def __str__(self) -> str:
        return f"{self.name} {self.slot}"
