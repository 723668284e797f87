"""Reads of the journal for operators: filters and pages at constant cost, newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from auditlog.models import AuditEvent
from plyrum import clock


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; empty members do not narrow. `kind` is an action or its beginning ("payments")."""

    kind: str = ""
    status: str = ""
    actor_user_id: UUID | None = None
    target_user_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_seq: int | None = None


def events(wanted: AuditFilter, *, limit: int) -> list[AuditEvent]:
    """At most `limit` events, newest first; `before_seq` continues below an earlier page."""
    found = AuditEvent.objects.all()
    if wanted.kind:
        found = found.filter(Q(action=wanted.kind) | Q(action__startswith=f"{wanted.kind}."))
    if wanted.status:
        found = found.filter(status=wanted.status)
    if wanted.actor_user_id:
        found = found.filter(actor_id=str(wanted.actor_user_id))
    if wanted.target_user_id:
        found = found.filter(target_user_id=wanted.target_user_id)
    if wanted.since:
        found = found.filter(created_at__gte=wanted.since)
    if wanted.until:
        found = found.filter(created_at__lt=wanted.until)
    if wanted.before_seq is not None:
        found = found.filter(seq__lt=wanted.before_seq)
    return list(found.order_by("-seq")[:limit])


def as_item(event: AuditEvent) -> dict[str, Any]:
    """The form of an event in the API and in exports (schema 1)."""
    return {
        "id": str(event.id),
        "seq": event.seq,
        "kind": event.action,
        "status": event.status,
        "actor": {"kind": event.actor_kind, "id": event.actor_id or None},
        "target_user_id": str(event.target_user_id) if event.target_user_id else None,
        "subject": event.subject,
        "data": event.data,
        "ip": event.ip,
        "request_id": event.request_id,
        "created_at": clock.rfc3339(event.created_at),
    }
