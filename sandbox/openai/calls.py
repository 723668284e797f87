"""The record of provider calls and the scripted faults that tests put on some of them.

Written by `door`, read by the control API and the calls page. Memory only: the last thousand calls, keys as
fingerprints.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Any

import orjson

from sandbox.openai.models import FAULTS

Json = dict[str, Any]

KEPT_CALLS = 1000
KEPT_BODY_BYTES = 64 * 1024
MATCHES = frozenset({"model", "key", "contains"})


class Call:
    """One call: `state` is running, finished, refused, cut or disconnected."""

    __slots__ = ("at", "body", "is_streamed", "key", "model", "sent_chunks", "seq", "state")

    def __init__(self, *, seq: int, at: float, model: str, is_streamed: bool, key: str, body: bytes) -> None:
        self.seq = seq
        self.at = at
        self.model = model
        self.is_streamed = is_streamed
        self.key = key
        self.body = body
        self.state = "running"
        self.sent_chunks = 0

    def text(self) -> str:
        """Answer the texts of all messages, for searching."""
        return self.body.decode(errors="replace") if b"\\u" not in self.body else _unescaped(self.body)


@dataclass(slots=True)
class Script:
    """A fault for the next calls that fit."""

    fault: str
    match: Json
    times: int | None


class Calls:
    """The last calls, newest last, and the scripts in force."""

    def __init__(self) -> None:
        self.total = 0
        self.scripts: list[Script] = []
        self._kept: deque[Call] = deque(maxlen=KEPT_CALLS)
        self._seq = count(1)

    def record(self, *, at: float, model: str, is_streamed: bool, key: str, body: bytes) -> Call:
        self.total += 1
        call = Call(
            seq=next(self._seq),
            at=at,
            model=model,
            is_streamed=is_streamed,
            key=key,
            body=body[:KEPT_BODY_BYTES],
        )
        self._kept.append(call)
        return call

    def reset(self) -> None:
        """Forget calls and scripts."""
        self._kept.clear()
        self.scripts.clear()
        self.total = 0

    def find(self, *, model: str | None, contains: str | None) -> Iterator[Call]:
        """List the kept calls that fit, newest first."""
        for call in reversed(self._kept):
            if (model is None or call.model == model) and (contains is None or contains in call.text()):
                yield call

    def add_script(self, *, fault: str, match: Json, times: int | None) -> None:
        """Let the next fitting calls behave as a fault model. Raises ValueError."""
        if fault not in FAULTS:
            raise ValueError(f"fault takes one of {sorted(FAULTS)}")
        if not isinstance(match, dict) or not set(match) <= MATCHES:
            raise ValueError(f"match takes {sorted(MATCHES)}")
        self.scripts.append(Script(fault, match, times))

    def scripted_fault(self, call: Call, key: str) -> str | None:
        """Answer the fault put on this call and use the script up once."""
        for script in self.scripts:
            match = script.match
            if match.get("model", call.model) != call.model or match.get("key", key) != key:
                continue
            if match.get("contains") is not None and match["contains"] not in call.text():
                continue
            if script.times is not None:
                script.times -= 1
                if script.times <= 0:
                    self.scripts.remove(script)
            return script.fault
        return None


def fingerprint(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]


def _unescaped(body: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(body)).decode()
    except orjson.JSONDecodeError:
        return body.decode("unicode_escape", errors="replace")
