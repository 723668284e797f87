"""The act of taking journal rows out: reading them is itself an entry."""

from dataclasses import asdict

from django.db import transaction

from auditlog import journal, queries
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from auditlog.queries import AuditFilter


@transaction.atomic(durable=True)
def export(*, wanted: AuditFilter, limit: int, actor: Actor) -> list[AuditEvent]:
    """Read at most `limit` events, newest first, and journal `audit.export` with the filter and the count."""
    found = queries.events(wanted, limit=limit)
    narrowed = {name: str(value) for name, value in asdict(wanted).items() if value not in ("", None)}
    journal.record(
        actor=actor, action="audit.export", subject="audit", data={"filter": narrowed, "count": len(found)}
    )
    return found
