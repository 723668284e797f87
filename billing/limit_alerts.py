"""Letters about limits: at 50, 75 and 90 % of what is spent, and when a limit stops requests; once a window.

A limit stops requests when all of it is spent, or earlier: when a request does not fit into what is left. Its
counter remembers that, and the letter is the one of 100 %.

Called by the job of each minute. It tells what is true then, of the highest mark that is reached, and of the
lowest limit that applies; the letter's key makes a second run silent. The window that just ended is looked at
too: its last minute, or a job that came late. A key's limit is told to whom the key belongs.
Source: docs/decisions/0035-amounts-by-role-and-subjects-of-limits.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts import notices
from accounts.models import ApiKey, User
from billing import policies, windows
from billing.limit_models import LimitLift, SpendLimit
from billing.models import LimitCounter

MARKS = (100, 90, 75, 50)  # percent
GIFTS = "gift:all"  # told to our owners: it is our budget
ORGANISATION = "organisation:"  # told to its owner
KEY = "key:"  # the same
ENDED_FOR = timedelta(hours=1)  # how long the window that ended is looked at
AN_INSTANT = timedelta(microseconds=1)

# Parameters: window, window_start, at. Customers who may have used the lowest mark of a limit by `window`, or
# were refused: of their own with what no counter knows, or of any tier or plan; which one applies says their
# policy. A limit newer than `at` may be in the policy and was not then: nothing is told.
_CUSTOMERS_SQL = """
SELECT substr(c.subject, 6)::uuid
  FROM billing_limitcounter c
 WHERE c.subject LIKE 'user:%%' AND c."window" = %(window)s AND c.window_start = %(window_start)s
   AND EXISTS (SELECT 1 FROM billing_spendlimit s
                WHERE s."window" = c."window" AND s.subject LIKE ANY ('{tier:%%,plan:%%}')
                  AND (c.spent_micro_rub > 0 AND c.spent_micro_rub * 100 >= s.limit_micro_rub * %(lowest)s
                       OR c.refused_limit_micro_rub IS NOT NULL))
   AND NOT EXISTS (SELECT 1 FROM billing_spendlimit s WHERE s."window" = c."window" AND s.created_at > %(at)s
                      AND (s.subject = c.subject OR s.subject LIKE ANY ('{tier:%%,plan:%%}')))
 UNION
SELECT substr(s.subject, 6)::uuid
  FROM billing_spendlimit s
  LEFT JOIN billing_limitcounter c ON c.subject = s.subject AND c."window" = s."window"
                                  AND c.window_start = %(window_start)s
 WHERE s.subject LIKE 'user:%%' AND s."window" = %(window)s
   AND ((coalesce(c.spent_micro_rub, 0)
         + CASE WHEN s.created_at >= %(window_start)s THEN s.spent_before_micro_rub ELSE 0 END) * 100
        >= s.limit_micro_rub * %(lowest)s OR c.refused_limit_micro_rub IS NOT NULL)
   AND NOT EXISTS (SELECT 1 FROM billing_spendlimit n WHERE n."window" = s."window" AND n.created_at > %(at)s
                      AND (n.subject = s.subject OR n.subject LIKE ANY ('{tier:%%,plan:%%}')))
"""

# The same parameters. Keys that used the lowest mark of what binds them, with what no counter knows, or were
# refused.
_KEYS_SQL = """
WITH limits AS (
    SELECT DISTINCT ON (s.subject) s.subject, s.limit_micro_rub, b.before_micro_rub
      FROM billing_spendlimit s
     CROSS JOIN LATERAL (SELECT CASE WHEN s.created_at >= %(window_start)s THEN s.spent_before_micro_rub
                                     ELSE 0 END AS before_micro_rub) b
     WHERE s.subject LIKE 'key:%%' AND s."window" = %(window)s AND s.created_at <= %(at)s
       AND NOT EXISTS (SELECT 1 FROM billing_limitlift x WHERE x.subject = s.subject
                          AND x."window" = s."window" AND x.ends_at > %(at)s)
     ORDER BY s.subject, s.limit_micro_rub - b.before_micro_rub
)
SELECT l.subject, l.limit_micro_rub, coalesce(c.spent_micro_rub, 0) + l.before_micro_rub,
       coalesce(c.refused_limit_micro_rub >= l.limit_micro_rub - l.before_micro_rub, false)
  FROM limits l
  LEFT JOIN billing_limitcounter c ON c.subject = l.subject AND c."window" = %(window)s
                                  AND c.window_start = %(window_start)s
 WHERE (coalesce(c.spent_micro_rub, 0) + l.before_micro_rub) * 100 >= l.limit_micro_rub * %(lowest)s
    OR c.refused_limit_micro_rub IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class _Used:
    """What is spent of the limit that counts, in the window that `at` falls into."""

    subject: str
    window: str
    limit_micro_rub: int
    spent_micro_rub: int
    has_refused: bool
    at: datetime

    @property
    def mark(self) -> int | None:
        """The highest mark that is reached; None below the lowest."""
        if self.has_refused:
            return MARKS[0]
        spent = self.spent_micro_rub * 100
        return next((mark for mark in MARKS if spent and spent >= self.limit_micro_rub * mark), None)


