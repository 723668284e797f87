"""Fixtures of money tests: the owner's rights, and a clock of the ledger that one session can move."""

from collections.abc import Iterator
from datetime import datetime

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.billing import books

# Every session keeps the real time unless it names a moment of its own.
MOVABLE_CLOCK = """
CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(nullif(current_setting('tests.moment', true), '')::timestamptz, clock_timestamp())
$$
"""


class LedgerClock:
    """The ledger's time as our own session sees it."""

    def stand_at(self, moment: datetime) -> None:
        _run("SELECT set_config('tests.moment', %s, false)", moment.isoformat())

    def run_on(self) -> None:
        _run("SELECT set_config('tests.moment', '', false)")


@pytest.fixture(scope="session", autouse=True)
def _price(_database_for_all: None) -> None:
    """The price of all tests is committed before any of them."""
    books.price()


@pytest.fixture
def owner() -> Iterator[BaseDatabaseWrapper]:
    """A connection with the rights of the tables' owner, as a careless or hostile administrator has."""
    wrapper = connection.copy()
    wrapper.settings_dict["OPTIONS"].pop("assume_role")
    yield wrapper
    wrapper.close()


@pytest.fixture
def clock(owner: BaseDatabaseWrapper) -> Iterator[LedgerClock]:
    """Time stands where the test puts it, for this session only; the real function comes back afterwards."""
    with owner.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('ledger_clock()'::regprocedure)")
        (real,) = cursor.fetchone()
        cursor.execute(MOVABLE_CLOCK)
        yield LedgerClock()
        _run("SELECT set_config('tests.moment', '', false)")
        cursor.execute(real)


def _run(query: str, *parameters: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
