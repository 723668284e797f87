"""Input and output of the run doors; unknown fields are refused: a typo must not change a price silently."""

from typing import Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_MESSAGES = 500
MAX_TEXT = 1_000_000


class MessageIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(min_length=1, max_length=MAX_TEXT)


class RunIn(BaseModel):
    """What a run is asked: `messages` or `prompt`, a model or a profile to choose by, and limits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    idempotency_key: str | None = Field(None, min_length=1, max_length=255)
    messages: list[MessageIn] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    prompt: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    mode: Literal["auto", "single"] = "auto"
    model: str | None = Field(None, min_length=1, max_length=100)
    models: list[str] | None = Field(None, min_length=1, max_length=8)
    profile: Literal["balanced", "quality", "cheap", "fast"] = "balanced"
    max_output_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    no_pii: Literal["off"] = "off"
    max_cost_micro_rub: int | None = Field(None, ge=0)
    stream: bool = True

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("send either messages or prompt")
        if self.model is not None and self.models is not None:
            raise ValueError("send either model or models")
        return self

    def conversation(self) -> tuple[dict[str, str], ...]:
        if self.messages is None:
            return ({"role": "user", "content": self.prompt or ""},)
        return tuple({"role": message.role, "content": message.content} for message in self.messages)

    def named_models(self) -> tuple[str, ...]:
        return (self.model,) if self.model is not None else tuple(dict.fromkeys(self.models or ()))

    def canonical(self) -> bytes:
        """The caller's own fields in one form, for the fingerprint: the key itself is not part of it."""
        return orjson.dumps(
            self.model_dump(exclude={"idempotency_key"}, exclude_unset=True), option=orjson.OPT_SORT_KEYS
        )


class FrameOut(BaseModel):
    """One line of a story; each type has more fields: docs/reference/frames.md."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    seq: int = Field(ge=1, description="From 1, without gaps.")
    ts: str
    type: Literal[
        "run.accepted",
        "route",
        "stage.started",
        "stage.finished",
        "delta",
        "reasoning",
        "fallback",
        "usage",
        "settled",
        "run.finished",
        "error",
        "ping",
    ]


class UsageOut(BaseModel):
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    images: int
    estimated: bool


class ResultOut(BaseModel):
    """The answer to `stream: false`."""

    run_id: str
    state: Literal["done", "stopped"]
    model: str
    provider: str
    text: str
    finish_reason: str
    usage: UsageOut
    cost_micro_rub: int
    released_micro_rub: int
    balance_micro_rub: int | None = Field(description="null for an account that is never charged.")
    ledger_entry_id: str | None = Field(description="null when nothing was charged.")


class StopOut(BaseModel):
    """How a run stands after it was asked to stop."""

    run_id: str
    state: Literal["running", "done", "stopped", "failed", "refused"]
    finish_reason: str
    cost_micro_rub: int
    ledger_entry_id: str | None
