"""One database function on one connection, called straight over libpq on the event loop.

psycopg's cursor serves any statement: each call locks, looks up adapters and watches the socket anew, 50 µs
of CPU that a single request in flight waits for. Here is one statement, prepared once, with one parameter, on
a socket that is watched as long as it is open. A second call may be sent while the first is under way
(libpq's pipeline mode): each is a transaction of its own, and the server need not wait for us in between.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

Row = dict[str, Any]

STATEMENT = b"plyrum_call"
SILENCE_SECONDS = 20  # the server's own limit for a statement is shorter: a server that says nothing is gone


class DatabaseCall:
    """Calls of one array-shaped function. Useless once it is `closed`: make another."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._arrived = select.poll()
        self._arrived.register(self._socket, select.POLLIN)
        self._loader = Transformer(connection)
        self._names: list[str] = []
        self._calls: deque[asyncio.Future[pq.abc.PGresult]] = deque()
        self._result: pq.abc.PGresult | None = None
        self._silence: asyncio.TimerHandle | None = None
        self.closed = False
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._receive)

    @classmethod
    async def connect(cls, conninfo: str, function: str) -> Self:
        """Prepare `function`, which takes one JSON array and answers with rows, as the application role."""
        made = cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
        statement = f"SELECT * FROM {function}($1)"  # noqa: S608 - our own names
        try:
            await made._ask(made._pgconn.send_prepare, STATEMENT, statement.encode())
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

    async def rows(self, steps: bytes) -> list[Row]:
        """Call the function with this JSON text. Raises psycopg's errors; `closed` if it was lost."""
        result = await self._ask(self._pgconn.send_query_prepared, STATEMENT, [steps], None, pq.Format.BINARY)
        self._loader.set_pgresult(result)
        if not self._names:
            self._names = [(result.fname(place) or b"").decode() for place in range(result.nfields)]
        return self._loader.load_rows(0, result.ntuples, self._row)

    def close(self) -> None:
        self._lose(psycopg.OperationalError("The connection was closed."))

    async def _ask(self, send: Callable[..., None], *arguments: Any) -> pq.abc.PGresult:
        """Send one command as a transaction of its own; its result, or the server's error."""
        call: asyncio.Future[pq.abc.PGresult] = self._loop.create_future()
        try:
            send(*arguments)
            self._pgconn.pipeline_sync()
        except psycopg.OperationalError as error:
            self._lose(error)  # libpq has closed the socket: the loop would never hear of it
            raise
        self._calls.append(call)
        if len(self._calls) == 1:
            self._listen()
        self._send()
        result = await call
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise error_from_result(result)
        return result

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
        except psycopg.OperationalError as error:
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
        call = self._calls.popleft()
        if self._result is not None and not call.done():
            call.set_result(self._result)
        self._listen()

    def _listen(self) -> None:
        """From now on the server has its time to answer the next call."""
        if self._silence is not None:
            self._silence.cancel()
        gone = psycopg.OperationalError("The database does not answer.")
        self._silence = self._loop.call_later(SILENCE_SECONDS, self._lose, gone) if self._calls else None

    def _lose(self, error: psycopg.OperationalError) -> None:
        """The connection is of no use any more: let it go and say so to whoever waits."""
        if self.closed:  # the number of its socket may be another one's by now
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        if self._silence is not None:
            self._silence.cancel()
        for call in self._calls:
            if not call.done():
                call.set_exception(error)
