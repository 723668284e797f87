"""The only writer of the journal. Called by acts, inside their transaction, so that both stand or both fall.

A refused act leaves a `denied` row, written by the door's own small transaction. Never called for reads.
"""

import re
from typing import Any
from uuid import UUID

from auditlog.actors import Actor
from auditlog.models import AuditEvent
from auditlog.redaction import clean_text, redact
from plyrum.transactions import require_transaction

_ACTION = re.compile(r"[a-z]+(\.[a-z_]+){1,2}")


def record(
    *,
    actor: Actor,
    action: str,
    subject: str,
    data: dict[str, Any] | None = None,
    status: str = AuditEvent.Status.OK,
    target_user_id: UUID | None = None,
) -> None:
    """Write down that `actor` did `action` ("payments.topup.settled") to `subject` ("payment:<id>").

    `data` is plain JSON and is redacted; `target_user_id` is whom it concerns; `status` is ok, denied or
    failed. Must run inside the caller's transaction.

    Raises ValueError if the action is not named as above.
    """
    require_transaction()
    if not _ACTION.fullmatch(action):
        raise ValueError(f"An action is named app.noun.verb, not {action!r}.")
    AuditEvent.objects.create(
        action=action,
        status=AuditEvent.Status(status),
        actor_kind=AuditEvent.ActorKind(actor.kind),
        actor_id=actor.id[:100],
        target_user_id=target_user_id,
        subject=clean_text(subject)[:200],
        data=redact(data or {}),
        ip=actor.ip or None,
        request_id=actor.request_id[:128],
    )
