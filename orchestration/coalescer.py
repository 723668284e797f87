"""Group commit for the engine: steps that arrive while a commit is under way go into the next database call.

Each coalescer owns one connection. With one request in flight it is a batch of one, and nobody waits on a
timer; a full batch does not wait for the call under way either. In a crowd those who were answered go on
before the next call is made: providers work meanwhile, and it has more steps. What is posted, and so waited
for by nobody, may also `linger` to share its commit with what comes after it.
A failure of the call is retried (steps carry their own keys); a poisoned step fails alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
import structlog
from psycopg.rows import dict_row

from orchestration.database_call import DatabaseCall, Row, Told, teller

log = structlog.get_logger(__name__)

MAX_BATCH = 256  # larger arrays hold their wallets' locks longer than they save commits
MAX_CALLS = 2  # one that the server works on, one that lies ready for it
CROWD = 8  # steps of a call, from which on those who were answered go first
TURNS = 2  # of the loop: one in which they are told, one in which their requests to providers are sent
RETRY_PAUSE_SECONDS = 0.05
CLOSE_POLL_SECONDS = 0.01
LOOK_UP_SECONDS = 10

Step = dict[str, Any]
Waiting = tuple[Step, asyncio.Future[Row]]
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
        fields: Sequence[str] = (),
        patience_seconds: float = 2,
        linger_seconds: float = 0,
    ) -> None:
        """`fields`: what of a step alone `<function>_one` takes, in this order ("hold.amount": of a part).
        `patience_seconds`: how long a call is repeated while the database is away.
        """
        self._conninfo = conninfo
        self._function = function
        self._step_key = step_key
        self._row_key = row_key
        self._fields = [field.split(".") for field in fields]
        self._patience_seconds = patience_seconds
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._under_way = 0  # batches
        self._next: asyncio.Handle | None = None  # when the next batch is taken, if not with an answer
        self._recoveries: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Lock()
        self._database: DatabaseCall | None = None

    def submit(self, step: Step) -> asyncio.Future[Row]:
        """Hand in one step; the answer comes when its effect is durable."""
        future: asyncio.Future[Row] = self._loop.create_future()
        self._waiting.append((step, future))
        if len(self._waiting) >= MAX_BATCH and 0 < self._under_way < MAX_CALLS:
            self._serve_next()
        elif not self._under_way and self._next is None:
            # Not at once: what is handed in meanwhile comes along.
            if self._linger_seconds:
                self._next = self._loop.call_later(self._linger_seconds, self._go_on)
            else:
                self._next = self._loop.call_soon(self._go_on)
        return future

    def post(self, step: Step) -> None:
        """Hand in one step without waiting for it: for what the sweep would do again if it were lost."""
        self.submit(step)

    async def close(self) -> None:
        """Finish what was handed in, then let the connection go."""
        while self._under_way or self._next is not None:
            await asyncio.sleep(CLOSE_POLL_SECONDS)
        if self._database is not None:
            self._database.close()

    def _go_on(self, turns: int = 0) -> None:
        """Take what is waiting, after some turns of the loop."""
        if turns:
            self._next = self._loop.call_soon(self._go_on, turns - 1)
            return
        self._next = None
        if self._waiting:
            self._serve_next()

    def _serve_next(self) -> None:
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        self._under_way += 1
        began = self._loop.time()
        if self._is_away():
            self._recover(batch, began, None)
            return

        def told(answer: list[Row] | Exception) -> None:
            if isinstance(answer, Exception):
                self._recover(batch, began, answer)
            else:
                self._tell(batch, answer)
                self._finish(batch)

        self._call([step for step, _ in batch], told)

    def _finish(self, batch: list[Waiting]) -> None:
        """Of two batches under way one that finds no full one behind it leaves what waits to the other."""
        self._under_way -= 1
        if len(self._waiting) >= MAX_BATCH:
            self._serve_next()
        elif self._under_way or self._next is not None:
            return
        elif len(batch) >= CROWD:
            self._go_on(TURNS)
        elif self._waiting:
            self._serve_next()

    def _call(self, steps: list[Step], told: Told) -> None:
        """Call the database, which is there. A fault before it is asked is told, too."""
        assert self._database is not None  # noqa: S101 - see _is_away
        try:
            if len(steps) == 1 and self._fields:
                self._database.one([_value(steps[0], *field) for field in self._fields], told)
            else:
                self._database.many(steps, told)
        except Exception as error:  # noqa: BLE001 - whatever it is, each step is answered and the work goes on
            told(error)

    def _tell(self, batch: list[Waiting], rows: list[Row]) -> None:
        by_key = {row[self._row_key]: row for row in rows}
        for step, future in batch:
            row = by_key.get(step[self._step_key])
            if row is None:
                _fail([(step, future)], RuntimeError("The database function did not answer a step."))
            elif not future.done():
                future.set_result(row)

    # --- what went wrong ------------------------------------------------------------------------------------

    def _recover(self, batch: list[Waiting], began: float, failure: Exception | None) -> None:
        """Connect, or try again what failed, beside the others' work."""

        async def work() -> None:
            await self._serve(batch, began, failure)
            self._finish(batch)

        task = asyncio.create_task(work())
        self._recoveries.add(task)
        task.add_done_callback(self._recoveries.discard)

    async def _serve(self, batch: list[Waiting], began: float, failure: Exception | None) -> None:
        try:
            rows = await self._call_with_retries([step for step, _ in batch], began, failure)
        except Exception as error:  # noqa: BLE001 - as above
            if len(batch) > 1 and not self._is_away():
                for single in batch:  # one of them may be poisoned: each gets its own verdict
                    await self._serve([single], self._loop.time(), None)
                return
            log.error("coalescer_call_failed", error=type(error).__name__, steps=len(batch))
            _fail(batch, error)
            return
        self._tell(batch, rows)

    def _is_away(self) -> bool:
        """There is no connection; when none could be made, asking step by step would only wait as often."""
        return self._database is None or self._database.closed

    async def _call_with_retries(
        self, steps: list[Step], began: float, failure: Exception | None
    ) -> list[Row]:
        pause = RETRY_PAUSE_SECONDS
        while True:
            try:
                if failure is not None:
                    raise failure
                await self._connect()
                answer: asyncio.Future[list[Row]] = self._loop.create_future()
                self._call(steps, teller(answer))
                return await answer
            except _TRANSIENT:
                if self._loop.time() + pause > began + self._patience_seconds:
                    raise
                await asyncio.sleep(pause)
                pause, failure = min(2 * pause, 1.0), None

    async def _connect(self) -> None:
        async with self._connecting:
            if self._is_away():
                self._database = await DatabaseCall.connect(
                    self._conninfo, self._function, arguments=len(self._fields)
                )


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


def _value(step: Step, name: str, inner: str | None = None) -> Any:
    """A field of a step, or of a part of it that may be missing."""
    value = step.get(name)
    return value if inner is None or value is None else value.get(inner)


def _fail(batch: list[Waiting], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # seen: nobody may be waiting for a posted step
