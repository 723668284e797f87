"""Group commit for the engine: steps that arrive while a commit is under way go into the next database call.

Each coalescer owns one connection. With one request in flight it is a batch of one, and nobody waits on a
timer; a full batch does not wait for the call under way either. In a crowd those who were answered go on
before the next call is made: providers work meanwhile, and it has more steps. What is posted, and so waited
for by nobody, may also `linger` to share its commit with what comes after it.
A failure of the call is retried (steps carry their own keys); a poisoned step fails alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any
from uuid import UUID

import orjson
import psycopg
import structlog
from psycopg import pq

from orchestration.database_connection import DatabaseConnection, Row, Told, teller

log = structlog.get_logger(__name__)

MAX_BATCH = 256  # larger arrays hold their wallets' locks longer than they save commits
MAX_CALLS = 2  # one that the server works on, one that lies ready for it
CROWD = 8  # steps of a call, from which on those who were answered go first
TURNS = 2  # of the loop: one in which they are told, one in which their requests to providers are sent
RETRY_PAUSE_SECONDS = 0.05
CLOSE_POLL_SECONDS = 0.01

# An array in binary form: dimensions, NULLs or none, type; how many of the one dimension, from which number.
_SHAPE = Struct("!5i")
_TEXT_OID = 25
_LENGTH = Struct("!i")
_NULL = _LENGTH.pack(-1)

Step = dict[str, Any]
Waiting = tuple[Step, asyncio.Future[Row]]
# How the values of a step alone are sent: in binary form where that is shorter to make and to read.
_AS_PARAMETER: dict[type, tuple[Callable[[Any], bytes | None], pq.Format]] = {
    type(None): (lambda _: None, pq.Format.TEXT),
    UUID: (lambda value: value.bytes, pq.Format.BINARY),
    str: (str.encode, pq.Format.BINARY),
    int: (lambda value: b"%d" % value, pq.Format.TEXT),
    bool: (lambda value: b"t" if value else b"f", pq.Format.TEXT),
    bytes: (lambda value: value, pq.Format.BINARY),
    dict: (orjson.dumps, pq.Format.TEXT),
    list: (orjson.dumps, pq.Format.TEXT),
}
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
        text: str = "",
        max_batch: int = MAX_BATCH,
        patience_seconds: float = 2,
        linger_seconds: float = 0,
    ) -> None:
        """`fields`: what of a step alone `<function>_one` takes, in this order ("hold.amount": of a part).
        `text`: a field of UTF-8 that goes beside the steps in an array of its own: in their JSON a story is
        escaped and read again.
        `max_batch`: steps of a call. Whoever waits for one waits for all of them: a few milliseconds of the
        server's work are enough.
        `patience_seconds`: how long a call is repeated while the database is away.
        """
        self._conninfo = conninfo
        self._step_key = step_key
        self._row_key = row_key
        self._fields = [field.split(".") for field in fields]
        places = ", ".join(f"${place}" for place in range(1, len(fields) + 1))
        self._text = text
        self._many = f"SELECT * FROM {function}($1{', $2' if text else ''})"  # noqa: S608 - our own names
        self._one = f"SELECT * FROM {function}_one({places})"  # noqa: S608 - our own names
        self._max_batch = max_batch
        self._patience_seconds = patience_seconds
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._under_way = 0  # batches
        self._next: asyncio.Handle | None = None  # when the next batch is taken, if not with an answer
        self._recoveries: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Lock()
        self._database: DatabaseConnection | None = None

    def submit(self, step: Step) -> asyncio.Future[Row]:
        """Hand in one step; the answer comes when its effect is durable."""
        future: asyncio.Future[Row] = self._loop.create_future()
        self._waiting.append((step, future))
        if self._under_way:
            self._serve_full()
        elif self._next is None:
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
        self._serve_full()

    def _serve_full(self) -> None:
        """A full batch does not wait for the call under way."""
        while len(self._waiting) >= self._max_batch and self._under_way < MAX_CALLS:
            self._serve_next()

    def _serve_next(self) -> None:
        batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
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
        self._serve_full()
        if self._under_way or self._next is not None:
            return
        if len(batch) >= CROWD:
            self._go_on(TURNS)
        elif self._waiting:
            self._serve_next()

    def _call(self, steps: list[Step], told: Told) -> None:
        """Call the database, which is there. A fault before it is asked is told, too."""
        assert self._database is not None  # noqa: S101 - see _is_away
        try:
            if len(steps) == 1 and self._fields:
                values, formats = [], []
                for field in self._fields:
                    value = _value(steps[0], *field)
                    as_bytes, form = _AS_PARAMETER[type(value)]
                    values.append(as_bytes(value))
                    formats.append(form)
                self._database.ask(self._one, values, formats, told)
            elif self._text:
                texts = _text_array([step.get(self._text) for step in steps])
                bare = orjson.dumps([{**step, self._text: None} for step in steps])
                self._database.ask(self._many, [bare, texts], [pq.Format.TEXT, pq.Format.BINARY], told)
            else:
                self._database.ask(self._many, [orjson.dumps(steps)], None, told)
        except Exception as error:  # noqa: BLE001 - whatever it is, each step is answered and the work goes on
            told(error)

    def _tell(self, batch: list[Waiting], rows: list[Row]) -> None:
        by_key = {row.get(self._row_key): row for row in rows}
        for step, future in batch:
            row = by_key.get(step.get(self._step_key))
            if row is None:
                _fail([(step, future)], RuntimeError("The database function did not answer a step."))
            elif not future.done():
                future.set_result(row)

    # --- what went wrong ------------------------------------------------------------------------------------

    def _recover(self, batch: list[Waiting], began: float, failure: Exception | None) -> None:
        """Connect, or try again what failed. Meanwhile only a full batch goes on."""

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
                known = (self._many, self._one) if self._fields else (self._many,)
                self._database = await DatabaseConnection.connect(self._conninfo, *known)


def _value(step: Step, name: str, inner: str | None = None) -> Any:
    """A field of a step, or of a part of it that may be missing."""
    value = step.get(name)
    return value if inner is None or value is None else value.get(inner)


def _text_array(texts: list[bytes | None]) -> bytes:
    """A `text[]` in PostgreSQL's binary form: its shape, then each text behind its length, -1 for NULL."""
    parts = [_SHAPE.pack(1, 1, _TEXT_OID, len(texts), 1)]
    for text in texts:
        parts += (_NULL,) if text is None else (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def _fail(batch: list[Waiting], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # seen: nobody may be waiting for a posted step
