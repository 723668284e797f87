"""One database function on one connection, called straight over libpq on the event loop.

psycopg's cursor serves any statement: each call locks, looks up adapters and watches the socket anew, 50 µs
of CPU that a single request in flight waits for. Here are two statements, prepared once, on a socket that is
watched as long as it is open: for many steps, in one JSON parameter; for one, whose values are parameters by
themselves, which PostgreSQL reads for less than half. A second call may be sent while the first is under way
(libpq's pipeline mode): each is a transaction of its own, and the server need not wait for us in between.
Source: docs/decisions/0040-one-run-by-typed-arguments.md.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Self
from uuid import UUID

import orjson
import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

Row = dict[str, Any]
Told = Callable[[list[Row] | Exception], None]  # who is told the rows, or why there are none

MANY, ONE = b"plyrum_many", b"plyrum_one"
SILENCE_SECONDS = 20  # the server's own limit for a statement is shorter: a server that says nothing is gone


# How values are sent. In binary form where that is shorter to make and to read.
_AS_PARAMETER: dict[type, tuple[Callable[[Any], bytes | None], pq.Format]] = {
    type(None): (lambda _: None, pq.Format.TEXT),
    UUID: (lambda value: value.bytes, pq.Format.BINARY),
    str: (str.encode, pq.Format.BINARY),
    int: (lambda value: b"%d" % value, pq.Format.TEXT),
    bool: (lambda value: b"t" if value else b"f", pq.Format.TEXT),
    dict: (orjson.dumps, pq.Format.TEXT),
    list: (orjson.dumps, pq.Format.TEXT),
}


def teller(future: asyncio.Future[list[Row]]) -> Told:
    """Tell a future, for whoever awaits an answer."""

    def told(answer: list[Row] | Exception) -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    return told


class DatabaseCall:
    """Calls of an array-shaped function and of its sister for one step. Once it is `closed`, make another."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._arrived = select.poll()
        self._arrived.register(self._socket, select.POLLIN)
        self._loader = Transformer(connection)
        self._names: list[str] = []
        self._calls: deque[Told] = deque()
        self._result: pq.abc.PGresult | None = None
        self._silence: asyncio.TimerHandle | None = None
        self.closed = False
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._receive)

    @classmethod
    async def connect(cls, conninfo: str, function: str, *, arguments: int = 0) -> Self:
        """Prepare `function`, which takes one JSON array and answers with rows, as the application role.

        `arguments`: how many `<function>_one` takes, which answers in the same columns; 0 when there is none.
        """
        made = cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
        try:
            await made._prepare(MANY, function, 1)
            if arguments:
                await made._prepare(ONE, f"{function}_one", arguments)
        except BaseException:
            made.close()
            raise
        return made

    @property
    def backend_pid(self) -> int:
        return self._connection.info.backend_pid

    @property
    def under_way(self) -> int:
        return len(self._calls)

    def many(self, steps: list[dict[str, Any]], told: Told) -> None:
        """Call the function with these steps; `told` is called once."""
        self._ask(told, self._pgconn.send_query_prepared, MANY, [orjson.dumps(steps)], None, pq.Format.BINARY)

    def one(self, arguments: Iterable[Any], told: Told) -> None:
        """Call its sister, as `many`."""
        values: list[bytes | None] = []
        formats: list[pq.Format] = []
        for argument in arguments:
            as_bytes, form = _AS_PARAMETER[type(argument)]
            values.append(as_bytes(argument))
            formats.append(form)
        self._ask(told, self._pgconn.send_query_prepared, ONE, values, formats, pq.Format.BINARY)

    async def _prepare(self, name: bytes, function: str, arguments: int) -> None:
        places = ", ".join(f"${place}" for place in range(1, arguments + 1))
        statement = f"SELECT * FROM {function}({places})"  # noqa: S608 - our own names
        prepared: asyncio.Future[list[Row]] = self._loop.create_future()
        self._ask(teller(prepared), self._pgconn.send_prepare, name, statement.encode())
        await prepared

    def close(self) -> None:
        self._lose(psycopg.OperationalError("The connection was closed."))

    def _ask(self, told: Told, send: Callable[..., None], *arguments: Any) -> None:
        """Send one command as a transaction of its own."""
        try:
            send(*arguments)
            self._pgconn.pipeline_sync()
        except psycopg.OperationalError as error:
            self._lose(error)  # libpq has closed the socket: the loop would never hear of it
            told(error)
            return
        self._calls.append(told)
        if len(self._calls) == 1:
            self._listen()
        self._send()

    def _row(self, values: Any) -> Row:
        return dict(zip(self._names, values, strict=True))

    def _send(self) -> None:
        """Hand what was asked to the socket; what does not fit follows when there is room."""
        try:
            if self._pgconn.flush():
                self._loop.add_writer(self._socket, self._send)
            else:
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._lose(error)

    def _receive(self) -> None:
        """Take what has arrived. Of a socket that broke uvloop tells once, whatever lies before the break."""
        try:
            self._take()
            while self._calls and self._arrived.poll(0):
                self._take()
        except psycopg.Error as error:
            self._lose(error)

    def _take(self) -> None:
        """Of each call come its result, nothing, and the end of its transaction."""
        self._pgconn.consume_input()
        while self._calls and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                if self._pgconn.status == pq.ConnStatus.BAD:  # nothing else would come, for ever
                    raise psycopg.OperationalError("The database's answer cannot be understood.")
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._finish()
            else:
                self._result = result

    def _finish(self) -> None:
        assert self._result is not None  # noqa: S101 - a command has a result, or the connection is lost
        answer = self._read(self._result)
        told = self._calls.popleft()
        self._listen()
        told(answer)

    def _read(self, result: pq.abc.PGresult) -> list[Row] | Exception:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return error_from_result(result)
        self._loader.set_pgresult(result)
        if not self._names:
            self._names = [(result.fname(place) or b"").decode() for place in range(result.nfields)]
        return self._loader.load_rows(0, result.ntuples, self._row)

    def _listen(self) -> None:
        """From now on the server has its time to answer the next call."""
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._loop.call_later(SILENCE_SECONDS, self._give_up) if self._calls else None

    def _give_up(self) -> None:
        self._lose(psycopg.OperationalError("The database does not answer."))

    def _lose(self, error: psycopg.Error) -> None:
        """The connection is of no use any more: let it go and say so to whoever waits."""
        if self.closed:  # the number of its socket may be another one's by now
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        if self._silence is not None:
            self._silence.cancel()
        calls, self._calls = self._calls, deque()
        for told in calls:
            told(error)
