"""The proof of the books: every promise of the ledger as a query that returns what breaks it.

Called by `verify_ledger`, by the nightly task and by tests. Reads one moment of the database, never repairs.
Other apps add their own checks by naming a function in the setting LEDGER_CHECKS.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

from billing import models
from plyrum import guards
from plyrum.ids import first_of

SQL = Path(__file__).resolve().parent / "sql" / "verify.sql"
APPEND_ONLY_TABLES = ("billing_ledgerentry", *models.PROTECTED_TABLES)
# The only ways to write money. V37 looks at each, and that no other has the rights of the owner.
WRITING_FUNCTIONS = (
    "ledger_hold(jsonb)",
    "ledger_hold_one(uuid,uuid,bigint,integer,boolean,jsonb,timestamp with time zone)",
    "ledger_settle(jsonb)",
    "ledger_settle_one(uuid,uuid,bigint,text,jsonb)",
    "ledger_credit(jsonb)",
    "ledger_debit(jsonb)",
    "ledger_debit_one(uuid,uuid,bigint,text,text,text,text,text,timestamp with time zone,boolean,bigint,"
    "text)",
    "ledger_reverse(jsonb)",
    "ledger_book(jsonb)",
    "ledger_open_wallet(uuid)",
    "ledger_expire_holds(integer,integer)",
    "ledger_renew(uuid[],integer)",
    "ledger_lock(uuid[])",
)
# What has a meaning for the books as they were at a moment: entries are never changed, all else is only
# as it is now. A wallet is then what its last entry says (V04 would compare an entry with itself).
OF_THE_PAST = ("V01", "V02", "V03", "V05", "V07", "V10", "V17", "V33", "V43")
# How far back a fast proof looks: two full proofs of neighbouring days are never further apart.
FAST_SPAN = timedelta(hours=48)
MOST_PER_CHECK = 1_000  # findings; what breaks millions of rows is told by the first thousand
_CHECK = re.compile(r"^-- check (?P<id>\w+): (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """One promise. `sql` returns (object, detail) for each broken fact; parameters as in `sql/verify.sql`."""

    id: str
    title: str
    sql: str


@dataclass(frozen=True)
class Finding:
    check: str
    title: str
    object: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found; the books are right when `findings` is empty.

    `balance_micro_rub` is what is owed to the customers of these wallets.
    """

    findings: tuple[Finding, ...]
    checks: int
    wallets: int
    entries: int
    balance_micro_rub: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.is_clean, **asdict(self)}


# Hears of each check twice: when it begins (findings None) and when it is done. Check, findings, seconds.
Progress = Callable[[Check, int | None, float], None]


class BooksBrokenError(Exception):
    """At least one promise of the ledger does not hold."""


class BooksNotProvedError(Exception):
    """The proof that should come first has not succeeded."""


def verify(
    *,
    wallets: Sequence[UUID] | None = None,
    as_of: datetime | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run every check at one moment of the database, over all wallets or over those given.

    `as_of` runs the checks of OF_THE_PAST over the entries written up to that moment. `only` names the checks
    to run.
    """
    with one_moment():
        return examine(wallets=wallets, as_of=as_of, only=only, progress=progress)


@contextmanager
def one_moment() -> Iterator[None]:
    """A transaction that reads one moment of the database and takes the time that it needs."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")  # a large ledger takes longer than a page may
            cursor.execute("SET LOCAL jit = off")
            cursor.execute("SET LOCAL work_mem = '64MB'")
        yield


def touched(since: datetime) -> list[UUID]:
    """The customers whose wallets moved or reserved money since that moment, or reserve some now.

    Entries and holds are found by their ids: a UUIDv7 begins with its time in milliseconds, so the primary
    key is an index by time. A charge has the id of its hold: it counts from when that was made.
    """
    first = first_of(since)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT customer_id FROM billing_ledgerentry WHERE id >= %(first)s AND customer_id IS NOT NULL"
            " UNION SELECT customer_id FROM billing_hold WHERE id >= %(first)s"
            " UNION SELECT customer_id FROM billing_openhold",
            {"first": first},
        )
        return [customer for (customer,) in cursor.fetchall()]


def examine(
    *,
    wallets: Sequence[UUID] | None = None,
    as_of: datetime | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run the checks in the transaction that is open, or statement by statement without one."""
    began = time.monotonic()
    parameters = _parameters(wallets, as_of)
    found: list[Finding] = []
    asked = OF_THE_PAST if only is None and as_of is not None else only
    known = [check for check in checks() if asked is None or check.id in asked]
    for check in known:
        started = time.monotonic()
        if progress is not None:
            progress(check, None, 0.0)
        rows = broken(check, parameters)
        found += rows
        if progress is not None:
            progress(check, len(rows), time.monotonic() - started)
    return Report(tuple(found), len(known), *_size(parameters), seconds=round(time.monotonic() - began, 3))


def checks() -> list[Check]:
    """Our own checks, then those of the apps named in LEDGER_CHECKS."""
    found = checks_in(SQL)
    for name in settings.LEDGER_CHECKS:
        found += import_string(name)()
    return found


def checks_in(path: Path) -> list[Check]:
    """The checks of a SQL file: common sources first, then after each `-- check ID: title` its statement."""
    sources, *parts = _CHECK.split(path.read_text(encoding="utf-8"))
    return [
        Check(check_id, title, f"{sources.rstrip()}\n{statement.strip()}")
        for check_id, title, statement in zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
    ]


def broken(check: Check, parameters: dict[str, Any]) -> list[Finding]:
    """What one check finds; a list of more than MOST_PER_CHECK is cut and ends with the object "..."."""
    with connection.cursor() as cursor:
        # MATERIALIZED: planned for all rows. With the limit in sight the planner chooses plans that are quick
        # to find a first broken row and twice as slow to find that there is none.
        query = f"WITH broken AS MATERIALIZED (\n{check.sql}\n) SELECT * FROM broken"  # noqa: S608 - our own text
        cursor.execute(f"{query} LIMIT {MOST_PER_CHECK + 1}", parameters)
        rows = cursor.fetchall()
    found = [Finding(check.id, check.title, str(place), str(detail)) for place, detail in rows]
    if len(found) > MOST_PER_CHECK:
        found[-1] = Finding(check.id, check.title, "...", "and more; look at single wallets")
    return found


def _size(parameters: dict[str, Any]) -> tuple[int, int, int]:
    """Wallets, entries and the sum of balances that were looked at; each number of a wallet is one entry."""
    sources, *_ = _CHECK.split(SQL.read_text(encoding="utf-8"))
    sums = "count(*), coalesce(sum(seq), 0), coalesce(sum(balance_micro_rub), 0)"
    with connection.cursor() as cursor:
        cursor.execute(f"{sources}\nSELECT {sums} FROM wallet", parameters)
        wallets, entries, balance = cursor.fetchone()
    return int(wallets), int(entries), int(balance)


def _parameters(wallets: Sequence[UUID] | None, as_of: datetime | None) -> dict[str, Any]:
    return {
        "wallets": list(wallets) if wallets is not None else None,
        "as_of": as_of,
        "append_only": sorted({*APPEND_ONLY_TABLES, *guards.protected_tables()}),
        "read_only": guards.read_only(),
        "functions": list(WRITING_FUNCTIONS),
        "constraints": guards.constraints(),
        "role": settings.PLYRUM_DATABASE_ROLE,
    }
