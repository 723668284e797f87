"""Who accepted which text: writing the proof and asking what is still missing.

`record` is the only writer and runs inside the caller's act (sign-up, checkout), so that nothing is bought or
registered without its proof.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from auditlog import journal
from auditlog.actors import Actor
from legal import documents
from legal.models import Acceptance, DocumentVersion, LegalDocument
from plyrum.transactions import require_transaction

USER_AGENT_CHARS = 400


def record(
    *,
    user_id: UUID,
    version: DocumentVersion,
    act: str,
    surface: str,
    locale: str,
    user_agent: str,
    now: datetime,
    actor: Actor,
    order_id: UUID | None = None,
) -> Acceptance:
    """Write that `user_id` accepted `version`; the same acceptance again returns the first row.

    `act` is registration, checkout or account; `order_id` binds it to one order. Address and request id come
    from `actor`. Must run inside the caller's transaction.
    """
    require_transaction()
    fresh = Acceptance(
        user_id=user_id,
        version=version,
        sha256=version.sha256,
        act=Acceptance.Act(act),
        order_id=order_id,
        created_at=now,
        ip=actor.ip or None,
        user_agent=user_agent[:USER_AGENT_CHARS],
        request_id=actor.request_id[:128],
        locale=locale[:10],
        surface=Acceptance.Surface(surface),
    )
    Acceptance.objects.bulk_create([fresh], ignore_conflicts=True)
    kept = Acceptance.objects.get(user_id=user_id, version=version, order_id=order_id)
    if kept.pk == fresh.pk:
        journal.record(
            actor=actor,
            action="legal.acceptance.recorded",
            subject=f"legal_version:{version.pk}",
            data={"act": kept.act, "sha256": kept.sha256, "order_id": order_id},
            target_user_id=user_id,
        )
    return kept


def missing_for(
    user_id: UUID, *, at: datetime, kinds: Iterable[str] = (LegalDocument.Kind.OFFER,)
) -> list[str]:
    """The kinds among `kinds` of which this person has accepted no version that still binds at `at`."""
    accepted = set(Acceptance.objects.filter(user_id=user_id).values_list("version_id", flat=True))
    return [kind for kind in kinds if not accepted & documents.binding_version_ids(kind, at=at)]


def accepted_version(user_id: UUID, kind: str = LegalDocument.Kind.OFFER) -> DocumentVersion | None:
    """The version of `kind` this person accepted last, if any."""
    rows = Acceptance.objects.filter(user_id=user_id, version__document__kind=kind)
    last = rows.select_related("version__document").order_by("-created_at", "-id").first()
    return last.version if last else None


def of_user(user_id: UUID) -> list[Acceptance]:
    """Everything this person accepted, newest first."""
    rows = Acceptance.objects.filter(user_id=user_id).select_related("version__document")
    return list(rows.order_by("-created_at", "-id"))
