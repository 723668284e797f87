"""Back office of people: look, block with a reason, let back in. Nobody here sees or sets a password."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import api_keys, blocking, key_secrets
from accounts.models import ApiKey, Notice, RefreshFamily, User
from accounts.people import CustomerByEmail, customer_words
from auditlog.admin import LINK, OperatorActs, ReadOnlyAdmin
from legal.models import Acceptance
from plyrum import clock

# Folders of templates/emails that the outbox sends, as operators call them.
LETTERS: dict[str, Promise | str] = {
    "api_key_issued": _("создан ключ API"),
    "api_key_revoked": _("ключ API отозван оператором"),
    "balance_low": _("осталось мало денег"),
    "closing_document_ready": _("готов закрывающий документ"),
    "invoice_issued": _("счёт выставлен"),
    "invoice_paid": _("счёт оплачен"),
    "limit_reached": _("достигнут лимит"),
    "plan_ended": _("тариф закончился"),
    "plan_ending": _("тариф скоро закончится"),
    "plan_past_due": _("на продление не хватило"),
    "plan_renewed": _("тариф продлён"),
}


LISTS_OF_CUSTOMER: tuple[tuple[str, Promise | str], ...] = (
    ("billing_wallet", _("Кошелёк")),
    ("billing_ledgerentry", _("Проводки")),
    ("payments_payment", _("Пополнения")),
    ("plans_subscription", _("Подписка")),
    ("orchestration_run", _("Запуски")),
    ("accounts_apikey", _("Ключи API")),
    ("payments_invoice", _("Счета")),
    ("legal_acceptance", _("Принятия")),
)


KEY_STATES: dict[str, Promise | str] = {
    "active": _("работает"),
    "expired": _("срок вышел"),
    "revoked": _("отозван"),
}


class LetterFilter(admin.SimpleListFilter):
    title = _("письмо")
    parameter_name = "letter"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(letter, str(words)) for letter, words in LETTERS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Notice]) -> QuerySet[Notice]:
        return queryset.filter(letter=self.value()) if self.value() else queryset


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    reason = forms.CharField(
        label=_("Причина"), max_length=blocking.REASON_CHARS, widget=UnfoldAdminTextareaWidget
    )


@admin.register(User)
class UserAdmin(OperatorActs, ReadOnlyAdmin):
    list_display = ["email", "email_verified", "is_active", "role", "locale", "created_at", "blocked_at"]
    list_filter = ["is_active", "email_verified", "role", "created_at"]
    search_fields = ["email", "id__exact"]
    ordering = ["-created_at", "-id"]
    fields = [
        "id",
        "email",
        "email_verified",
        "locale",
        "created_at",
        "last_login",
        "is_active",
        "blocked_at",
        "blocked_reason",
        "is_staff",
        "role",
        "elsewhere",
    ]
    readonly_fields = fields
    actions_detail = ["block_user", "unblock_user"]

    @display(description=_("Дальше"))  # type: ignore[untyped-decorator]
    def elsewhere(self, user: User) -> SafeString:
        """The lists that hold this customer's rows, by name: their apps stand above us."""
        return format_html_join(
            " · ",
            LINK,
            (
                (f"{reverse(f'admin:{page}_changelist')}?q={user.pk}", words)
                for page, words in LISTS_OF_CUSTOMER
            ),
        )

    def has_block_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return self._is(object_id, is_active=True)

    def has_unblock_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return self._is(object_id, is_active=False)

    def _is(self, object_id: str, *, is_active: bool) -> bool:
        """The button that would change nothing is not shown."""
        return User.objects.filter(pk=self.id_from_path(object_id), is_active=is_active).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Заблокировать"),
        url_path="block",
        permissions=["act", "block"],
        dialog={
            "title": _("Заблокировать клиента"),
            "description": _("Все сессии закончатся сразу. Деньги и документы остаются."),
            "form_class": ReasonForm,
            "form_submit_text": _("Заблокировать"),
        },
    )
    def block_user(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        user_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: blocking.block(user_id=user_id, reason=reason, now=now, actor=actor),
            done=_("Клиент заблокирован."),
            refusals={"conflict": _("Свой аккаунт не заблокировать.")},
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Разблокировать"),
        url_path="unblock",
        permissions=["act", "unblock"],
        dialog={
            "title": _("Разблокировать клиента"),
            "description": _("Клиент сможет войти снова. Прежние сессии не оживут."),
            "form_class": ReasonForm,
            "form_submit_text": _("Разблокировать"),
        },
    )
    def unblock_user(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        user_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: blocking.unblock(user_id=user_id, reason=reason, now=now, actor=actor),
            done=_("Клиент разблокирован."),
            object_id=object_id,
        )


@admin.register(RefreshFamily)
class RefreshFamilyAdmin(ReadOnlyAdmin):
    list_display = ["id", "user", "created_at", "absolute_expires_at", "revoked_at", "revoke_reason", "ip"]
    list_filter = ["revoke_reason", "created_at"]
    list_select_related = ["user"]
    search_fields = ["id__exact", "user__id__exact", "user__email"]
    ordering = ["-created_at", "-id"]
    nothing_yet = _("Сессия появляется, когда клиент входит через API.")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [
            "id",
            "user",
            "created_at",
            "absolute_expires_at",
            "revoked_at",
            "revoke_reason",
            "ip",
            "user_agent",
        ]


