"""Letters about limits: at 50, 75, 90 and 100 % of what is spent, once for each in a window.

Called by the job of each minute. It reads limits and counters as they are, so a late run tells what is true
then, and only the highest mark that is reached; the letter's key makes a second run silent.
"""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts import notices
from accounts.models import User
from billing import windows
from billing.limit_models import LimitLift, SpendLimit
from billing.models import LimitCounter

MARKS = (100, 90, 75, 50)  # percent
COMMON = "gift:all"  # told to the owners: it is our budget
ROWS_READ = 1_000


def write(*, now: datetime) -> dict[str, int]:
    """Write the letters that are due; answers how many."""
    starts = {window.value: windows.start_of(window, now) for window in windows.COUNTED}
    counters = LimitCounter.objects.filter(window_start__in=starts.values(), spent_micro_rub__gt=0)
    counted = {
        (row.subject, row.window): row.spent_micro_rub
        for row in counters.iterator(ROWS_READ)
        if row.window_start == starts[row.window]
    }
    written = 0
    for limit in _lowest(now):
        spent = counted.get((limit.subject, limit.window), 0) + _before(limit, starts[limit.window])
        mark = next((mark for mark in MARKS if spent * 100 >= limit.limit_micro_rub * mark), None)
        if mark is not None and spent:
            written += sum(_tell(user_id, limit, spent, mark, now) for user_id in _readers(limit.subject))
    return {"letters": written}


def _lowest(now: datetime) -> Iterator[SpendLimit]:
    """The limit that counts of each subject and window, without those that are lifted."""
    lifted = set(LimitLift.objects.filter(ends_at__gt=now).values_list("subject", "window"))
    rows = SpendLimit.objects.filter(window__in=windows.COUNTED)
    rows = rows.filter(subject__startswith="user:") | rows.filter(subject=COMMON)
    known: tuple[str, str] | None = None
    for row in rows.order_by("subject", "window", "limit_micro_rub").iterator(ROWS_READ):
        if (row.subject, row.window) not in {known, *lifted}:
            yield row
        known = (row.subject, row.window)


def _before(limit: SpendLimit, start: datetime) -> int:
    return limit.spent_before_micro_rub if limit.created_at >= start else 0


def _readers(subject: str) -> list[UUID]:
    if subject == COMMON:
        owners = User.objects.filter(is_staff=True, is_active=True, role=User.Role.OWNER)
        return list(owners.values_list("pk", flat=True))
    return [UUID(subject.partition(":")[2])]


@transaction.atomic
def _tell(user_id: UUID, limit: SpendLimit, spent: int, mark: int, now: datetime) -> bool:
    start, end = windows.start_of(limit.window, now), windows.end_of(limit.window, now)
    resets_at = timezone.localtime(end, timezone.get_default_timezone())
    return notices.write(
        user_id=user_id,
        letter="limit_reached",
        key=f"limit:{limit.subject}:{limit.window}:{start:%Y-%m-%dT%H}:{mark}:{user_id}",
        facts={
            "mark": mark,
            "window": limit.window,
            "is_common": limit.subject == COMMON,
            "limit_micro_rub": limit.limit_micro_rub,
            "spent_micro_rub": spent,
            "resets_at": f"{resets_at:%d.%m.%Y %H:%M}",
        },
        now=now,
    )
