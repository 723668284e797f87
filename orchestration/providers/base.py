"""What every adapter offers and how its failures are classed.

Source of the classes and of what may be tried again: docs/reference/provider-errors.md.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from aiohttp import ClientSession

from orchestration.shapes import Answer, Call, Delta


@dataclass(frozen=True)
class ErrorClass:
    """What may follow a failure before the first visible token."""

    name: str
    same_key_again: bool = False
    other_key: bool = False
    other_model: bool = False
    key_cooldown_seconds: float = 0  # 0 leaves the key in use
    is_customers: bool = False  # the customer's request is wrong; shown as such


RETRY_SAME = ErrorClass("retry_same", same_key_again=True, other_key=True, other_model=True)
OVERLOADED = ErrorClass("overloaded", other_model=True)
RATE_LIMITED = ErrorClass("rate_limited", other_key=True, other_model=True, key_cooldown_seconds=60)
OUT_OF_FUNDS = ErrorClass("out_of_funds", other_key=True, other_model=True, key_cooldown_seconds=3600)
AUTH_INVALID = ErrorClass("auth_invalid", other_key=True, other_model=True, key_cooldown_seconds=3600)
REGION_BLOCKED = ErrorClass("region_blocked", other_model=True, key_cooldown_seconds=3600)
MODEL_UNAVAILABLE = ErrorClass("model_unavailable", other_model=True)
REQUEST_INVALID = ErrorClass("request_invalid", is_customers=True)
CONTEXT_TOO_LONG = ErrorClass("context_too_long", is_customers=True)
CONTENT_BLOCKED = ErrorClass("content_blocked", is_customers=True)
STREAM_BROKEN = ErrorClass("stream_broken", other_key=True, other_model=True)
ANSWER_TOO_LONG = ErrorClass("answer_too_long", other_model=True)
TIMEOUT_FIRST = ErrorClass("timeout_first", other_key=True, other_model=True)
TIMEOUT_IDLE = ErrorClass("timeout_idle", other_key=True, other_model=True)
TIMEOUT_TOTAL = ErrorClass("timeout_total")
EMPTY_ANSWER = ErrorClass("empty_answer")
UNMAPPED = ErrorClass("unmapped", other_key=True, other_model=True)


class ProviderError(Exception):
    """A provider failed. The vendor's own words stay inside: they are neither logged nor shown."""

    def __init__(
        self, kind: ErrorClass, *, http_status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(kind.name)
        self.kind = kind
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds


class Adapter(Protocol):
    def stream(self, session: ClientSession, call: Call, answer: Answer) -> AsyncIterator[list[Delta]]:
        """Yield what arrived, in groups as it came off the wire; fill `answer` with finish and usage.

        Raises ProviderError. Without `call.stream` one group with the whole text is yielded.
        """
        ...
