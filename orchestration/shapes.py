"""Plain values of orchestration: what a run is asked, what is decided, what a provider answers."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from billing.pricing import Price, Usage

Message = dict[str, str]


@dataclass(frozen=True)
class Offer:
    """A model as it can be sold now: an immutable row of the catalogue's snapshot."""

    id: str
    label: str
    description_ru: str
    provider: str
    provider_label: str
    wire: str
    country: str
    upstream_id: str
    capabilities: tuple[str, ...]
    context_tokens: int
    max_output_tokens: int
    quality: float
    privacy_tier: str
    hosted_region: str
    risk: str
    price: Price | None
    has_stale_rate: bool  # then there is no price: it would be computed with an old rate
    is_enabled: bool
    is_configured: bool  # an address and at least one key are known


@dataclass(frozen=True)
class RunRequest:
    """A checked request, whichever door it came through. `fingerprint` is of the caller's own fields."""

    customer_id: UUID
    idempotency_key: str
    fingerprint: str
    surface: Literal["api", "site"]
    messages: tuple[Message, ...]
    mode: str
    profile: str
    models: tuple[str, ...]  # empty: choose
    max_output_tokens: int | None
    temperature: float | None
    reasoning_effort: str | None
    max_cost_micro_rub: int | None
    stream: bool
    accepted_terms: tuple[UUID, ...]  # versions of the offer that the customer has accepted
    unlimited: bool = False
    api_key_id: UUID | None = None
    allowed_models: frozenset[str] = frozenset()  # by the API key; empty: all


@dataclass(frozen=True)
class Candidate:
    """One model of a plan with the numbers it was judged by."""

    offer: Offer
    price: Price
    score: float
    expected_micro_rub: int
    worst_micro_rub: int
    max_output_tokens: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The decision before anything is spent: candidates in order, and what was excluded by which reason."""

    candidates: tuple[Candidate, ...]
    excluded: dict[str, str]
    input_bound: int
    estimate_micro_rub: int
    hold_micro_rub: int
    catalogue_version: int

    def explanation(self) -> dict[str, Any]:
        """Stored with the run and shown from there: candidates with terms and frozen prices, exclusions."""
        return {
            "catalogue_version": self.catalogue_version,
            "input_bound_tokens": self.input_bound,
            "candidates": [
                {
                    "model": c.offer.id,
                    "provider": c.offer.provider,
                    "country": c.offer.country,
                    "score": round(c.score, 4),
                    "expected_micro_rub": c.expected_micro_rub,
                    "worst_micro_rub": c.worst_micro_rub,
                    "price_version_id": c.price.version_id,
                    "fx_rate_id": c.price.fx_rate_id,
                    "max_output_tokens": c.max_output_tokens,
                    "reasons": list(c.reasons),
                }
                for c in self.candidates
            ],
            "excluded": self.excluded,
        }


@dataclass(frozen=True)
class Call:
    """One provider call: what is sent, with which key, within which limits."""

    base_url: str
    key: str
    upstream_id: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float | None
    reasoning_effort: str | None
    stream: bool
    idle_seconds: int | None  # None: a silent socket is waited for as long as the run has time


@dataclass
class Answer:
    """What a provider has answered so far; `usage` is None when it never said."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str = ""
    usage: Usage | None = None

    @property
    def has_output(self) -> bool:
        return bool(self.text or self.reasoning)


Delta = tuple[Literal["text", "reasoning"], str]
