"""Copies of the ledger in a schema of their own, in which one defence at a time can be taken away.

A race test that cannot fail proves nothing: the same race on a copy without its defence shows the damage.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billing import models
from plyrum.ids import uuid7
from tests.concurrency.connections import client

SQL = Path(models.__file__).resolve().parent / "sql"
FILES = ("0000_lots.sql", "0001_ledger.sql", "0002_movements.sql", "0004_limits.sql", "0005_open_holds.sql")
MADE_BY_SQL = {"billing_lot", "billing_holdmark"}
TABLES = {*models.FUNCTION_ONLY_TABLES, *models.PROTECTED_TABLES} - MADE_BY_SQL

# What may be taken away: a pattern in the ledger's SQL and what stands there instead.
ROW_LOCK = (r"FOR NO KEY UPDATE(?: SKIP LOCKED)?", "")
FREE_WHEN_LOCKED = (
    r"w\.lot_remaining\[1\] - w\.lot_reserved\[1\] >= CASE",
    "(SELECT n.lot_remaining[1] - n.lot_reserved[1] FROM billing_wallet n"
    " WHERE n.customer_id = customer) >= CASE",
)
LOCKED_ONLY = (r"ANY \(locked\)", "ANY (customers)")
LOCK_OF_ALL = (r"(ledger_lock)\(customers\)", r"\1('{}')")
LOCK_OF_THE_SWEEP = (r"(ANY \(due\)\)\s+ORDER BY w\.customer_id) FOR NO KEY UPDATE", r"\1")
OWN_PLANS = (r"SET enable_seqscan = off SET plan_cache_mode = force_generic_plan", "")
OPEN_ONLY = (r"AND h\.status = 'open'", "")
LET_BE_BY_SWEEP = (r"OFFSET past FOR NO KEY UPDATE SKIP LOCKED", "OFFSET past")
LOCK_BEFORE_A_LOOK = (r"PERFORM ledger_lock\(ARRAY \[\(steps[^;]+;", "")
KNOWN_AT_SIGHT = (r"(FROM billing_hold h WHERE h\.id = hold)\);", r"\1 AND false);")
LOCK_OF_TWINS = (r"PERFORM 1 FROM billing_hold h WHERE h\.id = ANY \(hold_ids\) [^;]+;", "")
ORDER_OF_HOLDS = (r"ORDER BY hold_id  -- two calls", "-- two calls")
HOLDS_FIRST = (
    r"(    moment := ledger_clock\(\);\n    WITH step AS \(\n +SELECT \* FROM ROWS)",
    r"    PERFORM ledger_lock(customers);\n\1",
)
MARGIN = (r" - interval '10 minutes'", "")
LET_BE = (r"FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE")
# The amounts' own type is a second line behind the functions; without it a race shows its full damage.
AMOUNT_CHECK = """
ALTER DOMAIN micro_rub DROP CONSTRAINT micro_rub_check;
ALTER DOMAIN micro_rub_of_lots DROP CONSTRAINT micro_rub_of_lots_check
"""
UNIQUE_KEYS = """
DO $$
DECLARE
    dropping text;
BEGIN
    FOR dropping IN
        SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %s', i.indexrelid::regclass)
                    ELSE format('ALTER TABLE billing_ledgerentry DROP CONSTRAINT %I', c.conname) END
          FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
         WHERE i.indrelid = 'billing_ledgerentry'::regclass AND i.indisunique AND NOT i.indisprimary
    LOOP
        EXECUTE dropping;
    END LOOP;
END $$
"""


@contextmanager
def ledger_copy(
    *without: tuple[str, str],
    then: tuple[str, ...] = (),
    slow: str = "",
    meet: str = "",
    seconds: float = 0.02,
) -> Iterator[str]:
    """The name of a schema with a ledger of its own.

    `without`: defences taken out of the functions. `then`: statements run on the copy. `slow`: what takes
    `seconds`, so that many callers meet ("INSERT ON billing_hold"). `meet`: where two callers wait for each
    other, `seconds` at most, so that they surely meet.
    """
    schema = f"copy_{uuid7().hex}"
    with client(as_owner=True) as owner:
        owner.execute(f"CREATE SCHEMA {schema}")
    try:
        with client(schema=schema, as_owner=True) as owner:
            for table in TABLES:
                owner.execute(f"CREATE TABLE {table} (LIKE public.{table} INCLUDING ALL)")
            owner.execute(_functions(schema, without))
            for statement in then:
                owner.execute(statement)
            if slow:
                owner.execute(_slowness(slow, seconds))
            if meet:
                owner.execute(meeting(schema, meet, seconds))
        yield schema
    finally:
        with client(as_owner=True) as owner:
            owner.execute("SET client_min_messages = warning")
            owner.execute(f"DROP SCHEMA {schema} CASCADE")


def _functions(schema: str, without: tuple[tuple[str, str], ...]) -> str:
    text = "\n".join((SQL / name).read_text(encoding="utf-8") for name in FILES).replace(
        "search_path = public,", f"search_path = {schema},"
    )
    for pattern, instead in without:
        text, count = re.subn(pattern, instead, text)
        assert count, f"{pattern} is not in the ledger any more: the control proves nothing"
    return text


def _slowness(event: str, seconds: float) -> str:
    return f"""
        CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END';
        CREATE TRIGGER slow BEFORE {event} FOR EACH ROW EXECUTE FUNCTION take_time();
    """


def meeting(schema: str, event: str, seconds: float) -> str:
    """A trigger that lets two callers go on row by row together, however slow one of them is.

    A caller waits until the other is at as many rows as he is himself, waits for him, or has gone again.
    """
    return f"""
        CREATE SEQUENCE {schema}.arrivals;
        CREATE FUNCTION {schema}.meet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE
            rows int := coalesce(nullif(current_setting('tests.rows', true), ''), '0')::int + 1;
            deadline timestamptz := clock_timestamp() + make_interval(secs => {seconds});
            arrived bigint;
        BEGIN
            PERFORM set_config('tests.rows', rows::text, false), nextval('{schema}.arrivals');
            LOOP
                SELECT last_value INTO arrived FROM {schema}.arrivals;
                EXIT WHEN arrived >= 2 * rows OR clock_timestamp() > deadline
                    OR EXISTS (SELECT FROM pg_locks l
                                WHERE NOT l.granted AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)))
                    OR arrived > 1 AND NOT EXISTS (SELECT FROM pg_locks l
                                WHERE l.relation = TG_RELID AND l.mode = 'RowExclusiveLock'
                                  AND l.pid <> pg_backend_pid());
                PERFORM pg_sleep(0.002);
            END LOOP;
            RETURN NEW;
        END $$;
        CREATE TRIGGER meet BEFORE {event} FOR EACH ROW EXECUTE FUNCTION {schema}.meet();
    """  # noqa: S608 - names of our own
