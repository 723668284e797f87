"""A connection that is lost in an unusual way is closed, so that the next call makes another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orchestration import database_connection
from orchestration.database_connection import DatabaseConnection, Row, teller
from orchestration.engine import conninfo

STATEMENT = "SELECT * FROM jsonb_array_elements($1)"
GARBAGE = b"\xff\x00\x00\x00\x00"
READY = b"Z\x00\x00\x00\x05I"  # the server's last word after it has let somebody in

Change = Callable[[bytes], bytes]


@dataclass
class Relay:
    """Stands between; what the server says arrives as `answer` makes it."""

    answer: Change = bytes
    address: str = ""
    callers: list[asyncio.StreamWriter] = field(default_factory=list)
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = conninfo_to_dict(conninfo())
        host, port = str(known.get("host") or "localhost"), known.get("port") or 5432
        said, asked = (
            await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else await asyncio.open_connection(host, int(port))
        )
        self.callers.append(writer)
        self.pumps.append(asyncio.create_task(_pump(reader, asked, bytes)))
        self.pumps.append(asyncio.create_task(_pump(said, writer, lambda data: self.answer(data))))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Change) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(change(data))
    target.close()


@asynccontextmanager
async def relay(answer: Change = bytes) -> AsyncIterator[Relay]:
    made = Relay(answer)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made.address = make_conninfo(conninfo(), host="127.0.0.1", port=port)
        yield made
        await asyncio.wait(made.pumps)


async def asked(call: DatabaseConnection, *steps: dict[str, Any]) -> list[Row]:
    answer: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
    call.ask(STATEMENT, [orjson.dumps(steps)], None, teller(answer))
    return await answer


async def test_connection_lost_while_a_call_is_sent_is_closed() -> None:
    """libpq finds the end itself when there is no room to send, and closes the socket."""
    async with relay() as between:
        call = await DatabaseConnection.connect(between.address, STATEMENT)
        between.callers[0].write_eof()

        with pytest.raises(psycopg.OperationalError):
            await asked(call, {"text": "x" * 20_000_000})

        assert call.closed


async def test_answer_that_cannot_be_understood_ends_the_connection() -> None:
    """It must not keep the event loop asking for the rest."""
    async with relay() as between:
        call = await DatabaseConnection.connect(between.address, STATEMENT)
        between.answer = lambda data: GARBAGE + data

        with pytest.raises(psycopg.OperationalError):
            await asked(call, {})

        assert call.closed


async def test_server_that_falls_silent_before_the_first_call_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_connection, "SILENCE_SECONDS", 0.2)
    greetings: list[bytes] = []

    def greeting_only(data: bytes) -> bytes:
        if greetings and greetings[-1].endswith(READY):
            return b""
        greetings.append(data)
        return data

    async with relay(greeting_only) as between, asyncio.timeout(10):
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            await DatabaseConnection.connect(between.address, STATEMENT)


async def test_function_that_is_not_there_leaves_no_connection() -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await DatabaseConnection.connect(conninfo(), "SELECT no_such_function()")
