"""What applies to a customer who asks: limits of spending, a stop of it, how often they may ask.

One query for all of it, shared by the engine (`orchestration/admission.py` keeps the answer for seconds) and
the doors of Django. Reads only: `billing/limits.py` and `billing/request_rates.py` change what is read here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string

from accounts.throttling import Limit
from billing import windows
from billing.errors import DebtOutstanding, RequestLimitExceeded, SpendingBlocked, SpendLimitReached
from billing.limit_models import Window
from billing.models import LimitCounter
from plyrum.clock import rfc3339

CHANGES_CHANNEL = "billing:policies"  # Redis: the id of the customer whose policy changed, or EVERYBODY
EVERYBODY = "everybody"
# A lifted limit is counted on, so that the meter stays true; nobody spends a billion roubles in a window.
NO_LIMIT = 1_000_000_000_000_000
MINUTE_SECONDS, HOUR_SECONDS = 60, 3600
# Limits whose numbers are nobody's business but ours.
SHARED_SUBJECTS = ("gift:all",)

# Parameters: customer_id, api_key_id (or null), now. Always one row. Whoever has none but gift money free
# in the wallet spends gifts: only then the gift limits apply. Money of their own that open holds reserve, or
# whose time is over, pays for nothing. Source: docs/decisions/0025-limits-of-spending.md.
# `<subjects>` is the query that LIMIT_SUBJECTS_SQL names: plans and organisations are not known here.
_POLICY_SQL = """
WITH belonging (subject) AS (
<subjects>
), money AS (
    SELECT EXISTS (SELECT 1 FROM billing_creditlot l WHERE l.customer_id = %(customer_id)s::uuid
                      AND NOT l.is_spent AND l.kind <> 'bonus'
                      AND l.remaining_micro_rub > l.reserved_micro_rub
                      AND (l.expires_at IS NULL OR l.expires_at > %(now)s)) AS has_own_money,
           EXISTS (SELECT 1 FROM belonging b WHERE b.subject LIKE 'plan:%%') AS has_plan,
           EXISTS (SELECT 1 FROM billing_creditlot l WHERE l.customer_id = %(customer_id)s::uuid
                      AND l.kind <> 'bonus') AS has_paid  -- also what is spent by now
), facts AS (
    SELECT m.has_own_money,
           CASE WHEN m.has_plan THEN 'plan' WHEN m.has_paid THEN 'paid' ELSE 'free' END AS tier
      FROM money m
), applying AS (
    SELECT s.id, s.limit_micro_rub, s."window",
           CASE WHEN s."window" = 'request' THEN 0
                WHEN date_trunc(s."window", s.created_at, 'Europe/Moscow')
                     = date_trunc(s."window", %(now)s::timestamptz, 'Europe/Moscow')
                THEN s.spent_before_micro_rub ELSE 0 END AS before,
           CASE WHEN s.subject = 'gift:each' THEN 'gift:' || %(customer_id)s::text
                WHEN s.subject LIKE ANY ('{tier:%%,plan:%%}') THEN 'user:' || %(customer_id)s::text
                ELSE s.subject END AS subject
      FROM billing_spendlimit s, facts f
     WHERE s.subject IN ('user:' || %(customer_id)s::text, 'tier:' || f.tier,
                         'key:' || %(api_key_id)s::uuid::text)
        OR s.subject IN (SELECT b.subject FROM belonging b)
        OR (s.subject IN ('gift:each', 'gift:all') AND NOT f.has_own_money)
)
SELECT EXISTS (SELECT 1 FROM billing_spendingblock b
                WHERE b.customer_id = %(customer_id)s::uuid AND b.lifted_at IS NULL) AS is_blocked,
       (SELECT coalesce(sum(e.amount_micro_rub), 0)::bigint FROM billing_ledgerentry e
         WHERE e.type = 'debt' AND e.customer_id IS NULL AND e.seq IS NULL  -- as `queries.DEBT`
           AND e.source_id = %(customer_id)s::text AND e.debit_account = 'receivable')
       - (SELECT coalesce(sum(e.amount_micro_rub), 0)::bigint FROM billing_ledgerentry e
           WHERE e.type = 'chargeback' AND e.credit_account = 'receivable'
             AND e.customer_id = %(customer_id)s::uuid AND e.source_id = %(customer_id)s::text) AS debt,
       ARRAY(SELECT a.subject FROM applying a ORDER BY a.id) AS subjects,
       ARRAY(SELECT a."window" FROM applying a ORDER BY a.id) AS windows,
       ARRAY(SELECT a.limit_micro_rub FROM applying a ORDER BY a.id) AS limits,
       ARRAY(SELECT a.before FROM applying a ORDER BY a.id) AS before,
       ARRAY(SELECT EXISTS (SELECT 1 FROM billing_limitlift x
                             WHERE x.subject = a.subject AND x."window" = a."window" AND x.ends_at > %(now)s)
               FROM applying a ORDER BY a.id) AS lifted,
       r.tier, r.per_minute, r.per_hour
  FROM facts f, billing_requestrate r
 WHERE r.tier = f.tier
