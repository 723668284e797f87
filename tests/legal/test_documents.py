from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from pytest_django import Settings

from auditlog.actors import Actor
from auditlog.models import AuditEvent
from legal import development, documents, texts
from legal.errors import (
    ApprovalMissing,
    DocumentNotFound,
    DocumentNotPublished,
    TextMissing,
    VersionNotReady,
)
from legal.models import DocumentVersion, LegalDocument
from plyrum import clock
from plyrum.ids import uuid7
from tests.legal.conftest import MakeVersion
from tests.legal.test_texts import SELLER

AUTHOR = Actor.operator("author")
LAWYER = Actor.operator("lawyer")
GOOD_TEXT = f"<p>{SELLER['name']}, {SELLER['inn']}, {SELLER['address']}, {SELLER['email']}.</p>"


# --- what is in force ------------------------------------------------------------------------------------


def test_every_required_document_is_in_force_after_migrating() -> None:
    for kind in documents.REQUIRED_KINDS:
        version = documents.current(kind, at=clock.now())
        assert (version.number, version.document.locale) == (1, "ru")
        assert texts.digest(version.text) == version.sha256


def test_latest_version_whose_time_has_come_is_in_force(make_version: MakeVersion, locale: str) -> None:
    now = clock.now()
    old = make_version(1, status="superseded", effective_from=now - timedelta(days=9))
    new = make_version(2, status="published", effective_from=now - timedelta(days=1))
    future = make_version(3, status="published", effective_from=now + timedelta(days=1))
    make_version(4, status="approved", effective_from=now - timedelta(hours=1))

    found = [documents.current("refund_rules", locale, at=now + timedelta(days=days)) for days in (-5, 0, 2)]

    assert found == [old, new, future]


def test_missing_language_falls_back_to_russian() -> None:
    assert documents.current("offer", "en", at=clock.now()).document.locale == "ru"


def test_before_the_first_publication_nothing_is_in_force() -> None:
    with pytest.raises(DocumentNotPublished) as refused:
        documents.current("offer", at=clock.now() - timedelta(days=9_000))

    assert refused.value.extra == {"document": "offer"}


def test_two_versions_never_share_the_moment_of_taking_effect(make_version: MakeVersion) -> None:
    moment = clock.now() - timedelta(days=1)
    make_version(1, status="published", effective_from=moment)

    with pytest.raises(IntegrityError), transaction.atomic():
        make_version(2, status="published", effective_from=moment)


def test_small_changes_keep_earlier_acceptances_valid(make_version: MakeVersion) -> None:
    at = clock.now()
    versions = [
        make_version(1, status="superseded", is_material_change=True),
        make_version(2, status="superseded", is_material_change=True),
        make_version(3, status="superseded", is_material_change=False),
        make_version(4, status="published", is_material_change=False),
    ]

    binding = documents.binding_version_ids("refund_rules", at=at)

    assert [version.pk in binding for version in versions] == [False, True, True, True]


# --- draft, approve, publish -----------------------------------------------------------------------------


@pytest.fixture
def _seller(settings: Settings) -> None:
    settings.SELLER = SELLER


def test_drafting_renders_the_file(locale: str) -> None:
    now = clock.now()

    version = documents.draft(
        kind="tariffs", number=1, effective_from=now, now=now, actor=AUTHOR, locale=locale
    )

    assert (version.status, version.title, version.drafted_by) == ("draft", "Тарифы", "author")
    assert AuditEvent.objects.filter(subject=f"legal_version:{version.pk}").count() == 1


def test_draft_can_be_rendered_again(locale: str, settings: Settings) -> None:
    now = clock.now()

    def draft() -> DocumentVersion:
        return documents.draft(
            kind="tariffs", number=1, effective_from=now, now=now, actor=AUTHOR, locale=locale
        )

    first = draft()
    settings.PAYMENTS_MIN_TOPUP_RUB = 137
    second = draft()

    assert first.pk == second.pk
    assert first.sha256 != second.sha256


def test_draft_of_a_missing_file_is_refused(locale: str) -> None:
    now = clock.now()

    with pytest.raises(TextMissing):
        documents.draft(kind="offer", number=77, effective_from=now, now=now, actor=AUTHOR, locale=locale)

    assert not LegalDocument.objects.filter(locale=locale).exists()


@pytest.mark.usefixtures("_seller")
def test_good_text_goes_from_draft_to_force(make_version: MakeVersion, locale: str) -> None:
    now = clock.now()
    old = make_version(1, kind="offer", status="published", text=GOOD_TEXT)
    version = make_version(2, kind="offer", text=GOOD_TEXT, effective_from=now)

    documents.approve(version_id=version.pk, approval_ref="письмо 12", now=now, actor=LAWYER)
    documents.publish(version_id=version.pk, now=now, actor=AUTHOR)

    version.refresh_from_db()
    old.refresh_from_db()
    assert (version.status, version.approved_by, version.approval_ref) == ("published", "lawyer", "письмо 12")
    assert (version.published_by, version.published_at) == ("author", now)
    assert old.status == "superseded"
    assert documents.current("offer", locale, at=now) == version
    actions = AuditEvent.objects.filter(subject=f"legal_version:{version.pk}").order_by("seq")
    assert [event.action for event in actions] == ["legal.version.approved", "legal.version.published"]


