"""Tables of people, of their API sessions and keys.

People change through the acts of this app (`signup`, `sessions`, `api_keys`, `blocking`, `operators`). A
refresh token is stored as a SHA-256 only; a family is one sign-in with everything that was rotated out of it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from accounts import key_secrets, roles
from plyrum import clock
from plyrum.ids import uuid7

PROTECTED_TABLES: tuple[str, ...] = ()


class UserManager(BaseUserManager["User"]):
    """Looks people up; they are made by the acts `signup.register` and `operators.create` only."""


class User(AbstractBaseUser, PermissionsMixin):
    """A person: a customer, or an operator when `is_operator`."""

    Role = roles.Role

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.CharField(
        _("почта"), max_length=254, unique=True, error_messages={"unique": _("Эта почта уже занята.")}
    )
    email_verified = models.BooleanField(_("почта подтверждена"), default=False)
    is_active = models.BooleanField(_("активен"), default=True)
    is_staff = models.BooleanField(_("сотрудник"), default=False)
    role = models.CharField(_("роль"), max_length=20, choices=roles.Role, blank=True, default=roles.Role.NONE)
    locale = models.CharField(_("язык"), max_length=10, default="ru")
    # Raised when every session must end: password change, "sign out everywhere", blocking.
    token_version = models.PositiveIntegerField(_("поколение сессий"), default=1)
    blocked_at = models.DateTimeField(_("заблокирован"), null=True, blank=True)
    blocked_reason = models.CharField(_("причина блокировки"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("создан"), default=clock.now)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("клиент")
        verbose_name_plural = _("клиенты")
        constraints = [
            # With the unique column this makes the address unique whatever its letters' case.
            models.CheckConstraint(
                condition=Q(email=Lower("email")), name="accounts_user_email_is_lower_case"
            ),
        ]
        indexes = [models.Index(fields=["-created_at"], name="accounts_user_by_time")]

    def __str__(self) -> str:
        return self.email

    @property
    def is_operator(self) -> bool:
        return self.operator_role != roles.Role.NONE

    @property
    def operator_role(self) -> str:
        """The role this person works in: named in the settings means owner; "" means a customer."""
        return roles.working_role(user_id=self.id, is_staff=self.is_staff, role=self.role)

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.is_active and roles.allows(self.operator_role, perm)

    def has_perms(self, perm_list: Iterable[str], obj: Any = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and roles.opens(self.operator_role, app_label)

    def get_session_auth_hash(self) -> str:
        """Site sessions end with the password and with the token version, as API sessions do."""
        return self._session_hash(settings.SECRET_KEY)

    def get_session_auth_fallback_hash(self) -> Iterable[str]:
        return (self._session_hash(secret) for secret in settings.SECRET_KEY_FALLBACKS)

    def _session_hash(self, secret: str | bytes) -> str:
        value = f"{self.password}:{self.token_version}"
        return salted_hmac("accounts.User.session", value, secret=secret, algorithm="sha256").hexdigest()


class RefreshFamilyQuerySet(models.QuerySet["RefreshFamily"]):
    def alive(self, now: datetime) -> "RefreshFamilyQuerySet":
        return self.filter(revoked_at__isnull=True, absolute_expires_at__gt=now)


class RefreshFamily(models.Model):
    """One API sign-in: alive -> revoked. Nothing outlives `absolute_expires_at`, however often rotated."""

    class RevokeReason(models.TextChoices):
        LOGOUT = "logout", _("выход")
        LOGOUT_ALL = "logout_all", _("выход везде")
        REUSE = "reuse", _("повтор использованного токена")
        PASSWORD = "password", _("смена пароля")
        BLOCKED = "blocked", _("блокировка")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="refresh_families", verbose_name=_("клиент")
    )
    created_at = models.DateTimeField(_("начата"))
    absolute_expires_at = models.DateTimeField(_("кончается"))
    revoked_at = models.DateTimeField(_("отозвана"), null=True, blank=True)
    revoke_reason = models.CharField(
        _("причина отзыва"), max_length=20, choices=RevokeReason, blank=True, default=""
    )
    ip = models.GenericIPAddressField(_("адрес"), null=True, blank=True)
    user_agent = models.CharField(_("программа"), max_length=400, blank=True)

    objects = RefreshFamilyQuerySet.as_manager()

    class Meta:
        verbose_name = _("сессия API")
        verbose_name_plural = _("сессии API")
        indexes = [models.Index(fields=["absolute_expires_at"], name="accounts_family_by_end")]

    def __str__(self) -> str:
        return str(self.id)


class RefreshToken(models.Model):
    """One issued token: unused -> used, by one conditional update that exactly one caller wins."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    family = models.ForeignKey(RefreshFamily, on_delete=models.CASCADE, related_name="tokens")
    # Unique: two children of one parent are impossible, whatever the code does.
    parent = models.OneToOneField(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="child"
    )
    token_hash = models.CharField(max_length=64, unique=True)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("токен обновления")
        verbose_name_plural = _("токены обновления")

    def __str__(self) -> str:
        return str(self.id)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def alive(self, now: datetime) -> "ApiKeyQuerySet":
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiKey(models.Model):
    """A customer's key of the API: alive -> revoked, or over with `expires_at`. Rows stay: usage names them.

    Of its text the row has the public id and a digest (`key_secrets`).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        User, on_delete=models.PROTECT, related_name="api_keys", verbose_name=_("клиент")
    )
    name = models.CharField(_("название"), max_length=60)
    public_id = models.CharField(_("начало ключа"), max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    pepper_version = models.PositiveSmallIntegerField()
    # Networks, and below ids of the catalogue; empty: every address, all models.
    ip_allow = ArrayField(models.CharField(max_length=50), verbose_name=_("адреса"), default=list)
    created_at = models.DateTimeField(_("создан"))
    expires_at = models.DateTimeField(_("действует до"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("последний запрос"), null=True, blank=True)  # to the hour
    revoked_at = models.DateTimeField(_("отозван"), null=True, blank=True)
    # Of the call that made it; a repeat is answered without the secret. Empty: it named none.
    idempotency_key = models.CharField(max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    # The last one: from here on the name is the field's and no longer Django's module.
    models = ArrayField(models.CharField(max_length=100), verbose_name=_("модели"), default=list)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("ключ API")
        verbose_name_plural = _("ключи API")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="accounts_apikey_one_a_call",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def prefix(self) -> str:
        return key_secrets.prefix_of(self.public_id)

    @property
    def valid_through(self) -> datetime | None:
        """The last moment at which it works; its day is the one that was chosen in the form."""
        return self.expires_at - timedelta(microseconds=1) if self.expires_at is not None else None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class NoticeQuerySet(models.QuerySet["Notice"]):
    def due(self, now: datetime) -> "NoticeQuerySet":
        """Waiting to be sent, and their pause is over."""
        return self.filter(next_attempt_at__lte=now)


class Notice(models.Model):
    """A letter that must follow a commit: written in the act's transaction, sent by a task (outbox).

    waiting (next_attempt_at set) -> sent | dropped (nobody is there to read it) | parked (no attempt left).
    """

    class Outcome(models.TextChoices):
        WAITING = "", _("ждёт")
        SENT = "sent", _("отправлено")
        DROPPED = "dropped", _("некому: аккаунт закрыт")
        PARKED = "parked", _("отложено: попытки кончились")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.UUIDField(_("клиент"))  # no foreign key: what was told stays known after the person left
    letter = models.CharField(_("письмо"), max_length=40)  # a folder of templates/emails
    key = models.CharField(_("ключ"), max_length=200, unique=True)  # the fact it tells of: told once
    facts = models.JSONField(_("содержание"), default=dict)  # emptied once it is sent
    created_at = models.DateTimeField(_("записано"))
    attempts = models.PositiveIntegerField(_("попыток"), default=0)
    next_attempt_at = models.DateTimeField(_("следующая попытка"), null=True, blank=True)
    outcome = models.CharField(_("исход"), max_length=8, choices=Outcome, default="", blank=True)
    finished_at = models.DateTimeField(_("окончено"), null=True, blank=True)
    error = models.CharField(_("ошибка"), max_length=100, blank=True)  # the kind of it, never an address

    objects = NoticeQuerySet.as_manager()

    class Meta:
        verbose_name = _("письмо клиенту")
        verbose_name_plural = _("письма клиентам")
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="accounts_notice_due",
                condition=Q(next_attempt_at__isnull=False),
            ),
            models.Index(fields=["user_id", "-id"], name="accounts_notice_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"
