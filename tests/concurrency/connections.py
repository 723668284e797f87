"""Real connections for races: one for each caller, all starting together, separate clients of the server."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import Queue
from threading import Barrier
from typing import Any, TypeVar

import orjson
import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql
from psycopg.rows import DictRow, dict_row

T = TypeVar("T")
Client = psycopg.Connection[DictRow]
# A deadlock is told quickly; a wait that is none may take as long as many callers in a row need.
OPTIONS = "-c lock_timeout=30s -c statement_timeout=60s"


def address() -> dict[str, Any]:
    """Where the tests' database is, in psycopg's words."""
    known = connection.settings_dict
    named = {
        "dbname": known["NAME"],
        "user": known["USER"],
        "password": known["PASSWORD"],
        "host": known["HOST"],
        "port": known["PORT"],
    }
    return {name: str(value) for name, value in named.items() if value}


@contextmanager
def client(*, schema: str = "public", as_owner: bool = False) -> Iterator[Client]:
    """One client; each statement is a transaction of its own."""
    with psycopg.connect(**address(), options=OPTIONS, autocommit=True, row_factory=dict_row) as found:
        found.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        if as_owner:
            found.execute("SET deadlock_timeout = '50ms'")
        else:
            found.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(settings.PLYRUM_DATABASE_ROLE)))
        yield found


def call(found: Client, function: str, steps: Sequence[dict[str, Any]]) -> list[DictRow]:
    """Call one of the ledger's array functions."""
    query = sql.SQL("SELECT * FROM {}(%s)").format(sql.Identifier(function))
    return found.execute(query, [orjson.dumps(list(steps)).decode()]).fetchall()


def race(
    count: int,
    work: Callable[[Client, int], T],
    *,
    schema: str = "public",
    as_owner: bool = False,
) -> list[T | psycopg.Error]:
    """Let `count` clients do `work(client, number)` at the same moment; a database error is an answer too."""
    barrier = Barrier(count)

    def caller(number: int) -> T | psycopg.Error:
        with client(schema=schema, as_owner=as_owner) as found:
            barrier.wait(timeout=60)
            try:
                return work(found, number)
            except psycopg.Error as error:
                return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(caller, range(count)))


def crowd(callers: int, connections: int, work: Callable[[Client, int], T]) -> list[T | psycopg.Error]:
    """As race, with more callers than connections: each waits for a free one, as behind a pool."""
    barrier = Barrier(callers)

    with ExitStack() as stack, ThreadPoolExecutor(callers) as threads:
        pool: Queue[Client] = Queue()
        for _ in range(connections):
            pool.put(stack.enter_context(client()))

        def caller(number: int) -> T | psycopg.Error:
            barrier.wait(timeout=60)
            found = pool.get()
            try:
                return work(found, number)
            except psycopg.Error as error:
                return error
            finally:
                pool.put(found)

        return list(threads.map(caller, range(callers)))


def wait_until_blocked(waiting: "Future[Any]", by: int) -> None:
    """Return once somebody waits for the session of process `by`; fails when `waiting` ended before."""
    with client(as_owner=True) as watcher:
        blocked = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        while watcher.execute(blocked, [by]).fetchone() is None:
            assert not waiting.done(), waiting.exception()
            time.sleep(0.01)