def test_version_for_later_leaves_the_present_one_in_force(make_version: MakeVersion, locale: str) -> None:
    now = clock.now()
    present = make_version(1, status="published")
    later = make_version(2, status="approved", effective_from=now + timedelta(days=10), notice_days=10)

    documents.publish(version_id=later.pk, now=now, actor=AUTHOR)

    present.refresh_from_db()
    assert present.status == "published"
    assert documents.current("refund_rules", locale, at=now) == present
    assert documents.current("refund_rules", locale, at=now + timedelta(days=11)) == later


@pytest.mark.usefixtures("_seller")
@pytest.mark.parametrize(
    ("facts", "actor", "reason"),
    [
        ({"text": "<p>Черновик правил.</p>"}, LAWYER, "draft_marker:Черновик"),
        ({"kind": "offer", "text": "<p>Продаёт кто-то другой.</p>"}, LAWYER, "seller_fact:inn"),
        ({}, AUTHOR, "approver_is_author"),
        ({"status": "published"}, LAWYER, "published"),
    ],
)
def test_unready_text_is_not_approved(
    make_version: MakeVersion, facts: dict[str, str], actor: Actor, reason: str
) -> None:
    version = make_version(1, **facts)

    with pytest.raises(VersionNotReady) as refused:
        documents.approve(version_id=version.pk, approval_ref="письмо 12", now=clock.now(), actor=actor)

    assert reason in refused.value.extra["reasons"]


def test_approval_needs_a_reference(make_version: MakeVersion) -> None:
    with pytest.raises(ApprovalMissing):
        documents.approve(version_id=make_version(1).pk, approval_ref=" ", now=clock.now(), actor=LAWYER)


def test_text_changed_after_its_hash_is_not_published(make_version: MakeVersion) -> None:
    version = make_version(1, status="approved")
    DocumentVersion.objects.filter(pk=version.pk).update(text="<p>Другой текст.</p>")

    with pytest.raises(VersionNotReady) as refused:
        documents.publish(version_id=version.pk, now=clock.now(), actor=AUTHOR)

    assert refused.value.extra["reasons"] == ["hash_differs"]


def test_notice_must_run_out_before_a_version_takes_effect(make_version: MakeVersion) -> None:
    now = clock.now()
    version = make_version(1, status="approved", effective_from=now + timedelta(days=9), notice_days=10)

    with pytest.raises(VersionNotReady) as refused:
        documents.publish(version_id=version.pk, now=now, actor=AUTHOR)

    assert refused.value.extra["reasons"] == ["notice_too_short"]


def test_only_an_approved_text_is_published(make_version: MakeVersion) -> None:
    with pytest.raises(VersionNotReady):
        documents.publish(version_id=make_version(1).pk, now=clock.now(), actor=AUTHOR)


def test_unknown_version_is_not_found() -> None:
    with pytest.raises(DocumentNotFound):
        documents.publish(version_id=uuid7(), now=clock.now(), actor=AUTHOR)


# --- published is frozen ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["published", "superseded"])
@pytest.mark.parametrize(
    "change",
    [
        {"text": "<p>Переписано.</p>"},
        {"sha256": "0" * 64},
        {"effective_from": clock.now()},
        {"number": 99},
        {"status": "draft"},
        {"status": "approved"},
        {"is_material_change": False},
        {"approval_ref": "задним числом"},
    ],
)
def test_published_version_cannot_be_changed(
    make_version: MakeVersion, status: str, change: dict[str, object]
) -> None:
    version = make_version(1, status=status)

    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
        DocumentVersion.objects.filter(pk=version.pk).update(**change)


@pytest.mark.parametrize("status", ["published", "superseded"])
def test_published_version_cannot_be_deleted(make_version: MakeVersion, status: str) -> None:
    version = make_version(1, status=status)

    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
        version.delete()


def test_legal_texts_cannot_be_truncated() -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE legal_documentversion CASCADE")


def test_draft_may_be_changed_and_deleted(make_version: MakeVersion) -> None:
    """Control: the guard is about what the public has seen."""
    version = make_version(1)

    DocumentVersion.objects.filter(pk=version.pk).update(text="<p>Новый.</p>")

    assert version.delete()[0] == 1


# --- development -----------------------------------------------------------------------------------------


def test_migrating_again_publishes_nothing_new() -> None:
    before = DocumentVersion.objects.filter(document__locale="ru").count()

    development.publish_after_migrate(using="default")

    assert documents.publish_drafts(now=clock.now()) == []
    assert DocumentVersion.objects.filter(document__locale="ru").count() == before


def test_production_publishes_nothing_by_itself(settings: Settings) -> None:
    settings.IS_PRODUCTION = True

    development.publish_after_migrate(using="default")
    with pytest.raises(RuntimeError):
        documents.publish_drafts(now=clock.now())


def test_half_migrated_database_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(development, "TABLES", frozenset({"a_table_that_is_not_there"}))
    monkeypatch.setattr(documents, "REQUIRED_KINDS", ("no_such_kind",))

    development.publish_after_migrate(using="default")
