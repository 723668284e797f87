"""Sends notifications about final changes to the shop's webhook address, again and again until it answers
200.

Called by `shop` at each change. Every notification is a row first, so a restart goes on where it stopped.
Scripts may drop, hold, delay, duplicate or spoil one. Nothing here changes a payment.
"""

import asyncio
import sqlite3
from typing import Any

import httpx
import orjson

from sandbox import logs
from sandbox.clock import Clock
from sandbox.yookassa.scripts import Scripts
from sandbox.yookassa.shapes import Json

RETRY_SECONDS = (0.2, 1, 5, 15, 60, 300, 900)
LIFETIME_SECONDS = 24 * 3600
ANSWER_SECONDS = 10
SHOWN_ROWS = 200
GARBAGE = b'{"type":"notification","event":"payment.succ'


class Notifier:
    """The queue of notifications. Without an address they are kept as undeliverable rows."""

    def __init__(self, store: sqlite3.Connection, clock: Clock, scripts: Scripts, url: str | None) -> None:
        self.url = url
        self._store = store
        self._clock = clock
        self._scripts = scripts
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to send, the rows left by an earlier process first."""
        self._client = httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False)
        for row in self._store.execute("SELECT id FROM notifications WHERE state = 'waiting' ORDER BY id"):
            self._spawn(row["id"], delay=0.0)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def announce(self, *, event: str, shown: Json, facts: Json) -> None:
        """Store a notification with the snapshot of the object and send it in the background."""
        effect: Json = self._scripts.take("webhook", facts) or {}
        body = orjson.dumps({"type": "notification", "event": event, "object": shown})
        if "garbage" in effect:
            body = effect["garbage"].encode() if isinstance(effect["garbage"], str) else GARBAGE
        if effect.get("drop"):
            state = "dropped"
        elif effect.get("hold"):
            state = "held"
        else:
            state = "waiting"
        for _ in range(max(1, int(effect.get("duplicate", 1)))):
            self._insert(shown["id"], event, body, state, delay=float(effect.get("delay_seconds", 0)))

    def release(self, object_id: str) -> int:
        """Send what a script held back; answer how many."""
        return self._requeue(object_id, "state = 'held'")

    def resend(self, object_id: str) -> int:
        """Send every notification of the object once more; answer how many."""
        return self._requeue(object_id, "state != 'waiting'")

    def rows(self, object_id: str | None = None) -> list[dict[str, Any]]:
        """List notifications, newest first, without their bodies."""
        query = (
            "SELECT id, object_id, event, attempts, state FROM notifications"
            " WHERE ?1 IS NULL OR object_id = ?1 ORDER BY id DESC LIMIT ?2"
        )
        return [dict(row) for row in self._store.execute(query, (object_id, SHOWN_ROWS))]

    def _insert(self, object_id: str, event: str, body: bytes, state: str, *, delay: float) -> None:
        cursor = self._store.execute(
            "INSERT INTO notifications (object_id, event, body, created_at, state) VALUES (?, ?, ?, ?, ?)",
            (object_id, event, body, self._clock.now(), state),
        )
        if state == "waiting" and cursor.lastrowid is not None:
            self._spawn(cursor.lastrowid, delay=delay)

    def _requeue(self, object_id: str, condition: str) -> int:
        query = f"UPDATE notifications SET state = 'waiting' WHERE object_id = ? AND {condition} RETURNING id"  # noqa: S608
        rows = self._store.execute(query, (object_id,)).fetchall()
        for row in rows:
            self._spawn(row["id"], delay=0.0)
        return len(rows)

    def _spawn(self, notification_id: int, *, delay: float) -> None:
        if self.url is None or self._client is None:
            self._mark(notification_id, "no_address")
            return
        task = asyncio.create_task(self._deliver(notification_id, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, notification_id: int, delay: float) -> None:
        """Send one notification until it is taken, 24 hours have passed, or the sandbox stops."""
        row = self._store.execute("SELECT * FROM notifications WHERE id = ?", (notification_id,)).fetchone()
        waits = iter(RETRY_SECONDS)
        while await self._clock.sleep(delay):
            status = await self._post(row["body"])
            self._store.execute(
                "UPDATE notifications SET attempts = attempts + 1 WHERE id = ?", (notification_id,)
            )
            logs.event(
                "yookassa.webhook",
                id=notification_id,
                event=row["event"],
                object=row["object_id"],
                answer=status,
            )
            if status == httpx.codes.OK:
                self._mark(notification_id, "delivered")
                return
            if self._clock.now() - row["created_at"] > LIFETIME_SECONDS:
                self._mark(notification_id, "given_up")
                return
            delay = next(waits, RETRY_SECONDS[-1])

    async def _post(self, body: bytes) -> int:
        """Answer the HTTP status, 0 when there was none."""
        if self._client is None or self.url is None:
            return 0
        try:
            answer = await self._client.post(
                self.url, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError:
            return 0
        return answer.status_code

    def _mark(self, notification_id: int, state: str) -> None:
        self._store.execute("UPDATE notifications SET state = ? WHERE id = ?", (state, notification_id))
