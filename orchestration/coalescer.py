"""Group commit for the engine: steps that arrive while a commit is under way go into the next database call.

Each coalescer owns one connection. With one request in flight it is a batch of one; nobody waits on a timer.
Only what is posted, and so waited for by nobody, may `linger` to share its commit with what comes after it.
A failure of the call is retried (steps carry their own keys); a poisoned step fails alone.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

import orjson
import psycopg
import structlog
from psycopg.rows import dict_row

log = structlog.get_logger(__name__)

MAX_BATCH = 128  # larger arrays hold their wallets' locks longer than they save commits
RETRY_PAUSE_SECONDS = 0.05
LOOK_UP_SECONDS = 10

Step = dict[str, Any]
Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]
_TRANSIENT = (psycopg.OperationalError, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class Coalescer:
    """Calls one array-shaped database function; `submit` answers with the row whose `key` is the step's."""

    def __init__(
        self,
        conninfo: str,
        function: str,
        *,
        step_key: str,
        row_key: str,
        patience_seconds: float = 2,
        linger_seconds: float = 0,
    ) -> None:
        """`patience_seconds`: how long a call is repeated while the database is away."""
        self._conninfo = conninfo
        self._query = f"SELECT * FROM {function}(%s)"  # noqa: S608 - our own function names
        self._step_key = step_key
        self._row_key = row_key
        self._patience_seconds = patience_seconds
        self._linger_seconds = linger_seconds
        self._is_serving = False
        self._waiting: list[tuple[Step, asyncio.Future[Row]]] = []
        self._wake = asyncio.Event()
        self._cursor: psycopg.AsyncCursor[Row] | None = None
        self._pump = asyncio.create_task(self._run(), name=f"coalescer {function}")

    async def submit(self, step: Step) -> Row:
        """Hand in one step and wait until its effect is durable."""
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, future))
        self._wake.set()
        return await future

    def post(self, step: Step) -> None:
        """Hand in one step without waiting for it: for what the sweep would do again if it were lost."""
        self._waiting.append((step, asyncio.get_running_loop().create_future()))
        self._wake.set()

    async def close(self) -> None:
        """Finish what was handed in, then let the connection go."""
        self._linger_seconds = 0
        while self._waiting or self._is_serving:
            await asyncio.sleep(0.01)
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        if self._cursor is not None:
            await self._cursor.connection.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._linger_seconds:
                await asyncio.sleep(self._linger_seconds)
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._is_serving = True
                await self._serve(batch)
                self._is_serving = False

    async def _serve(self, batch: list[tuple[Step, asyncio.Future[Row]]]) -> None:
        try:
            rows = await self._call_with_retries([step for step, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, each step is answered and the pump goes on
            if len(batch) > 1 and not self._is_away():
                for single in batch:  # one of them may be poisoned: each gets its own verdict
                    await self._serve([single])
                return
            log.error("coalescer_call_failed", error=type(error).__name__, steps=len(batch))
            _answer(batch, error)
            return
        by_key = {row[self._row_key]: row for row in rows}
        for step, future in batch:
            row = by_key.get(step[self._step_key])
            if row is None:
                _answer([(step, future)], RuntimeError("The database function did not answer a step."))
            elif not future.done():
                future.set_result(row)

    def _is_away(self) -> bool:
        """No connection could be made: asking again step by step would only wait as often."""
        return self._cursor is None or self._cursor.connection.closed

    async def _call_with_retries(self, steps: list[Step]) -> Iterable[Row]:
        deadline = time.monotonic() + self._patience_seconds
        pause = RETRY_PAUSE_SECONDS
        while True:
            try:
                return await self._call(steps)
            except _TRANSIENT:
                if time.monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)

    async def _call(self, steps: list[Step]) -> list[Row]:
        cursor = self._cursor
        if cursor is None or cursor.connection.closed:
            cursor = self._cursor = (await connect(self._conninfo)).cursor()
        await cursor.execute(self._query, [orjson.dumps(steps).decode()], prepare=True, binary=True)
        return await cursor.fetchall()


class Reader:
    """One connection for the engine's few look-ups, made again when it is lost."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Row] | None = None

    async def one(self, query: LiteralString, parameters: Parameters) -> Row | None:
        """The first row, or None. Raises psycopg's errors when the database is away or does not answer."""
        async with self._lock:
            try:
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    try:
                        return await self._one(query, parameters)
                    except (
                        psycopg.OperationalError
                    ):  # the server was restarted since the last look-up: once more
                        return await self._one(query, parameters)
            except TimeoutError as error:
                await self.close()
                raise psycopg.OperationalError("The database does not answer.") from error

    async def _one(self, query: LiteralString, parameters: Parameters) -> Row | None:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._conninfo)
        try:
            cursor = await self._connection.execute(query, parameters)
            return await cursor.fetchone()
        except psycopg.OperationalError:
            await self._connection.close()
            raise

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


async def connect(conninfo: str) -> psycopg.AsyncConnection[Row]:
    """A connection of the engine: autocommit, rows as dicts, as the application role."""
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, row_factory=dict_row)


def _answer(batch: list[tuple[Step, asyncio.Future[Row]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # seen: nobody may be waiting for a posted step
