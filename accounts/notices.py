"""The outbox of letters: a row in the transaction of the fact it tells of, sent by a task at least once.

Any act calls `write`; `send` is the worker's. A letter may come twice when a worker dies between the mail
server's answer and our note of it; it never comes for something that was not committed.
"""

import smtplib
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db.models import F

from accounts import letters
from accounts.models import Notice, User
from plyrum.nudges import nudge
from plyrum.transactions import require_transaction

log = structlog.get_logger(__name__)

Outcome = Notice.Outcome
ATTEMPTS_AT_MOST = 12  # with the pauses below about nine hours
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
LEASE = timedelta(minutes=3)  # longer than a task may live


def write(*, user_id: UUID, letter: str, key: str, facts: dict[str, Any], now: datetime) -> bool:
    """Have `letter` sent to the user after the commit, once per key; False when the key is known.

    `letter` is a folder of templates/emails, `facts` its context in plain JSON values. Must run inside the
    caller's transaction.
    """
    require_transaction()
    fresh = Notice(user_id=user_id, letter=letter, key=key, facts=facts, created_at=now, next_attempt_at=now)
    Notice.objects.bulk_create([fresh], ignore_conflicts=True)
    if not Notice.objects.filter(pk=fresh.pk).exists():
        return False
    nudge("accounts.tasks.send_notice", notice_id=str(fresh.pk))
    return True


def send(*, notice_id: UUID, now: datetime) -> str:
    """Send one letter; answers its outcome, "" while it waits or somebody else sends it."""
    claimed = Notice.objects.due(now).filter(pk=notice_id)
    if claimed.update(attempts=F("attempts") + 1, next_attempt_at=now + LEASE) != 1:
        return ""
    notice = Notice.objects.get(pk=notice_id)
    user = User.objects.filter(pk=notice.user_id, is_active=True).first()
    if user is None:
        return _finish(notice, Outcome.DROPPED, now)
    context = {**notice.facts, "user": user, "request_id": str(notice.pk)}
    try:
        letters.compose(notice.letter, to=user.email, context=context, locale=user.locale).send()
    except (smtplib.SMTPException, OSError) as failure:
        return _postpone(notice, type(failure).__name__, now)
    except Exception as failure:  # the edge of a worker: a letter that cannot be written stops no other
        log.exception("notice_not_written", notice_id=str(notice.pk), letter=notice.letter)
        return _postpone(notice, type(failure).__name__, now)
    return _finish(notice, Outcome.SENT, now)


def send_due(*, now: datetime, most: int) -> dict[str, int]:
    """Send the letters that nobody sent, the oldest first: a nudge was lost, the mail server was away."""
    due = list(Notice.objects.due(now).order_by("next_attempt_at").values_list("pk", flat=True)[:most])
    outcomes = [send(notice_id=pk, now=now) for pk in due]
    return {"sent": outcomes.count(Outcome.SENT), "waiting": outcomes.count(Outcome.WAITING)}


def _postpone(notice: Notice, error: str, now: datetime) -> str:
    if notice.attempts >= ATTEMPTS_AT_MOST:
        log.error("notice_parked", notice_id=str(notice.pk), letter=notice.letter, error=error)
        return _finish(notice, Outcome.PARKED, now, error)
    pause = min(FIRST_PAUSE * 2 ** (notice.attempts - 1), LONGEST_PAUSE)
    Notice.objects.filter(pk=notice.pk).update(next_attempt_at=now + pause, error=error)
    log.warning("notice_postponed", notice_id=str(notice.pk), attempts=notice.attempts, error=error)
    return ""


def _finish(notice: Notice, outcome: Outcome, now: datetime, error: str = "") -> str:
    Notice.objects.filter(pk=notice.pk).update(
        outcome=outcome,
        finished_at=now,
        next_attempt_at=None,
        error=error,
        facts=notice.facts if outcome == Outcome.PARKED else {},
    )
    return outcome.value
