"""The acts on texts (draft, approve, publish) and the question which text is in force.

Called by the admin, by `migrate` in development (`publish_drafts`) and by everything that asks for
acceptance. Never changes a published text.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from auditlog import journal
from auditlog.actors import SYSTEM, Actor
from legal import texts
from legal.errors import ApprovalMissing, DocumentNotFound, DocumentNotPublished, VersionNotReady
from legal.models import DocumentVersion, LegalDocument

SOURCE_LOCALE = "ru"
# The law wants them in Russian before anybody may register or pay (legal.md 2).
REQUIRED_KINDS = tuple(LegalDocument.Kind.values)


def current(kind: str, locale: str = SOURCE_LOCALE, *, at: datetime) -> DocumentVersion:
    """The version in force at `at` in `locale`, else in Russian. Raises DocumentNotPublished."""
    in_force = (
        DocumentVersion.objects.of_kind(kind)
        .effective(at)
        .select_related("document")
        .order_by("-effective_from", "-id")
    )
    for wanted in (locale, SOURCE_LOCALE):
        found = in_force.filter(document__locale=wanted).first()
        if found is not None:
            return found
    raise DocumentNotPublished(f"The document {kind} has no text in force.", document=kind)


def binding_version_ids(kind: str, *, at: datetime) -> frozenset[UUID]:
    """Versions whose acceptance still counts at `at`: the one in force and those before it back to the last
    material change, in every language.
    """
    binding: set[UUID] = set()
    rows = (
        DocumentVersion.objects.of_kind(kind).effective(at).order_by("document_id", "-effective_from", "-id")
    )
    closed: set[UUID] = set()
    for version in rows.only("id", "document_id", "is_material_change", "effective_from"):
        if version.document_id in closed:
            continue
        binding.add(version.id)
        if version.is_material_change:
            closed.add(version.document_id)
    return frozenset(binding)


@transaction.atomic(durable=True)
def draft(
    *,
    kind: str,
    number: int,
    effective_from: datetime,
    now: datetime,
    actor: Actor,
    locale: str = SOURCE_LOCALE,
    is_material_change: bool = True,
    notice_days: int = 0,
    diff_summary: str = "",
) -> DocumentVersion:
    """Render `templates/legal/<kind>/<number>.html` into a draft version, or render the draft of it again.

    Raises VersionNotReady if this number is past being a draft.
    """
    return _draft(
        kind, number, locale, effective_from, now, actor, is_material_change, notice_days, diff_summary
    )


def _draft(
    kind: str,
    number: int,
    locale: str,
    effective_from: datetime,
    now: datetime,
    actor: Actor,
    is_material_change: bool = True,
    notice_days: int = 0,
    diff_summary: str = "",
) -> DocumentVersion:
    text = texts.render(kind=kind, number=number, locale=locale)
    document, _ = LegalDocument.objects.get_or_create(
        kind=kind, audience=LegalDocument.Audience.EVERYONE, locale=locale
    )
    facts = {
        "title": text.title,
        "text": text.html,
        "sha256": text.sha256,
        "effective_from": effective_from,
        "is_material_change": is_material_change,
        "notice_days": notice_days,
        "diff_summary": diff_summary,
        "drafted_by": actor.id or actor.kind,
    }
    version, is_new = DocumentVersion.objects.get_or_create(
        document=document, number=number, defaults={**facts, "created_at": now}
    )
    if not is_new:
        _require_status(version, DocumentVersion.Status.DRAFT)
        DocumentVersion.objects.filter(pk=version.pk).update(**facts)
        version.refresh_from_db()
    _journal(version, actor, "legal.version.drafted")
    return version


@transaction.atomic(durable=True)
def approve(*, version_id: UUID, approval_ref: str, now: datetime, actor: Actor) -> DocumentVersion:
    """Record that a lawyer approved the draft; `approval_ref` names the letter or contract that says so.

    Raises ApprovalMissing without a reference, VersionNotReady for the author's own text or a text with gaps.
    """
    if not approval_ref.strip():
        raise ApprovalMissing("Name the letter or the contract that approves the text.")
    version = _locked(version_id)
    _require_status(version, DocumentVersion.Status.DRAFT)
    _require(_gaps(version) + (["approver_is_author"] if version.drafted_by == actor.id else []))
    version.status = DocumentVersion.Status.APPROVED
    version.approval_ref = approval_ref.strip()
    version.approved_by = actor.id or actor.kind
    version.approved_at = now
    version.save(update_fields=["status", "approval_ref", "approved_by", "approved_at"])
    _journal(version, actor, "legal.version.approved")
    return version


@transaction.atomic(durable=True)
def publish(*, version_id: UUID, now: datetime, actor: Actor) -> DocumentVersion:
    """Publish an approved version; from then on the database keeps its text, hash and dates as they are.

    Raises VersionNotReady if it is not approved, has gaps or draft marks, shows other seller facts than the
    settings, or takes effect before its notice has run out.
    """
    version = _locked(version_id)
    _require_status(version, DocumentVersion.Status.APPROVED)
    is_too_early = (
        version.effective_from < now + timedelta(days=version.notice_days) and version.notice_days > 0
    )
    _require(_gaps(version) + (["notice_too_short"] if is_too_early else []))
    return _publish(version, now, actor)


def publish_drafts(*, now: datetime) -> list[DocumentVersion]:
    """Publish version 1 of each required document that has no public text yet, marked as a draft inside.

    Development only: registration and checkout need something to accept. Runs in the caller's transaction or
    opens one; raises RuntimeError in production, where a person approves and publishes.
    """
    if settings.IS_PRODUCTION:
        raise RuntimeError("In production a person publishes legal documents.")
    published = []
    with transaction.atomic():
        for kind in REQUIRED_KINDS:
            if not DocumentVersion.objects.of_kind(kind).public().exists():
                version = _draft(kind, 1, SOURCE_LOCALE, now, now, SYSTEM)
                published.append(_publish(version, now, SYSTEM))
    return published


def _publish(version: DocumentVersion, now: datetime, actor: Actor) -> DocumentVersion:
    earlier = DocumentVersion.objects.filter(
        document=version.document, status=DocumentVersion.Status.PUBLISHED
    )
    if version.effective_from <= now:
        earlier.filter(effective_from__lte=now).exclude(pk=version.pk).update(
            status=DocumentVersion.Status.SUPERSEDED
        )
    version.status = DocumentVersion.Status.PUBLISHED
    version.published_by = actor.id or actor.kind
    version.published_at = now
    version.save(update_fields=["status", "published_by", "published_at"])
    _journal(version, actor, "legal.version.published")
    return version


def _gaps(version: DocumentVersion) -> list[str]:
    """Why this text is not fit for the public, as short codes; empty when it is."""
    reasons = [f"draft_marker:{mark}" for mark in texts.draft_markers(version.text)]
    if version.document.kind in (LegalDocument.Kind.OFFER, LegalDocument.Kind.PRIVACY_POLICY):
        reasons += [f"seller_fact:{name}" for name in texts.missing_seller_facts(version.text)]
    if texts.digest(version.text) != version.sha256:
        reasons.append("hash_differs")
    return reasons


def _locked(version_id: UUID) -> DocumentVersion:
    found = (
        DocumentVersion.objects.select_for_update(of=("self",), no_key=True)
        .select_related("document")
        .filter(pk=version_id)
        .first()
    )
    if found is None:
        raise DocumentNotFound("There is no such version.")
    return found


def _require_status(version: DocumentVersion, status: str) -> None:
    if version.status != status:
        raise VersionNotReady(f"This version is {version.status}, not {status}.", reasons=[version.status])


def _require(reasons: list[str]) -> None:
    if reasons:
        raise VersionNotReady("The text is not ready: " + ", ".join(reasons) + ".", reasons=reasons)


def _journal(version: DocumentVersion, actor: Actor, action: str) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=f"legal_version:{version.pk}",
        data={"kind": version.document.kind, "number": version.number, "sha256": version.sha256},
    )