class KeyStateFilter(admin.SimpleListFilter):
    title = _("состояние")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, str(words)) for state, words in KEY_STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = clock.now()
        chosen = {
            "active": Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now)),
            "expired": Q(revoked_at__isnull=True, expires_at__lte=now),
            "revoked": Q(revoked_at__isnull=False),
        }
        state = self.value()
        return queryset.filter(chosen[state]) if state in chosen else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorActs, ReadOnlyAdmin):
    """What a key is kept as stays out of sight."""

    list_display = ["name", "begins", "user", "state", "created_at", "last_used_at"]
    list_filter = [KeyStateFilter, "created_at"]
    list_select_related = ["user"]
    search_fields = ["id__exact", "public_id__exact", "user__id__exact", "user__email"]
    ordering = ["-id"]
    nothing_yet = _("Ключ появляется, когда клиент создаёт его на странице «Ключи API» или через API.")
    fields = [
        "id",
        "name",
        "begins",
        "user",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
        "models",
        "ip_allow",
    ]
    readonly_fields = fields
    actions_detail = ["revoke_key"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        """Also by what a key begins with, as it is shown."""
        found, has_duplicates = super().get_search_results(
            request, queryset, search_term.strip().removeprefix(key_secrets.PREFIX)
        )
        return found, bool(has_duplicates)

    @display(description=_("Начинается с"), ordering="public_id")  # type: ignore[untyped-decorator]
    def begins(self, key: ApiKey) -> str:
        return key.prefix

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"), label={"active": "success", "expired": "warning", "revoked": "danger"}
    )
    def state(self, key: ApiKey) -> tuple[str, str]:
        state = key.state(clock.now())
        return state, str(KEY_STATES[state])

    def has_revoke_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """The button that would change nothing is not shown."""
        return ApiKey.objects.filter(pk=self.id_from_path(object_id), revoked_at__isnull=True).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Отозвать"),
        url_path="revoke",
        permissions=["act", "revoke"],
        dialog={
            "title": _("Отозвать ключ"),
            "description": _("Навсегда. Ответы, которые идут по нему, остановятся. Другие ключи работают."),
            "form_class": ReasonForm,
            "form_submit_text": _("Отозвать"),
        },
    )
    def revoke_key(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        key_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: api_keys.revoke(key_id=key_id, now=now, actor=actor, reason=reason),
            done=_("Ключ отозван."),
            object_id=object_id,
        )


@admin.register(Notice)
class NoticeAdmin(CustomerByEmail, ReadOnlyAdmin):
    """What a letter says stays out of sight."""

    customer_field = "user_id"
    list_display = ["created_at", "told", "customer", "state", "attempts", "finished_at"]
    list_filter = ["outcome", LetterFilter, "created_at"]
    search_fields = ["id__exact", "user_id__exact", "key"]
    ordering = ["-id"]
    nothing_yet = _(
        "Письмо появляется вместе с событием, о котором оно говорит: счёт, тариф, лимит, остаток, ключ API."
    )
    fields = [
        "id",
        "customer",
        "told",
        "key",
        "outcome",
        "attempts",
        "error",
        "next_attempt_at",
        "created_at",
    ]
    readonly_fields = [*fields, "finished_at"]

    @display(description=_("Письмо"), ordering="letter")  # type: ignore[untyped-decorator]
    def told(self, notice: Notice) -> str:
        return str(LETTERS.get(notice.letter, notice.letter))

    @display(description=_("Клиент"), ordering="user_id")  # type: ignore[untyped-decorator]
    def customer(self, notice: Notice) -> SafeString:
        return _customer(notice)

    @display(  # type: ignore[untyped-decorator]
        description=_("Исход"),
        ordering="outcome",
        label={"": "info", "sent": "success", "dropped": "warning", "parked": "danger"},
    )
    def state(self, notice: Notice) -> tuple[str, str]:
        return notice.outcome, notice.get_outcome_display()


@admin.register(Acceptance)
class AcceptanceAdmin(CustomerByEmail, ReadOnlyAdmin):
    """Here and not with the texts, which stand below people."""

    customer_field = "user_id"
    list_display = ["created_at", "customer", "version", "act", "surface", "ip"]
    list_filter = ["act", "surface", "version__document__kind", "created_at"]
    list_select_related = ["version"]
    search_fields = ["user_id__exact", "order_id__exact", "request_id"]
    ordering = ["-created_at", "-id"]
    nothing_yet = _("Принятие появляется, когда клиент соглашается с документом: при регистрации или оплате.")
    fields = [
        "customer",
        "version",
        "sha256",
        "act",
        "order_id",
        "created_at",
        "ip",
        "user_agent",
        "request_id",
        "locale",
        "surface",
    ]
    readonly_fields = fields

    @display(description=_("Клиент"), ordering="user_id")  # type: ignore[untyped-decorator]
    def customer(self, acceptance: Acceptance) -> SafeString:
        return _customer(acceptance)


def _customer(row: Notice | Acceptance) -> SafeString:
    address = reverse("admin:accounts_user_change", args=[row.user_id])
    words = customer_words(row, row.user_id)
    return format_html(LINK, address, words)
