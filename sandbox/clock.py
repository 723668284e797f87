"""The sandbox's time: real time plus an offset that the control API moves, and waits that end at shutdown.

Owned by the process; every part asks it instead of the system clock, so that an hour can pass in a test.
"""

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Seconds since 1970 with an offset, and sleeping that stops when the sandbox stops."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0
        self._stopping = asyncio.Event()

    def now(self) -> float:
        return time.time() + self.offset_seconds

    def stop(self) -> None:
        """Wake everything that waits."""
        self._stopping.set()

    async def stopped(self) -> None:
        """Wait until the sandbox begins to stop."""
        await self._stopping.wait()

    async def sleep(self, seconds: float) -> bool:
        """Wait; answer False when the sandbox began to stop meanwhile."""
        if seconds <= 0:
            return not self._stopping.is_set()
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return True
        return False


def iso(at: float) -> str:
    """Write a moment as YooKassa does: `2026-11-20T11:02:03.456Z`."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_iso(text: str) -> float:
    """Read an RFC 3339 moment. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
