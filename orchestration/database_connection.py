"""Statements on one connection, called straight over libpq on the event loop.

psycopg's cursor serves any statement: each call locks, looks up adapters and watches the socket anew, 50 µs
of CPU that a single request in flight waits for. Here statements are prepared once, on a socket that is
watched as long as it is open. More may be sent while the first is under way (libpq's pipeline mode): each is
a transaction of its own, and the server need not wait for us in between.
"""

import asyncio
import itertools
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import structlog
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

Row = dict[str, Any]
Told = Callable[[list[Row] | Exception], None]  # who is told the rows, or why there are none

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 20  # the server's own limit for a statement is shorter: a server that says nothing is gone


@dataclass(slots=True)
class Prepared:
    """A statement that this connection knows, and the names of its columns once it was answered."""

    name: bytes
    is_ready: asyncio.Future[list[Row]]
    columns: list[str] | None = None


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


class DatabaseConnection:
    """A connection as the application role. Once it is `closed`, make another."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._arrived = select.poll()
        self._arrived.register(self._socket, select.POLLIN)
        self._loader = Transformer(connection)
        self._numbers = itertools.count()
        self._prepared: dict[str, Prepared] = {}
        self._calls: deque[tuple[Told, Prepared]] = deque()
        self._result: pq.abc.PGresult | None = None
        self._silence: asyncio.TimerHandle | None = None
        self.closed = False
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._receive)

    @classmethod
    async def connect(cls, conninfo: str, *statements: str) -> Self:
        """Connect and prepare `statements`, with parameters $1, $2, ..."""
        made = cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
        try:
            for statement in statements:
                await made.prepare(statement)
        except BaseException:
            made.close()
            raise
        return made

    async def prepare(self, statement: str) -> None:
        """Make `statement` known to the server, once. Raises what the server finds wrong with it."""
        known = self._prepared.get(statement)
        if known is None:
            name = b"plyrum_%d" % next(self._numbers)
            known = self._prepared[statement] = Prepared(name, self._loop.create_future())
            self._ask(teller(known.is_ready), known, self._pgconn.send_prepare, name, statement.encode())
        try:
            await asyncio.shield(known.is_ready)
        except psycopg.Error:
            if self._prepared.get(statement) is known:
                del self._prepared[statement]  # another time it may be right
            raise

    @property
    def backend_pid(self) -> int:
        return self._connection.info.backend_pid

    @property
    def under_way(self) -> int:
        return len(self._calls)

    def ask(
        self, statement: str, values: list[bytes | None], formats: list[pq.Format] | None, told: Told
    ) -> None:
        """Call a prepared statement; `told` is called once. Without `formats` all values are texts."""
        known = self._prepared[statement]
        self._ask(
            told, known, self._pgconn.send_query_prepared, known.name, values, formats, pq.Format.BINARY
        )

    def close(self) -> None:
        self._lose(psycopg.OperationalError("The connection was closed."))

    def _ask(self, told: Told, about: Prepared, send: Callable[..., None], *arguments: Any) -> None:
        """Send one command as a transaction of its own."""
        try:
            send(*arguments)
            self._pgconn.pipeline_sync()
        except psycopg.OperationalError as error:
            self._lose(error)  # libpq has closed the socket: the loop would never hear of it
            told(error)
            return
        self._calls.append((told, about))
        if len(self._calls) == 1:
            self._listen()
        self._send()

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
        told, about = self._calls.popleft()
        result, self._result = self._result, None
        self._listen()
        try:
            answer = self._read(result, about)
        except Exception as error:  # noqa: BLE001 - a value that cannot be read is its asker's trouble alone
            answer = error
        self._tell(told, answer)

    def _tell(self, told: Told, answer: list[Row] | Exception) -> None:
        try:
            told(answer)
        except Exception:  # those who come after are told, too
            log.exception("answer_not_taken")

    def _read(self, result: pq.abc.PGresult | None, about: Prepared) -> list[Row] | Exception:
        if result is None:
            return psycopg.InternalError("The database ended a call without an answer.")
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return error_from_result(result)
        if not result.ntuples:
            return []
        if about.columns is None:
            about.columns = [(result.fname(place) or b"").decode() for place in range(result.nfields)]
        self._loader.set_pgresult(result)
        columns = about.columns
        return self._loader.load_rows(
            0, result.ntuples, lambda values: dict(zip(columns, values, strict=True))
        )

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
        for told, _ in calls:
            self._tell(told, error)
