"""The guard of tables whose rows are never changed: a database trigger and narrow rights.

Used by the migrations of every app that keeps evidence. The trigger holds for the owner of the table and in
replica mode (`ENABLE ALWAYS`); the application role has no right to try in the first place.
"""

from django.db.migrations import RunSQL
from django.db.migrations.operations.base import Operation

# 23001 restrict_violation: Django shows it as IntegrityError, so that nobody mistakes it for a missing right.
MAKE_FUNCTION = """
CREATE FUNCTION auditlog_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: its rows are never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$
"""
DROP_FUNCTION = "DROP FUNCTION auditlog_refuse_change()"

_PROTECT = """
CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION auditlog_refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_is_append_only;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'plyrum_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM plyrum_app;
    END IF;
END $$;
"""
_RELEASE = "DROP TRIGGER {table}_is_append_only ON {table}"


def protect(table: str) -> Operation:
    """Refuse UPDATE, DELETE and TRUNCATE on `table`, even when they would touch no row."""
    return RunSQL(_PROTECT.format(table=table), _RELEASE.format(table=table))