def write(*, now: datetime) -> dict[str, int]:
    """Write the letters that are due; answers how many."""
    written = 0
    for window in windows.COUNTED:
        for at in _moments(window, now):
            for used in (*_shared(window, at), *_of_keys(window, at), *_of_customers(window, at)):
                mark = used.mark
                if mark is not None:
                    written += sum(_tell(user_id, used, mark, now) for user_id in _readers(used.subject))
    return {"letters": written}


def _moments(window: str, now: datetime) -> list[datetime]:
    """Now, and for a while the last instant of the window before."""
    start = windows.start_of(window, now)
    return [now] if now - start > ENDED_FOR else [start - AN_INSTANT, now]


def _facts(window: str, at: datetime) -> dict[str, str | datetime | int]:
    """Parameters of both queries."""
    return {
        "window": window,
        "window_start": windows.start_of(window, at),
        "at": at,
        "lowest": MARKS[-1],
    }


def _of_customers(window: str, at: datetime) -> Iterator[_Used]:
    with connection.cursor() as cursor:
        cursor.execute(_CUSTOMERS_SQL, _facts(window, at))
        customers = [row[0] for row in cursor.fetchall()]
    for customer_id in customers:
        for meter in policies.meters(policies.of(customer_id, now=at), now=at):
            limit = meter.limit
            if (limit.kind, limit.window.value, limit.is_lifted) == ("user", window, False):
                spent = meter.spent_micro_rub
                yield _Used(limit.subject, window, limit.limit_micro_rub, spent, meter.has_refused, at)


def _of_keys(window: str, at: datetime) -> Iterator[_Used]:
    with connection.cursor() as cursor:
        cursor.execute(_KEYS_SQL, _facts(window, at))
        for subject, limit_micro_rub, spent_micro_rub, has_refused in cursor.fetchall():
            yield _Used(subject, window, limit_micro_rub, spent_micro_rub, has_refused, at)


def _shared(window: str, at: datetime) -> Iterator[_Used]:
    """Of the limits that many spend from together."""
    lowest: dict[str, int] = {}
    rows = SpendLimit.objects.filter(_IS_SHARED, window=window, created_at__lte=at)
    for row in rows.order_by("-limit_micro_rub"):
        lowest[row.subject] = row.limit_micro_rub
    lifts = LimitLift.objects.filter(subject__in=lowest, window=window, ends_at__gt=at)
    for subject in lifts.values_list("subject", flat=True):
        lowest.pop(subject, None)
    counters = LimitCounter.objects.filter(
        subject__in=lowest, window=window, window_start=windows.start_of(window, at)
    )
    for counter in counters:
        most = lowest[counter.subject]
        has_refused = policies.has_refused(counter.refused_limit_micro_rub, most)
        yield _Used(counter.subject, window, most, counter.spent_micro_rub, has_refused, at)


_IS_SHARED = Q(subject=GIFTS) | Q(subject__startswith=ORGANISATION)


def _readers(subject: str) -> list[UUID]:
    if subject == GIFTS:
        owners = User.objects.filter(is_staff=True, is_active=True, role=User.Role.OWNER)
        return list(owners.values_list("pk", flat=True))
    number = _number_of(subject)
    if subject.startswith(KEY):
        return list(ApiKey.objects.filter(pk=number).values_list("user_id", flat=True))
    if subject.startswith(ORGANISATION):
        owner: UUID | None = import_string(settings.ORGANISATION_OWNER)(number)
        return [owner] if owner is not None else []
    return [number]


def _number_of(subject: str) -> UUID:
    return UUID(subject.partition(":")[2])


def _name_of(subject: str) -> str:
    """What the reader calls it; "" for what has no name."""
    if not subject.startswith(KEY):
        return ""
    return ApiKey.objects.filter(pk=_number_of(subject)).values_list("name", flat=True).first() or ""


@transaction.atomic
def _tell(user_id: UUID, used: _Used, mark: int, now: datetime) -> bool:
    start, end = windows.start_of(used.window, used.at), windows.end_of(used.window, used.at)
    resets_at = timezone.localtime(end, timezone.get_default_timezone())
    return notices.write(
        user_id=user_id,
        letter="limit_reached",
        key=f"limit:{used.subject}:{used.window}:{start:%Y-%m-%dT%H}:{mark}:{user_id}",
        facts={
            "mark": mark,
            "window": used.window,
            "whose": used.subject.partition(":")[0],  # user, key, gift or organisation
            "name": _name_of(used.subject),
            "limit_micro_rub": used.limit_micro_rub,
            "spent_micro_rub": used.spent_micro_rub,
            "resets_at": f"{resets_at:%d.%m.%Y %H:%M}",
        },
        now=now,
    )
