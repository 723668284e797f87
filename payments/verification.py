"""What the proof of the books asks about payments. Named in the setting LEDGER_CHECKS, run by billing."""

from pathlib import Path

from billing.verification import Check, checks_in

SQL = Path(__file__).resolve().parent / "sql" / "verify.sql"
INVOICES_SQL = SQL.with_name("verify_invoices.sql")


def checks() -> list[Check]:
    return checks_in(SQL) + checks_in(INVOICES_SQL)
