"""Back office of the journal: everything may be read, nothing may be added, changed or deleted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from auditlog.actors import Actor
from auditlog.models import AuditEvent, JobRun
from auditlog.requests import operator_of
from plyrum import clock
from plyrum.errors import NotFound, PlyrumError

# Words for the code of an error, or what makes them of the error itself.
Words = Promise | str | Callable[[Any], str]
NO_WORDS: Mapping[str, Words] = {}
NOT_FOUND = _("Такой строки больше нет.")  # whatever the act was about
LINK = '<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>'
SECRET_WORDS = ("password", "token", "hash", "digest", "secret", "key_")


def table(label: object, titles: Iterable[object], rows: Iterable[Sequence[object]]) -> SafeString:
    """A small table within a field of a page; on a narrow screen it is moved within its own place."""
    head = format_html_join(
        "", '<th class="px-3 py-1.5 text-left font-semibold">{}</th>', ((title,) for title in titles)
    )
    cell = '<td class="border-t border-base-200 px-3 py-1.5 align-top dark:border-base-800">{}</td>'
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", cell, ((value,) for value in row)),) for row in rows)
    )
    return format_html(
        '<div class="overflow-x-auto" role="group" aria-label="{}" tabindex="0">'
        '<table class="w-full text-sm">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        label,
        head,
        body,
    )


class RowsList(ChangeList):  # type: ignore[misc]
    """A list that knows whether it shows all there is: then its rows are counted once, not twice."""

    @property
    def is_narrowed(self) -> bool:
        return bool(self.query or self.get_filters_params())

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.is_narrowed:
            self.full_result_count = self.result_count


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows to look at. Used by every app for rows that only acts may write.

    `nothing_yet` is what an empty list says: how its rows come about.
    """

    nothing_yet: Promise | str = ""
    actions = None
    list_per_page = 50
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RowsList]:
        return RowsList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """A filter answers yes or no, and so can spell a secret out letter by letter."""
        if any(word in lookup for word in SECRET_WORDS):
            return False
        return bool(super().lookup_allowed(lookup, value, request))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OperatorActs:
    """Buttons that call an act: the actor and the clock come from here, a refusal becomes a message."""

    def perform(
        self: Any,
        request: HttpRequest,
        act: Callable[[datetime, Actor], object],
        *,
        done: Promise | str | Callable[[Any], str],
        refusals: Mapping[str, Words] = NO_WORDS,
        object_id: str = "",
    ) -> HttpResponse:
        """Run `act(now, actor)`, then lead back to the object's page, or to the list without `object_id`.

        `done` is what to say, or makes it of the act's answer; `refusals` has words for codes of errors.
        """
        try:
            answer = act(clock.now(), operator_of(request))
        except PlyrumError as error:
            words = {NotFound.code: NOT_FOUND, **refusals}.get(error.code, error.detail)
            messages.error(request, words(error) if callable(words) else str(words))
        else:
            messages.success(request, done(answer) if callable(done) else str(done))
        page = "change" if object_id else "changelist"
        name = f"admin:{self.model._meta.app_label}_{self.model._meta.model_name}_{page}"
        address = reverse(name, args=[object_id] if object_id else [])
        if "HX-Request" in request.headers:
            return HttpResponse(headers={"HX-Redirect": address})
        return HttpResponseRedirect(address)

    def has_act_permission(self: Any, request: HttpRequest, object_id: str = "") -> bool:
        """For `permissions=["act"]`. A dotted name there would make Unfold's system check ask the database,
        which a first `migrate` does not have yet.
        """
        meta = self.model._meta
        return bool(request.user.has_perm(f"{meta.app_label}.change_{meta.model_name}"))

    @staticmethod
    def id_from_path(text: str) -> UUID:
        try:
            return UUID(text)
        except ValueError as error:
            raise Http404 from error


class AppFilter(admin.SimpleListFilter):
    """By the first word of the action: a fixed list, so that no page counts the whole table."""

    title = _("часть системы")
    parameter_name = "app"
    APPS = ("audit", "accounts", "billing", "legal", "orchestration", "payments", "plans", "playground")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in self.APPS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(action__startswith=f"{self.value()}.") if self.value() else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "action", "status", "actor_kind", "actor_id", "subject", "request_id"]
    list_filter = [AppFilter, "status", "actor_kind", "created_at"]
    search_fields = ["action", "subject", "actor_id", "target_user_id__exact", "request_id"]
    ordering = ["-seq"]


@admin.register(JobRun)
class JobRunAdmin(ReadOnlyAdmin):
    list_display = ["name", "slot", "outcome", "attempts", "started_at", "finished_at", "detail"]
    list_filter = ["outcome", "name", "started_at"]
    search_fields = ["name", "slot", "detail"]
    ordering = ["-started_at", "-id"]
    nothing_yet = _("Задания запускает планировщик. Если здесь долго пусто, он не работает.")
