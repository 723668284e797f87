"""The engine's look-ups: queries written for psycopg's cursor, on a connection that several of them share.

Each is prepared once and sent at once: a customer is looked up every few seconds, and many of them one after
the other would keep the last one waiting for seconds.
Source: docs/decisions/0040-one-run-by-typed-arguments.md.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from orchestration.database_connection import DatabaseConnection, Row, teller

LOOK_UP_SECONDS = 10

Parameters = Sequence[Any] | Mapping[str, Any]


class Reader:
    """One connection for the engine's look-ups, made again when it is lost. Each is sent at once."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connecting = asyncio.Lock()
        self._database: DatabaseConnection | None = None

    async def one(self, query: LiteralString, parameters: Parameters) -> Row | None:
        """The first row, or None. `query` and `parameters` as for psycopg's cursor.

        Raises psycopg's errors when the database is away or does not answer.
        """
        statement, values = _positional(query, parameters)
        database: DatabaseConnection | None = None
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                database = await self._connected()
                try:
                    rows = await _rows(database, statement, values)
                except psycopg.OperationalError:  # the server was restarted since the last look-up: once more
                    database = await self._connected()
                    rows = await _rows(database, statement, values)
        except TimeoutError as error:
            if database is not None:  # not the one that another look-up has made meanwhile
                database.close()
            raise psycopg.OperationalError("The database does not answer.") from error
        return rows[0] if rows else None

    async def _connected(self) -> DatabaseConnection:
        async with self._connecting:
            if self._database is None or self._database.closed:
                self._database = await DatabaseConnection.connect(self._conninfo)
            return self._database

    async def close(self) -> None:
        if self._database is not None:
            self._database.close()


async def _rows(database: DatabaseConnection, statement: str, values: list[bytes | None]) -> list[Row]:
    await database.prepare(statement)
    answer: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
    database.ask(statement, values, None, teller(answer))
    return await answer


@lru_cache(maxsize=100)
def _numbered(query: str) -> tuple[str, tuple[str, ...]]:
    """A query with $1, $2, ... for the parameters of psycopg's cursor, and their names in that order."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found[1] or f"{len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return re.sub(r"%%|%s|%\((\w+)\)s", place, query), tuple(names)


def _positional(query: str, parameters: Parameters) -> tuple[str, list[bytes | None]]:
    statement, names = _numbered(query)
    if isinstance(parameters, Mapping):
        parameters = [parameters[name] for name in names]
    return statement, [_as_text(value) for value in parameters]


def _as_text(value: UUID | str | int | datetime | list[UUID] | None) -> bytes | None:
    """A value of a look-up as PostgreSQL reads it. Raises DataError for a text that it cannot keep."""
    if value is None:
        return None
    if isinstance(value, list):
        return b"{%b}" % b",".join(item.hex.encode() for item in value)
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    if "\0" in text:
        raise psycopg.DataError("A text may not contain NUL characters.")
    return text.encode()
