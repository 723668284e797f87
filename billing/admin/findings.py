"""What the checks of the books found: who looks after it, what explains it, what mended it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from auditlog import reasons
from auditlog.admin import OperatorActs
from billing import check_words, reconciliation
from billing.admin.base import MoneyAdmin, link
from billing.watch_models import ReconciliationFinding

REFUSALS = {"finding_closed": _("Находка уже закрыта.")}
State = ReconciliationFinding.State


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    reason = forms.CharField(
        label=_("Причина"),
        min_length=reasons.SHORTEST,
        max_length=reasons.LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Останется в журнале вместе с вашим именем."),
    )


class FindingActs(OperatorActs):
    actions_detail = ["take", "explain", "close"]

    def has_standing_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """What is closed needs no button."""
        rows = ReconciliationFinding.objects.standing()
        return rows.filter(pk=self.id_from_path(object_id)).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Взять себе"), url_path="take", icon="person", permissions=["act", "standing"]
    )
    def take(self, request: HttpRequest, object_id: str) -> HttpResponse:
        finding_id = self.id_from_path(object_id)
        return self.perform(
            request,
            lambda now, actor: reconciliation.take(finding_id=finding_id, now=now, actor=actor),
            done=_("Находка за вами."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Объяснить"),
        url_path="explain",
        icon="chat",
        permissions=["act", "standing"],
        dialog={
            "title": _("Объяснить находку"),
            "description": _("Она останется, но не будет тревожить, пока проверка говорит то же самое."),
            "form_class": ReasonForm,
            "form_submit_text": _("Объяснить"),
        },
    )
    def explain(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        finding_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: reconciliation.explain(
                finding_id=finding_id, reason=reason, now=now, actor=actor
            ),
            done=_("Находка объяснена."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Закрыть"),
        url_path="close",
        icon="check",
        permissions=["act", "standing"],
        dialog={
            "title": _("Закрыть находку"),
            "description": _("Напишите, чем исправлено. Если проверка найдёт её снова, она откроется."),
            "form_class": ReasonForm,
            "form_submit_text": _("Закрыть"),
        },
    )
    def close(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        finding_id, evidence = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: reconciliation.close(
                finding_id=finding_id, evidence=evidence, now=now, actor=actor
            ),
            done=_("Находка закрыта."),
            refusals=REFUSALS,
            object_id=object_id,
        )


class CheckFilter(admin.SimpleListFilter):
    """The checks that have found something, in words."""

    title = _("проверка")
    parameter_name = "check_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = (
            ReconciliationFinding.objects.order_by("check_id").values_list("check_id", flat=True).distinct()
        )
        return [(check_id, f"{check_id}. {check_words.promise(check_id)}") for check_id in found]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ReconciliationFinding]
    ) -> QuerySet[ReconciliationFinding]:
        return queryset.filter(check_id=self.value()) if self.value() else queryset


@admin.register(ReconciliationFinding)
class ReconciliationFindingAdmin(FindingActs, MoneyAdmin):
    list_display = [
        "first_seen_at",
        "condition",
        "check_id",
        "promise",
        "object",
        "detail",
        "owner",
        "last_seen_at",
    ]
    list_filter = ["state", CheckFilter, "first_seen_at"]
    search_fields = ["id__exact", "object", "detail"]
    ordering = ["-first_seen_at", "-id"]
    nothing_yet = _("Находок нет. Проверки книг идут каждый день и пишут сюда сами.")
    fields = [
        "state",
        "check_id",
        "promise",
        "object",
        "detail",
        "first_seen_at",
        "last_seen_at",
        "owner",
        "reason",
        "decided_by",
        "decided_at",
    ]

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="state",
        label={"open": "danger", "explained": "warning", "closed": "success"},
    )
    def condition(self, finding: ReconciliationFinding) -> tuple[str, str]:
        return finding.state, finding.get_state_display()

    @display(description=_("Что должно быть"))  # type: ignore[untyped-decorator]
    def promise(self, finding: ReconciliationFinding) -> str:
        return check_words.promise(finding.check_id)

    @display(description=_("Разбирает"), ordering="owner_id")  # type: ignore[untyped-decorator]
    def owner(self, finding: ReconciliationFinding) -> SafeString | str:
        return link("accounts_user", finding.owner_id) if finding.owner_id else "-"

    @display(description=_("Решил"), ordering="decided_by_id")  # type: ignore[untyped-decorator]
    def decided_by(self, finding: ReconciliationFinding) -> SafeString | str:
        if finding.decided_by_id:
            return link("accounts_user", finding.decided_by_id)
        return gettext("Проверка больше этого не находит") if finding.state == State.CLOSED else "-"
