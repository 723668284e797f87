"""The application role belongs to the whole server: two databases of it may be migrated at once."""

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Barrier

import pytest
from django.db import IntegrityError, ProgrammingError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from plyrum.ids import uuid7
from plyrum.management.commands.migrate import make_role
from tests.threads import at_once

MANY = 6


def as_owner(work: Callable[[BaseDatabaseWrapper], None]) -> str:
    """Do `work` with the login's own rights; answers what became of it."""
    owner = connection.copy()
    owner.settings_dict["OPTIONS"].pop("assume_role")
    with closing(owner):
        try:
            work(owner)
        except (IntegrityError, ProgrammingError):
            return "failed"
    return "made"


@pytest.fixture
def role() -> Iterator[str]:
    name = f"tests_{uuid7().hex}"
    yield name

    def drop(owner: BaseDatabaseWrapper) -> None:
        with owner.cursor() as cursor:
            cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    assert as_owner(drop) == "made"


def test_role_is_made_once_by_many_who_migrate(role: str) -> None:
    assert at_once(MANY, lambda: as_owner(lambda owner: make_role(owner, role))) == ["made"] * MANY


def test_control_looking_first_and_making_later_fails_for_all_but_one(role: str) -> None:
    all_looked = Barrier(MANY)

    def careless(owner: BaseDatabaseWrapper) -> None:
        with owner.cursor() as cursor:
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            assert cursor.fetchone() is None
            all_looked.wait()
            cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))

    assert sorted(at_once(MANY, lambda: as_owner(careless))) == ["failed"] * (MANY - 1) + ["made"]
