"""Tables of legal texts and of the proof that somebody accepted them.

Texts change through `documents.py` only; a published text is frozen by a database trigger. Acceptances are
written by `acceptances.record` only and never changed (a trigger refuses).
"""

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7

# Tables whose rows the application role may read and insert, never change or delete.
PROTECTED_TABLES = ("legal_acceptance",)


class LegalDocument(models.Model):
    """A document as such: what it is about, whom it addresses, in which language."""

    class Kind(models.TextChoices):
        OFFER = "offer", _("Публичная оферта")
        PRIVACY_POLICY = "privacy_policy", _("Политика обработки персональных данных")
        REFUND_RULES = "refund_rules", _("Правила возврата")
        TARIFFS = "tariffs", _("Тарифы")

    class Audience(models.TextChoices):
        EVERYONE = "everyone", _("все")
        COMPANIES = "companies", _("организации")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(_("вид"), max_length=40, choices=Kind)
    audience = models.CharField(_("для кого"), max_length=20, choices=Audience, default=Audience.EVERYONE)
    locale = models.CharField(_("язык"), max_length=10, default="ru")

    class Meta:
        verbose_name = _("документ")
        verbose_name_plural = _("документы")
        constraints = [
            models.UniqueConstraint(fields=["kind", "audience", "locale"], name="legal_document_exists_once"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.get_audience_display()}, {self.locale}"


class DocumentVersionQuerySet(models.QuerySet["DocumentVersion"]):
    def public(self) -> "DocumentVersionQuerySet":
        return self.filter(status__in=DocumentVersion.PUBLIC)

    def effective(self, at: datetime) -> "DocumentVersionQuerySet":
        """Published and already in force at `at`; the newest of one document is the one in force."""
        return self.public().filter(effective_from__lte=at)

    def of_kind(self, kind: str) -> "DocumentVersionQuerySet":
        return self.filter(document__kind=kind, document__audience=LegalDocument.Audience.EVERYONE)


class DocumentVersion(models.Model):
    """One text of a document. draft -> approved -> published -> superseded; frozen from "published" on.

    In force is the public version with the latest `effective_from` that has come; two of one document never
    share that moment, so there is exactly one.
    """

    class Status(models.TextChoices):
        DRAFT = "draft", _("черновик")
        APPROVED = "approved", _("согласован")
        PUBLISHED = "published", _("опубликован")
        SUPERSEDED = "superseded", _("заменён")

    PUBLIC = (Status.PUBLISHED, Status.SUPERSEDED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    document = models.ForeignKey(
        LegalDocument, on_delete=models.PROTECT, related_name="versions", verbose_name=_("документ")
    )
    number = models.PositiveIntegerField(_("версия"))
    status = models.CharField(_("состояние"), max_length=12, choices=Status, default=Status.DRAFT)
    title = models.CharField(_("название"), max_length=200)
    text = models.TextField(_("текст"), help_text=_("Очищенный HTML с уже подставленными данными продавца."))
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    effective_from = models.DateTimeField(_("действует с"))
    notice_days = models.PositiveSmallIntegerField(_("дней до вступления"), default=0)
    is_material_change = models.BooleanField(_("существенное изменение"), default=True)
    diff_summary = models.TextField(_("что изменилось"), blank=True)
    drafted_by = models.CharField(_("подготовил"), max_length=100, blank=True)
    approved_by = models.CharField(_("согласовал"), max_length=100, blank=True)
    approval_ref = models.CharField(_("основание согласования"), max_length=200, blank=True)
    approved_at = models.DateTimeField(_("согласовано"), null=True, blank=True)
    published_by = models.CharField(_("опубликовал"), max_length=100, blank=True)
    published_at = models.DateTimeField(_("опубликовано"), null=True, blank=True)
    created_at = models.DateTimeField(_("создано"))

    objects = DocumentVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("версия документа")
        verbose_name_plural = _("версии документов")
        constraints = [
            models.UniqueConstraint(fields=["document", "number"], name="legal_version_is_numbered_once"),
            models.UniqueConstraint(
                fields=["document", "effective_from"],
                condition=models.Q(status__in=("published", "superseded")),
                name="legal_version_is_alone_in_force",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title}, {self.number}"


class Acceptance(models.Model):
    """Somebody accepted one version of one document: which text, when, from where."""

    class Act(models.TextChoices):
        REGISTRATION = "registration", _("регистрация")
        CHECKOUT = "checkout", _("оплата")
        ACCOUNT = "account", _("кабинет")

    class Surface(models.TextChoices):
        SITE = "site", _("сайт")
        API = "api", _("API")
        SYSTEM = "system", _("система")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.UUIDField(_("кто"))  # evidence outlives the account, so no foreign key
    version = models.ForeignKey(
        DocumentVersion,
        on_delete=models.PROTECT,
        related_name="acceptances",
        verbose_name=_("версия документа"),
    )
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    act = models.CharField(_("при каком действии"), max_length=20, choices=Act)
    order_id = models.UUIDField(_("заказ"), null=True, blank=True)
    created_at = models.DateTimeField(_("время"))
    ip = models.GenericIPAddressField(_("адрес"), null=True, blank=True)
    user_agent = models.CharField(_("программа"), max_length=400, blank=True)
    request_id = models.CharField(_("id запроса"), max_length=128, blank=True)
    locale = models.CharField(_("язык"), max_length=10)
    surface = models.CharField(_("где"), max_length=10, choices=Surface)

    class Meta:
        verbose_name = _("принятие документа")
        verbose_name_plural = _("принятия документов")
        constraints = [
            models.UniqueConstraint(
                fields=["user_id", "version", "order_id"],
                nulls_distinct=False,
                name="legal_acceptance_is_given_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.version_id}"
