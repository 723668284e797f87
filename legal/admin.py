"""Back office of the legal documents: draft from a file, approve with a reference, publish.

Texts are written in files and reviewed there; nothing is typed into this page but the facts of a decision.
Who accepted them is shown by accounts, which know people.
"""

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from auditlog.admin import OperatorActs, ReadOnlyAdmin
from legal import documents, words
from legal.models import DocumentVersion, LegalDocument
from plyrum import clock


class DraftForm(BaseDialogForm):  # type: ignore[misc]
    kind = forms.ChoiceField(
        label=_("Вид"), choices=LegalDocument.Kind.choices, widget=UnfoldAdminSelectWidget
    )
    number = forms.IntegerField(
        label=_("Номер версии"), min_value=1, max_value=9_999, widget=UnfoldAdminIntegerFieldWidget
    )
    effective_from = forms.DateTimeField(
        label=_("Действует с (московское время)"), initial=clock.now, widget=UnfoldAdminTextInputWidget
    )
    notice_days = forms.IntegerField(
        label=_("Дней до вступления"),
        min_value=0,
        max_value=365,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    is_material_change = forms.BooleanField(
        label=_("Существенное изменение: клиенты принимают заново"),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
    )
    diff_summary = forms.CharField(
        label=_("Что изменилось"), required=False, widget=UnfoldAdminTextareaWidget
    )


class ApproveForm(BaseDialogForm):  # type: ignore[misc]
    approval_ref = forms.CharField(
        label=_("Письмо или договор, которым согласован текст"),
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
    )


@admin.register(DocumentVersion)
class DocumentVersionAdmin(OperatorActs, ReadOnlyAdmin):
    list_display = ["title", "document", "number", "status", "effective_from"]
    list_filter = ["status", "document__kind"]
    list_select_related = ["document"]
    search_fields = ["title", "sha256"]
    ordering = ["-effective_from", "-id"]
    actions_list = ["draft_version"]
    actions_detail = ["approve_version", "publish_version"]

    @action(  # type: ignore[untyped-decorator]
        description=_("Подготовить версию из файла"),
        url_path="draft",
        permissions=["act"],
        dialog={
            "title": _("Подготовить версию из файла"),
            "description": _("Текст берётся из templates/legal/<вид>/<номер>.html."),
            "form_class": DraftForm,
            "form_submit_text": _("Подготовить"),
        },
    )
    def draft_version(self, request: HttpRequest, form: DraftForm) -> HttpResponse:
        facts = {name: value for name, value in form.cleaned_data.items() if not name.startswith("_")}
        return self.perform(
            request,
            lambda now, actor: documents.draft(now=now, actor=actor, **facts),
            done=_("Черновик подготовлен."),
            refusals=words.REFUSALS,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Согласовать"),
        url_path="approve",
        permissions=["act"],
        dialog={
            "title": _("Согласовать текст"),
            "description": _("Согласует не тот, кто готовил. Текст не должен содержать пометок черновика."),
            "form_class": ApproveForm,
            "form_submit_text": _("Согласовать"),
        },
    )
    def approve_version(self, request: HttpRequest, form: ApproveForm, object_id: str) -> HttpResponse:
        ref = form.cleaned_data["approval_ref"]
        version_id = self.id_from_path(object_id)
        return self.perform(
            request,
            lambda now, actor: documents.approve(
                version_id=version_id, approval_ref=ref, now=now, actor=actor
            ),
            done=_("Текст согласован."),
            refusals=words.REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Опубликовать"),
        url_path="publish",
        permissions=["act"],
        dialog={
            "title": _("Опубликовать версию"),
            "description": _("После публикации текст, хеш и даты изменить нельзя."),
            "form_class": BaseDialogForm,
            "form_submit_text": _("Опубликовать"),
        },
    )
    def publish_version(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        version_id = self.id_from_path(object_id)
        return self.perform(
            request,
            lambda now, actor: documents.publish(version_id=version_id, now=now, actor=actor),
            done=_("Версия опубликована."),
            refusals=words.REFUSALS,
            object_id=object_id,
        )
