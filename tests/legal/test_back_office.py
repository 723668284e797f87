import pytest
from django.test import Client

from accounts.models import User
from auditlog.models import AuditEvent
from legal.models import DocumentVersion
from plyrum.ids import uuid7
from tests import factories
from tests.legal.conftest import MakeVersion

SUBMIT = {"_form_submitted": "True"}


@pytest.fixture
def owner(client: Client) -> User:
    operator = factories.operator("owner")
    client.force_login(operator)
    return operator


@pytest.mark.usefixtures("owner")
def test_version_is_approved_and_published_by_dialogs(client: Client, make_version: MakeVersion) -> None:
    version = make_version(1)
    path = f"/admin/legal/documentversion/{version.pk}"

    client.post(f"{path}/approve/", {**SUBMIT, "approval_ref": "письмо 12"})
    client.post(f"{path}/publish/", SUBMIT)

    version.refresh_from_db()
    assert (version.status, version.approval_ref) == ("published", "письмо 12")
    assert client.get(f"{path}/change/").status_code == 200


@pytest.mark.usefixtures("owner")
def test_refusal_is_shown_with_its_reasons(client: Client, make_version: MakeVersion) -> None:
    version = make_version(1, text="<p>Черновик.</p>")
    form = {**SUBMIT, "approval_ref": "письмо 12"}

    page = client.post(f"/admin/legal/documentversion/{version.pk}/approve/", form, follow=True)

    shown = page.content.decode()
    assert "Эта версия не готова: в тексте осталась пометка «Черновик»." in shown
    assert DocumentVersion.objects.get(pk=version.pk).status == "draft"


def test_draft_is_made_from_a_file(client: Client, owner: User) -> None:
    form = {
        **SUBMIT,
        "kind": "tariffs",
        "number": "1",
        "effective_from": "20.11.2026 12:00",
        "notice_days": "0",
        "diff_summary": "",
    }

    dialog = client.get("/admin/legal/documentversion/draft/")
    page = client.post("/admin/legal/documentversion/draft/", form, follow=True)

    assert 'name="kind"' in dialog.content.decode()
    assert (
        "Эта версия не готова: она уже опубликована." in page.content.decode()
    )  # 1 is in force since migrating
    assert not AuditEvent.objects.filter(actor_id=str(owner.pk), action="legal.version.drafted").exists()


@pytest.mark.usefixtures("owner")
def test_draft_without_a_file_is_refused_in_the_operators_language(client: Client) -> None:
    form = {
        **SUBMIT,
        "kind": "tariffs",
        "number": "9999",
        "effective_from": "20.11.2026 12:00",
        "notice_days": "0",
    }

    page = client.post("/admin/legal/documentversion/draft/", form, follow=True)
    missing = client.post(f"/admin/legal/documentversion/{uuid7()}/publish/", SUBMIT, follow=True)

    assert "Для этой версии нет файла с текстом" in page.content.decode()
    assert "Такой строки больше нет." in missing.content.decode()


@pytest.mark.parametrize("role", ["support", "finance", "catalogue"])
def test_other_roles_only_look(client: Client, make_version: MakeVersion, role: str) -> None:
    version = make_version(1)
    client.force_login(factories.operator(role))
    path = f"/admin/legal/documentversion/{version.pk}"

    looked = client.get(f"{path}/change/")
    refused = client.post(f"{path}/approve/", {**SUBMIT, "approval_ref": "письмо 12"})

    assert (looked.status_code, refused.status_code) == (200, 403)
    assert DocumentVersion.objects.get(pk=version.pk).status == "draft"
