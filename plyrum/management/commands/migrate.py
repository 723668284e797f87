"""`migrate` as the owner: makes the application role, migrates, then grants that role what it may do.

Every other process works as the application role (setting PLYRUM_DATABASE_ROLE), which can neither change nor
delete rows of money, of the journal and of acceptances. Source: docs/decisions/0003-two-database-roles.md.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from plyrum import guards

LOWEST_POSTGRES = 150_000


class Command(DjangoMigrate):
    def execute(self, *args: Any, **options: Any) -> str | None:
        """The role is made before the system checks, which already ask the database."""
        connection = connections[options["database"]]
        work_as_owner(connection)
        _require_postgres(connection)
        make_role(connection, settings.PLYRUM_DATABASE_ROLE)
        output = super().execute(*args, **options)
        _grant(connection, settings.PLYRUM_DATABASE_ROLE)
        return output


def work_as_owner(connection: BaseDatabaseWrapper) -> None:
    """Use the login's own rights on this connection instead of the application role's."""
    if connection.settings_dict["OPTIONS"].pop("assume_role", None):
        connection.close()


def _require_postgres(connection: BaseDatabaseWrapper) -> None:
    connection.ensure_connection()
    version = connection.pg_version  # type: ignore[attr-defined]
    if version < LOWEST_POSTGRES:
        raise CommandError(f"Plyrum needs PostgreSQL 15 or newer; this server is {version // 10_000}.")


def make_role(connection: BaseDatabaseWrapper, role: str) -> None:
    """Roles are the whole server's: somebody who migrates another database may make it at the same moment."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL(
                    "DO $$ BEGIN CREATE ROLE {role} NOLOGIN; GRANT {role} TO CURRENT_USER;"
                    " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
                ).format(role=sql.Identifier(role))
            )


def _grant(connection: BaseDatabaseWrapper, role: str) -> None:
    """One transaction, so that no moment grants more than the end does."""
    name = sql.Identifier(role)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        cursor.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(name)
        )
        cursor.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
        for table, revoked in _protected():
            cursor.execute(
                sql.SQL("REVOKE {} ON {} FROM {}").format(sql.SQL(revoked), sql.Identifier(table), name)
            )


def _protected() -> list[tuple[str, str]]:
    """Tables the role may only add to, and what it may only read."""
    return [(table, "UPDATE, DELETE, TRUNCATE") for table in guards.protected_tables()] + [
        (table, "INSERT, UPDATE, DELETE, TRUNCATE") for table in guards.read_only()
    ]
