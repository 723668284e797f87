"""Back office of people: look, block with a reason, let back in. Nobody here sees or sets a password."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import blocking
from accounts.models import Notice, RefreshFamily, User
from auditlog.admin import OperatorActs, ReadOnlyAdmin


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
    ]
    readonly_fields = fields
    actions_detail = ["block_user", "unblock_user"]

    @action(  # type: ignore[untyped-decorator]
        description=_("Заблокировать"),
        url_path="block",
        permissions=["act"],
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
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Разблокировать"),
        url_path="unblock",
        permissions=["act"],
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


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    """What a letter says stays out of sight."""

    list_display = ["id", "user_id", "letter", "outcome", "attempts", "created_at", "finished_at"]
    list_filter = ["outcome", "letter", "created_at"]
    search_fields = ["id__exact", "user_id__exact", "key"]
    ordering = ["-id"]
    fields = [
        "id",
        "user_id",
        "letter",
        "key",
        "outcome",
        "attempts",
        "error",
        "next_attempt_at",
        "created_at",
    ]
    readonly_fields = [*fields, "finished_at"]