"""


@dataclass(frozen=True, slots=True)
class AppliedLimit:
    """The lowest limit of a subject and window; `subject` is the counter's."""

    subject: str
    window: Window
    limit_micro_rub: int
    before_micro_rub: int  # spent in this window before the limit was set, which no counter knows
    is_lifted: bool

    @property
    def kind(self) -> str:
        """user, key, organisation or gift."""
        return self.subject.partition(":")[0]

    @property
    def countable_micro_rub(self) -> int:
        """What the counter may reach."""
        return self.limit_micro_rub - self.before_micro_rub

    @property
    def is_shared(self) -> bool:
        return self.subject in SHARED_SUBJECTS


@dataclass(frozen=True, slots=True)
class Policy:
    is_blocked: bool
    debt_micro_rub: int  # what a disputed payment left; whatever comes in repays it first
    limits: tuple[AppliedLimit, ...]
    tier: str
    rates: tuple[Limit, Limit]  # by minute, by hour

    @property
    def counted(self) -> list[AppliedLimit]:
        """The limits that the ledger counts, in the order in which a step of it names them."""
        return [limit for limit in self.limits if limit.window != Window.REQUEST]

    def holds_until(self, now: datetime) -> datetime | None:
        """When time alone makes another policy of what was read at `now`; None when only an act does.

        With its window a lift ends, and what was spent before a limit was set counts no more.
        """
        bound_to_time = [limit for limit in self.counted if limit.is_lifted or limit.before_micro_rub]
        return min((windows.end_of(limit.window, now) for limit in bound_to_time), default=None)

    def steps(self) -> list[dict[str, Any]]:
        """`limits` of a step of `ledger_hold`."""
        return [
            {
                "subject": limit.subject,
                "window": limit.window.value,
                "limit": NO_LIMIT if limit.is_lifted else limit.countable_micro_rub,
            }
            for limit in self.counted
        ]

    def require_spending_allowed(self) -> None:
        """For whatever costs money, a plan too. Raises SpendingBlocked, DebtOutstanding."""
        if self.is_blocked:
            raise SpendingBlocked("Spending is stopped for this account. Write to support.")
        if self.debt_micro_rub > 0:
            raise DebtOutstanding(
                "A payment taken back by its bank left a debt. Top up: what comes in repays it first.",
                debt_micro_rub=self.debt_micro_rub,
            )

    def require_allowed(self, hold_micro_rub: int) -> None:
        """What needs no counter. Raises SpendingBlocked, DebtOutstanding, RequestLimitExceeded."""
        self.require_spending_allowed()
        for limit in self.limits:
            if limit.window == Window.REQUEST and hold_micro_rub > limit.limit_micro_rub:
                raise RequestLimitExceeded(
                    "This may cost more than one request is allowed to. Lower max_output_tokens, choose a"
                    " cheaper model or raise the limit.",
                    limit_micro_rub=limit.limit_micro_rub,
                    needed_micro_rub=hold_micro_rub,
                )


@cache
def policy_sql() -> str:
    """The query of everything that applies, with `parameters`; its row is for `from_row`."""
    subjects: str = import_string(settings.LIMIT_SUBJECTS_SQL)
    return _POLICY_SQL.replace("<subjects>", subjects)


def of(customer_id: UUID, *, api_key_id: UUID | None = None, now: datetime) -> Policy:
    with connection.cursor() as cursor:
        cursor.execute(policy_sql(), parameters(customer_id, api_key_id, now))
        names = [column.name for column in cursor.description]
        return from_row(dict(zip(names, cursor.fetchone(), strict=True)))


def by_window(customer_id: UUID, *, now: datetime) -> dict[str, int]:
    """The customer's own meters as `{"day_micro_rub": 300000000}`, without keys, organisations and gifts."""
    limits = of(customer_id, now=now).limits
    return {
        f"{limit.window.value}_micro_rub": limit.limit_micro_rub for limit in limits if limit.kind == "user"
    }


def parameters(customer_id: UUID, api_key_id: UUID | None, now: datetime) -> dict[str, Any]:
    return {"customer_id": str(customer_id), "api_key_id": api_key_id, "now": now}


