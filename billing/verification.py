"""The proof of the books: every promise of the ledger as a query that returns what breaks it.

Called by `verify_ledger`, by the nightly task and by tests. Reads one moment of the database, never repairs.
Other apps add their own checks by naming a function in the setting LEDGER_CHECKS.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

from billing import models

SQL = Path(__file__).resolve().parent / "sql" / "verify.sql"
APPEND_ONLY_TABLES = ("billing_ledgerentry", *models.PROTECTED_TABLES)
# The only ways to write money; V37 looks at each.
WRITING_FUNCTIONS = (
    "ledger_hold(jsonb)",
    "ledger_settle(jsonb)",
    "ledger_credit(jsonb)",
    "ledger_debit(jsonb)",
    "ledger_reverse(jsonb)",
    "ledger_book(jsonb)",
    "ledger_post(billing_wallet,uuid,text,text,text,bigint,text,text,text,bigint[],bigint[],timestamptz,timestamptz)",
    "ledger_open_wallet(uuid)",
    "ledger_expire_holds(integer)",
    "ledger_lock(uuid[])",
)
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
    """What was looked at and what was found; the books are right when `findings` is empty."""

    findings: tuple[Finding, ...]
    checks: int
    wallets: int
    entries: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.is_clean, **asdict(self)}


Progress = Callable[[Check, int, float], None]


class BooksBrokenError(Exception):
    """At least one promise of the ledger does not hold."""


@transaction.atomic(durable=True)
def verify(
    *,
    wallets: Sequence[UUID] | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run every check at one moment of the database, over all wallets or over those given.

    `only` names the checks to run. `progress` hears of each when it is done: the check, findings, seconds.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = 0")  # a large ledger takes longer than a page may
        cursor.execute("SET LOCAL jit = off")
        cursor.execute("SET LOCAL work_mem = '64MB'")
    return examine(wallets=wallets, only=only, progress=progress)


def examine(
    *,
    wallets: Sequence[UUID] | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run the checks in the transaction that is open, or statement by statement without one."""
    began = time.monotonic()
    parameters = _parameters(wallets)
    found: list[Finding] = []
    known = [check for check in checks() if only is None or check.id in only]
    for check in known:
        started = time.monotonic()
        rows = _broken(check, parameters)
        found += rows
        if progress is not None:
            progress(check, len(rows), time.monotonic() - started)
    wallet_count, entry_count = _size(parameters)
    return Report(tuple(found), len(known), wallet_count, entry_count, round(time.monotonic() - began, 3))


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


def _broken(check: Check, parameters: dict[str, Any]) -> list[Finding]:
    with connection.cursor() as cursor:
        query = f"SELECT * FROM (\n{check.sql}\n) AS broken LIMIT {MOST_PER_CHECK + 1}"  # noqa: S608 - our own text
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    found = [Finding(check.id, check.title, str(broken), str(detail)) for broken, detail in rows]
    if len(found) > MOST_PER_CHECK:
        found[-1] = Finding(check.id, check.title, "...", "and more; look at single wallets")
    return found


def _size(parameters: dict[str, Any]) -> tuple[int, int]:
    """Wallets and entries that were looked at; every number of a wallet's head is one entry."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(seq), 0) FROM billing_wallet"
            " WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])",
            parameters,
        )
        wallets, entries = cursor.fetchone()
    return int(wallets), int(entries)


def _parameters(wallets: Sequence[UUID] | None) -> dict[str, Any]:
    return {
        "wallets": list(wallets) if wallets is not None else None,
        "append_only": list(APPEND_ONLY_TABLES),
        "function_only": list(models.FUNCTION_ONLY_TABLES),
        "functions": list(WRITING_FUNCTIONS),
        "constraints": _constraints(),
        "role": settings.PLYRUM_DATABASE_ROLE,
    }


def _constraints() -> list[str]:
    """Names of the constraints that the models declare."""
    tables = apps.get_app_config("billing").get_models()
    return sorted(constraint.name for table in tables for constraint in table._meta.constraints)
