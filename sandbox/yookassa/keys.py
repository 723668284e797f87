"""The memory of `Idempotence-Key`: same key and data give the first answer, other data are refused, 24 hours
long.

Called by `api` for every POST. A key is bound to its data at the first well-formed request, even when that
request is refused: a corrected request needs a new key.
"""

import re
import sqlite3
from hashlib import sha256

import orjson

from sandbox.clock import Clock
from sandbox.yookassa.errors import invalid
from sandbox.yookassa.shapes import Json

KEY = re.compile(r"[A-Za-z0-9+\-_.]{1,64}", re.ASCII)
LIFETIME_SECONDS = 24 * 3600
PARAMETER = "Idempotence-Key"


class Keys:
    """Bound keys and the answers given under them."""

    def __init__(self, store: sqlite3.Connection, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def bind(self, key: str | None, *, path: str, body: Json) -> bytes | None:
        """Bind the key to the data; answer the stored answer when the operation has already run."""
        if key is None or not KEY.fullmatch(key):
            raise invalid(
                "Idempotence-Key is missing or malformed: 1..64 letters, digits, + - _ .", PARAMETER
            )
        now = self._clock.now()
        self._store.execute("DELETE FROM idempotence_keys WHERE created_at <= ?", (now - LIFETIME_SECONDS,))
        fingerprint = _fingerprint(path, body)
        row = self._store.execute(
            "SELECT fingerprint, answer FROM idempotence_keys WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            self._store.execute(
                "INSERT INTO idempotence_keys (key, fingerprint, created_at) VALUES (?, ?, ?)",
                (key, fingerprint, now),
            )
            return None
        if row["fingerprint"] != fingerprint:
            raise invalid("Idempotence key duplicated with different data", PARAMETER)
        answer: bytes | None = row["answer"]
        return answer

    def keep(self, key: str, answer: bytes) -> None:
        """Remember the answer of an operation that ran."""
        self._store.execute("UPDATE idempotence_keys SET answer = ? WHERE key = ?", (answer, key))


def _fingerprint(path: str, body: Json) -> str:
    return sha256(path.encode() + b"\n" + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
