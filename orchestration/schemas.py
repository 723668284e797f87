"""Input of the run doors; unknown fields are refused, so that a typo never changes a price silently."""

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
