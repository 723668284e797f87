"""Usage against ledger, both ways, and the findings of every proof as rows that operators work on.

Called by the hourly job, by the daily proof of the books and by the back office. Repairs nothing: what is
wrong is mended by an act of its own, then the finding goes.
Source: docs/decisions/0031-findings-are-rows.md.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction

from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import verification
from billing.errors import FindingClosed
from billing.verification import Check, Finding
from billing.watch_models import ReconciliationFinding
from plyrum import clock
from plyrum.errors import NotFound
from plyrum.ids import first_of, uuid7

log = structlog.get_logger(__name__)

SQL = Path(__file__).resolve().parent / "sql" / "reconcile.sql"
LOOK_BACK = timedelta(days=5)  # source: ledger guide 19, late items
# An id is made before the time of its entry: on another machine, and that of a charge when its run begins.
IDS_ARE_OLDER = timedelta(days=1)
MOST_LOGGED = 100
DETAIL_CHARS = 1_000
State = ReconciliationFinding.State

STORE = """
INSERT INTO billing_reconciliationfinding AS f
       (id, check_id, object, detail, first_seen_at, last_seen_at, state, reason)
SELECT *, %(now)s, %(now)s, 'open', '' FROM unnest(%(ids)s::uuid[], %(checks)s::text[], %(objects)s::text[],
                                                     %(details)s::text[])
ON CONFLICT (check_id, object) DO UPDATE
   SET state = CASE WHEN f.state = 'closed' OR f.detail <> excluded.detail THEN 'open' ELSE f.state END,
       detail = excluded.detail, last_seen_at = greatest(f.last_seen_at, excluded.last_seen_at)
RETURNING id
"""
GONE = """
UPDATE billing_reconciliationfinding SET state = 'closed', decided_by_id = NULL, decided_at = %(now)s
 WHERE state <> 'closed' AND check_id = ANY (%(covered)s) AND last_seen_at < %(now)s
   AND (check_id, object) NOT IN (SELECT * FROM unnest(%(checks)s::text[], %(objects)s::text[]))
"""


def checks() -> list[Check]:
    return verification.checks_in(SQL)


def reconcile(*, now: datetime) -> dict[str, int]:
    """Compare usage and ledger of the last days; answers counts of found, new and gone.

    Looks further back while a finding of it stands, so that none goes only because it grew old.
    """
    known = checks()
    names = [check.id for check in known]
    standing = ReconciliationFinding.objects.standing().filter(check_id__in=names).order_by("first_seen_at")
    oldest = standing.values_list("first_seen_at", flat=True).first() or now
    since = clock.start_of(clock.day_of(min(oldest, now) - LOOK_BACK))
    period = {"since": since, "until": now, "first_id": first_of(min(since, clock.now()) - IDS_ARE_OLDER)}
    with verification.one_moment():
        found = [row for check in known for row in verification.broken(check, period)]
    return store(found, covered=names, now=now)


@transaction.atomic(durable=True)
def store(found: Sequence[Finding], *, covered: Collection[str], now: datetime) -> dict[str, int]:
    """Keep what the checks `covered` found at `now`, and close what they do not find any more.

    A finding that was closed, or that says something else than what was explained, is open again. Safe twice,
    late (an older run closes nothing that a newer one saw) and in parallel.
    """
    seen = _by_object(found)
    ordered = sorted(seen)  # two runs lock rows in one direction
    rows: dict[str, Any] = {
        "now": now,
        "ids": [uuid7() for _ in ordered],
        "checks": [check for check, _ in ordered],
        "objects": [broken for _, broken in ordered],
        "details": [seen[key] for key in ordered],
        # A check whose list was cut does not say what is gone.
        "covered": sorted(set(covered) - {check for check, broken in ordered if broken == "..."}),
    }
    with connection.cursor() as cursor:
        cursor.execute(STORE, rows)
        new = {finding for (finding,) in cursor.fetchall()} & set(rows["ids"])
        cursor.execute(GONE, rows)
        gone = cursor.rowcount
    for finding, (check, broken) in list(zip(rows["ids"], ordered, strict=True))[:MOST_LOGGED]:
        if finding in new:
            log.error("reconciliation_finding", check=check, object=broken, detail=seen[check, broken])
    return {"found": len(ordered), "new": len(new), "gone": gone}


def unexplained(found: Sequence[Finding]) -> list[Finding]:
    """What of `found`, which is stored, raises an alarm: nobody has explained it as it is."""
    rows = ReconciliationFinding.objects.filter(state=State.EXPLAINED)
    explained = set(rows.values_list("check_id", "object"))
    return [each for each in found if (each.check, each.object) not in explained]


@transaction.atomic(durable=True)
def take(*, finding_id: UUID, now: datetime, actor: Actor) -> ReconciliationFinding:
    """The operator looks after this finding from now on. Raises NotFound, FindingClosed."""
    finding = _standing(finding_id)
    finding.owner_id = UUID(actor.id)
    finding.save(update_fields=["owner_id"])
    _record(finding, "taken", actor)
    return finding


@transaction.atomic(durable=True)
def explain(*, finding_id: UUID, reason: str, now: datetime, actor: Actor) -> ReconciliationFinding:
    """It is understood and may stay: no alarm while it says the same. Raises NotFound, FindingClosed."""
    return _decide(finding_id, State.EXPLAINED, reason, now, actor)


@transaction.atomic(durable=True)
def close(*, finding_id: UUID, evidence: str, now: datetime, actor: Actor) -> ReconciliationFinding:
    """It is mended, as `evidence` says; found again, it is open again. Raises NotFound, FindingClosed."""
    return _decide(finding_id, State.CLOSED, evidence, now, actor)


def _by_object(found: Iterable[Finding]) -> dict[tuple[str, str], str]:
    """What each check says of each object; several things in one order, so that the same is the same text."""
    details: dict[tuple[str, str], set[str]] = {}
    for row in found:
        details.setdefault((row.check, row.object), set()).add(row.detail)
    texts = {key: "; ".join(sorted(said)) for key, said in details.items()}
    return {key: text if len(text) <= DETAIL_CHARS else _cut(text) for key, text in texts.items()}


def _cut(text: str) -> str:
    """The beginning, and a mark of the whole: what changes behind the cut opens the finding again too."""
    return f"{text[:DETAIL_CHARS]} ... {sha256(text.encode()).hexdigest()[:8]}"


def _decide(
    finding_id: UUID, state: ReconciliationFinding.State, reason: str, now: datetime, actor: Actor
) -> ReconciliationFinding:
    said = reasons.required(reason)
    finding = _standing(finding_id)
    finding.state, finding.reason, finding.decided_at = state, said, now
    finding.decided_by_id = UUID(actor.id)
    finding.save(update_fields=["state", "reason", "decided_at", "decided_by_id"])
    _record(finding, state.value, actor)
    return finding


def _standing(finding_id: UUID) -> ReconciliationFinding:
    rows = ReconciliationFinding.objects.select_for_update(no_key=True)
    finding = rows.filter(pk=finding_id).first()
    if finding is None:
        raise NotFound
    if finding.state == State.CLOSED:
        raise FindingClosed
    return finding


def _record(finding: ReconciliationFinding, verb: str, actor: Actor) -> None:
    journal.record(
        actor=actor,
        action=f"billing.finding.{verb}",
        subject=f"finding:{finding.pk}",
        data={"check": finding.check_id, "object": finding.object, "reason": finding.reason},
    )
