"""The story of a run as numbered frames: written to Redis first, then shown, archived after the end.

A run's executor appends; any number of readers follow, leave and come back, in this process or another.
One writer task sends what all runs have appended since its last trip in one pipeline.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import orjson
import structlog
from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, ResponseError

from plyrum.clock import rfc3339_now

log = structlog.get_logger(__name__)
# Frames in the groups they became visible in, and None where there is none to tell: each source says why.
Groups = AsyncIterator[list[bytes] | None]

KEEP_SECONDS = 3600  # live frames; the archive in PostgreSQL keeps them afterwards
TERMINAL = (b'"type":"run.finished"', b'"type":"error"')
READ_BLOCK_MS = 1000
TRIP_SECONDS = 5


def stream_key(run_id: UUID | str) -> str:
    return f"run:{run_id}:frames"


class Story:
    """The frames of one run in the process that executes it. `shown` frames were written to Redis.

    A story that is not `is_live` (the provider answers all at once) is shown whole at its end, when it is
    already archived with its charge. Only one that is abandoned is written, for the sweep to charge and end.
    `on_end` is called once, when the last frame is shown.
    """

    def __init__(
        self, run_id: UUID, log: "FrameLog", on_end: "Callable[[Story], None]", *, is_live: bool = True
    ) -> None:
        self.is_live = is_live
        self.run_id = run_id
        self._prefix = b'{"run_id":"' + str(run_id).encode() + b'","seq":'
        self._log = log
        self._on_end = on_end
        self.pending: list[bytes] = []
        self.shown: list[bytes] = []
        self.is_over = False  # the terminal frame is appended
        self._is_under_way = False  # to Redis
        # The connection of the log by which Redis learned to forget the frames by itself.
        self.limited_in = -1
        self.last_append = time.monotonic()
        self._moved = asyncio.Event()

    def append(self, type_: str, facts: dict[str, Any]) -> None:
        """Add one frame; it becomes visible once it is written."""
        self.pending.append(self._frame(self._next_seq, rfc3339_now(), type_, facts))
        self.last_append = time.monotonic()
        if self.is_live:
            self._log.has_work(self)

    def drafted(self, frames: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
        """These frames, of one moment, as they read when nothing is appended before them."""
        moment = rfc3339_now()
        return [
            self._frame(seq, moment, type_, facts)
            for seq, (type_, facts) in enumerate(frames, start=self._next_seq)
        ]

    @property
    def _next_seq(self) -> int:
        return len(self.shown) + len(self.pending) + 1

    def _frame(self, seq: int, moment: bytes, type_: str, facts: dict[str, Any]) -> bytes:
        return b'%b%d,"ts":"%b","type":"%b"%b%b\n' % (
            self._prefix, seq, moment, type_.encode(), b"," if facts else b"", orjson.dumps(facts)[1:],
        )  # fmt: skip

    def end(self, frames: list[bytes]) -> None:
        """Add the last frames, as they were drafted."""
        self.pending += frames
        self.is_over = True
        if self.is_live:
            self._log.has_work(self)
        else:
            self.show(len(self.pending))

    @property
    def has_end(self) -> bool:
        """Whether this process told the terminal frame."""
        told = self.pending or self.shown
        return bool(told) and is_terminal(told[-1])

    def abandon(self, *, is_taken_over: bool = False) -> None:
        """This process cannot finish the story: readers are let go, the sweep writes its end.

        One that was taken over has that end already: what was not written yet is no part of it.
        """
        self.is_over = True
        if is_taken_over:
            self.pending.clear()
        self._wake_readers()
        if self._is_under_way:
            return  # the writer ends it
        if self.pending:
            self._log.has_work(self)
        else:
            self._on_end(self)

    def hand_over(self) -> int:
        """The writer asks: how many frames to write now."""
        self._is_under_way = bool(self.pending)
        return len(self.pending)

    def show(self, count: int) -> None:
        """The writer says: the first `count` pending frames are safe."""
        self._is_under_way = False
        self.shown += self.pending[:count]
        del self.pending[:count]
        self._wake_readers()
        if self.is_over and not self.pending:
            self._on_end(self)

    def _wake_readers(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def over(self) -> None:
        """Wait until nothing more will be shown."""
        while not self.is_over or self.pending:
            await self._moved.wait()

    async def follow(self, after_seq: int = 0) -> AsyncIterator[list[bytes]]:
        """Frames after `after_seq`, in the groups they became visible in, until the story is over."""
        position = after_seq
        while True:
            moved = self._moved
            if position < len(self.shown):
                fresh = self.shown[position:]
                position = len(self.shown)
                yield fresh
            elif self.is_over and not self.pending:
                return
            else:
                await moved.wait()


class FrameLog:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        self._connections = 0  # how many were lost
        self._dirty: dict[UUID, Story] = {}
        self._is_writing = False
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._write(), name="frame writer")

    def has_work(self, story: Story) -> None:
        self._dirty[story.run_id] = story
        self._wake.set()

    async def close(self) -> None:
        while self._dirty or self._is_writing:
            await asyncio.sleep(0.01)
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await self._connection.disconnect()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            counts = [(story, count) for story in dirty.values() if (count := story.hand_over())]
            if not counts:
                continue
            self._is_writing = True
            try:
                await self._send(counts)
            except Exception as error:  # noqa: BLE001 - the writer serves every run of this process: it goes on
                # Redis is speed, not truth: readers of this process go on, a crash would lose these frames.
                log.warning("frames_not_kept", error=type(error).__name__)
            for story, count in counts:
                story.show(count)
            self._is_writing = False

    async def _send(self, counts: list[tuple[Story, int]]) -> None:
        """One trip for all stories, on a connection of its own: a pipeline costs more than it sends."""
        try:
            try:
                await self._talk(self._commands(counts))
            except TimeoutError:  # it hangs, and asking again would only wait as long
                raise
            except (ConnectionError, OSError):  # Redis was restarted since the last trip: once more
                await self._lose_connection()
                await self._talk(self._commands(counts))
        except BaseException:
            await self._lose_connection()  # answers still under way would be misread
            raise
        for story, _ in counts:
            story.limited_in = self._connections

    def _commands(self, counts: list[tuple[Story, int]]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for story, count in counts:
            key = stream_key(story.run_id)
            # Numbered by its last frame: Redis refuses what it has, and an owner that was shut out.
            number = len(story.shown) + count
            found.append(("XADD", key, f"{number}-0", "f", b"".join(story.pending[:count])))
            if story.limited_in != self._connections:
                found.append(("EXPIRE", key, KEEP_SECONDS))
        return found

    async def _lose_connection(self) -> None:
        self._connections += 1  # a Redis that was away may come back empty
        await self._connection.disconnect(nowait=True)

    async def _talk(self, commands: list[tuple[Any, ...]]) -> None:
        await self._connection.connect()  # does nothing while connected
        await self._connection.send_packed_command([b"".join(map(pack_command, commands))])
        async with asyncio.timeout(TRIP_SECONDS):
            for _ in commands:
                try:
                    await self._connection.read_response(timeout=math.inf)  # the trip has a limit of its own
                except ResponseError as error:
                    if "equal or smaller" not in str(error):  # it is there already
                        raise

    async def stored(self, run_id: UUID) -> list[bytes]:
        """All frames that Redis holds of a run, whoever executes it."""
        entries: Any = await self._redis.xrange(stream_key(run_id))
        return [line for _, fields in entries for line in lines(fields[b"f"])]

    async def follow(self, run_id: UUID, after_seq: int) -> Groups:
        """Frames of a run that another process executes.

        An empty group means that there was nothing new for a second, None that Redis cannot be asked. Frames
        that Redis lost are not skipped: the reader waits for the archive, which has all of them.
        """
        seen, is_away = after_seq, False
        while True:
            try:
                answer: Any = await self._redis.xread({stream_key(run_id): f"{seen}-0"}, block=READ_BLOCK_MS)
            except (RedisError, OSError) as error:
                if not is_away:
                    log.warning("frames_not_read", error=type(error).__name__)
                is_away = True
                await asyncio.sleep(READ_BLOCK_MS / 1000)
                yield None
                continue
            is_away = False
            fresh: list[bytes] = []
            for entry_id, fields in answer[0][1] if answer else []:
                found = lines(fields[b"f"])
                last = int(entry_id.split(b"-")[0])
                first = last - len(found) + 1
                if first > seen + 1:
                    break
                fresh += found[seen + 1 - first :]
                seen = last
            if answer and not fresh:
                await asyncio.sleep(READ_BLOCK_MS / 1000)
            yield fresh
            if fresh and is_terminal(fresh[-1]):
                return


def lines(blob: bytes) -> list[bytes]:
    return [line + b"\n" for line in blob.splitlines() if line]


def is_terminal(frame: bytes) -> bool:
    return any(mark in frame[:160] for mark in TERMINAL)
