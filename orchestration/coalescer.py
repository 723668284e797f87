"""Group commit for the engine: steps that arrive while a commit is under way go into the next database call.

Each coalescer owns one connection. With one request in flight it is a batch of one, and nobody waits on a
timer; a full batch does not wait for the call under way either. In a crowd those who were answered go on
before the next call is made: providers work meanwhile, and it has more steps. What is posted, and so waited
for by nobody, may also `linger` to share its commit with what comes after it.
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

from orchestration.database_call import DatabaseCall, Row

log = structlog.get_logger(__name__)

MAX_BATCH = 256  # larger arrays hold their wallets' locks longer than they save commits
MAX_CALLS = 2  # one that the server works on, one that lies ready for it
CROWD = 8  # steps of a call, from which on those who were answered go first
TURNS = 2  # of the loop: one in which they are told, one in which their requests to providers are sent
RETRY_PAUSE_SECONDS = 0.05
LOOK_UP_SECONDS = 10

Step = dict[str, Any]
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
        self._function = function
        self._step_key = step_key
        self._row_key = row_key
        self._patience_seconds = patience_seconds
        self._linger_seconds = linger_seconds
        self._waiting: list[tuple[Step, asyncio.Future[Row]]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Lock()
        self._database: DatabaseCall | None = None

    def submit(self, step: Step) -> asyncio.Future[Row]:
        """Hand in one step; the answer comes when its effect is durable."""
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, future))
        if not self._workers or (len(self._waiting) >= MAX_BATCH and len(self._workers) < MAX_CALLS):
            self._workers.add(asyncio.create_task(self._work()))
        return future

    def post(self, step: Step) -> None:
        """Hand in one step without waiting for it: for what the sweep would do again if it were lost."""
        self.submit(step)

    async def close(self) -> None:
        """Finish what was handed in, then let the connection go."""
        self._linger_seconds = 0
        while self._workers:
            await asyncio.wait(self._workers)
        if self._database is not None:
            self._database.close()

    async def _work(self) -> None:
        """Serve what is waiting. Of two workers one that finds no full batch leaves it to the other."""
        try:
            if self._linger_seconds:
                await asyncio.sleep(self._linger_seconds)
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._serve(batch)
                if len(self._waiting) >= MAX_BATCH:
                    continue
                if len(self._workers) > 1:
                    return
                if len(batch) >= CROWD:
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
        finally:
            # At once, not when the task is over: a step handed in meanwhile would wait for nobody.
            self._workers.remove(asyncio.current_task())  # type: ignore[arg-type]

    async def _serve(self, batch: list[tuple[Step, asyncio.Future[Row]]]) -> None:
        try:
            rows = await self._call_with_retries([step for step, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, each step is answered and the work goes on
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
        return self._database is None or self._database.closed

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
        async with self._connecting:
            database = self._database
            if database is None or database.closed:
                database = self._database = await DatabaseCall.connect(self._conninfo, self._function)
        return await database.rows(orjson.dumps(steps))


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
