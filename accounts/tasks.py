"""Periodic and late work about people: letters that wait, dead sessions, the letter after a stolen token."""

from datetime import datetime, timedelta
from uuid import UUID

from celery import shared_task

from accounts import letters, notices
from accounts.models import RefreshFamily, User
from auditlog import jobs
from plyrum import clock

MOST_NOTICES = 100  # in one round
KEEP_ENDED = timedelta(days=30)  # long enough to answer "was that me?"
BATCH = 500


@jobs.periodic(jobs.DAY)
def prune_refresh_tokens(now: datetime) -> dict[str, int]:
    """Delete families that ended KEEP_ENDED ago, with their tokens."""
    count = 0
    while ids := list(
        RefreshFamily.objects.filter(absolute_expires_at__lt=now - KEEP_ENDED).values_list("pk", flat=True)[
            :BATCH
        ]
    ):
        RefreshFamily.objects.filter(pk__in=ids).delete()
        count += len(ids)
    return {"families": count}


@shared_task
def warn_of_reuse(user_id: str, at: str, **_: object) -> None:
    """Tell the owner that one of their sessions was ended because its token came back a second time."""
    user = User.objects.get(pk=UUID(user_id))
    context = {"at": datetime.fromisoformat(at), "user": user}
    letters.compose("session_reuse", to=user.email, context=context, locale=user.locale).send()


@shared_task
def send_notice(notice_id: str, **_: object) -> None:
    notices.send(notice_id=UUID(notice_id), now=clock.now())


@jobs.periodic(jobs.MINUTE)
def send_notices(now: datetime) -> dict[str, int]:
    """Send the letters that nobody sent."""
    return notices.send_due(now=now, most=MOST_NOTICES)
