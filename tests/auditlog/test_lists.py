"""Lists of the back office: what they say when there is nothing to show."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client, RequestFactory

from auditlog.admin import JobRunAdmin
from auditlog.models import JobRun
from tests import factories


class NoRows(JobRunAdmin):
    """A list whose table is empty."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[JobRun]:
        return JobRun.objects.none()


def test_empty_list_speaks_of_filters_only_where_something_is_filtered(rf: RequestFactory) -> None:
    bare, narrowed = _list(rf), _list(rf, q="nothing-is-called-so")

    assert "Пока ничего нет" in bare
    assert str(JobRunAdmin.nothing_yet) in bare
    assert "Показать все" not in bare
    assert "Ничего не нашлось" in narrowed
    assert 'href="?"' in narrowed


def test_count_does_not_offer_to_show_all_where_all_is_shown(client: Client) -> None:
    client.force_login(factories.operator())

    whole = client.get("/admin/accounts/user/").content.decode()
    narrowed = client.get("/admin/accounts/user/", {"q": "nobody-is-called-so"}).content.decode()

    assert '(<a href="?">' not in whole
    assert '(<a href="?">' in narrowed


def test_every_state_has_its_pill() -> None:
    """Unfold shows a state that its pills do not know as the database spells it."""
    pages: Any = admin.site._registry
    bare = [
        f"{type(page).__name__}.{name}: {state}"
        for model, page in pages.items()
        for name in page.list_display
        if isinstance(pills := getattr(getattr(page, str(name), None), "label", None), dict)
        if hasattr(getattr(page, str(name)), "admin_order_field")  # not of a state that time makes
        for state, _words in model._meta.get_field(getattr(page, str(name)).admin_order_field).flatchoices
        if state not in pills
    ]

    assert bare == []


def _list(rf: RequestFactory, **query: Any) -> str:
    request = rf.get("/admin/auditlog/jobrun/", query)
    request.user = factories.operator()
    answer: Any = NoRows(JobRun, admin.site).changelist_view(request)
    return str(answer.render().content.decode())