def from_row(row: Mapping[str, Any]) -> Policy:
    """A row of `policy_sql` by name of column."""
    lowest: dict[tuple[str, str], AppliedLimit] = {}
    names = ("subjects", "windows", "limits", "before", "lifted")
    for subject, window, limit, before, is_lifted in zip(*(row[name] for name in names), strict=True):
        known = lowest.get((subject, window))
        if known is None or limit - before < known.countable_micro_rub:
            lowest[subject, window] = AppliedLimit(subject, Window(window), limit, before, is_lifted)
    return Policy(
        is_blocked=row["is_blocked"],
        debt_micro_rub=row["debt"],
        limits=tuple(lowest.values()),
        tier=row["tier"],
        rates=(
            Limit("requests-minute", row["per_minute"], MINUTE_SECONDS),
            Limit("requests-hour", row["per_hour"], HOUR_SECONDS),
        ),
    )


# Parameters: subject, window, window_start. No row: nothing was counted yet.
COUNTER_SQL = """
SELECT spent_micro_rub, reserved_micro_rub FROM billing_limitcounter
 WHERE subject = %(subject)s AND "window" = %(window)s AND window_start = %(window_start)s
"""


def counter_parameters(limit: AppliedLimit, now: datetime) -> dict[str, Any]:
    start = windows.start_of(limit.window, now)
    return {"subject": limit.subject, "window": limit.window.value, "window_start": start}


def limit_reached(
    limit: AppliedLimit, counter: Mapping[str, Any] | None, *, now: datetime
) -> SpendLimitReached:
    """The refusal of a request that does not fit into what is left of `limit`; a row of COUNTER_SQL."""
    resets_at = windows.end_of(limit.window, now)
    facts: dict[str, Any] = {
        "subject_kind": limit.kind,
        "window": limit.window.value,
        "resets_at": rfc3339(resets_at),
    }
    if not limit.is_shared:
        counted = counter["spent_micro_rub"] + counter["reserved_micro_rub"] if counter is not None else 0
        facts["limit_micro_rub"] = limit.limit_micro_rub
        facts["used_micro_rub"] = limit.before_micro_rub + counted
    error = SpendLimitReached(_advice(limit), **facts)
    error.retry_after_seconds = max(1, int((resets_at - now).total_seconds()))
    return error


def _advice(limit: AppliedLimit) -> str:
    name = limit.window.value
    if limit.kind == "gift":
        return f"The gift money of this {name} is used up. Top up, or come back when it resets."
    if limit.kind == "key":
        return f"It does not fit into this API key's limit of the {name}. Raise it, or wait until it resets."
    return f"It does not fit into the spending limit of this {name}. Raise it, or wait until it resets."


@dataclass(frozen=True, slots=True)
class Meter:
    """A limit with what counts against it now; a single request counts nothing and never resets."""

    limit: AppliedLimit
    spent_micro_rub: int
    reserved_micro_rub: int
    resets_at: datetime | None
    has_refused: bool = False  # a request did not fit into it, in this window

    @property
    def used_micro_rub(self) -> int:
        return self.spent_micro_rub + self.reserved_micro_rub


def has_refused(refused_limit_micro_rub: int | None, countable_micro_rub: int) -> bool:
    """Whether a limit refused in this window: at this amount or a higher one, not before it was raised."""
    return refused_limit_micro_rub is not None and refused_limit_micro_rub >= countable_micro_rub


def meters(policy: Policy, *, now: datetime) -> list[Meter]:
    """The limits whose numbers may be shown to the customer."""
    shown = [limit for window in Window for limit in policy.limits if limit.window == window]
    shown = [limit for limit in shown if not limit.is_shared]
    counters = {
        (row.subject, row.window, row.window_start): row
        for row in LimitCounter.objects.filter(
            subject__in={limit.subject for limit in shown},
            window_start__in=[windows.start_of(window, now) for window in windows.COUNTED],
        )
    }
    found = []
    for limit in shown:
        if limit.window == Window.REQUEST:
            found.append(Meter(limit, 0, 0, None))
            continue
        row = counters.get((limit.subject, limit.window, windows.start_of(limit.window, now)))
        spent, reserved = (row.spent_micro_rub, row.reserved_micro_rub) if row is not None else (0, 0)
        refused = row.refused_limit_micro_rub if row is not None else None
        found.append(
            Meter(
                limit,
                limit.before_micro_rub + spent,
                reserved,
                resets_at=windows.end_of(limit.window, now),
                has_refused=has_refused(refused, limit.countable_micro_rub),
            )
        )
    return found
