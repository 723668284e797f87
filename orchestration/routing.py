"""Pure: a request and a snapshot of offers become a plan, or the reasons why there is none.

Decided from stored facts only, so that every decision can be computed again and shown.
Source of constants: orchestration guide, sections 7 and 10.3.
"""

import math
import re
from collections.abc import Iterable

from billing import pricing
from billing.pricing import Usage
from orchestration.catalogue import Snapshot
from orchestration.errors import ModelNotAllowed, ModelNotFound, NoRoute
from orchestration.shapes import Candidate, Message, Offer, Plan, RunRequest

DEFAULT_MAX_OUTPUT = 4096
TYPICAL_OUTPUT = 400  # until the median of the model and task is learned
MAX_CANDIDATES = 4  # the choice and three fallbacks
COST_KNEE_RUB = 0.05
COST_CAP_RUB = 5.0
NEUTRAL_RELIABILITY = 0.9  # Beta(9, 1) without observations
NEUTRAL_LATENCY = 0.5
WEIGHTS = {  # quality, cost, latency, reliability
    "balanced": (0.40, 0.25, 0.15, 0.20),
    "quality": (0.70, 0.05, 0.05, 0.20),
    "cheap": (0.25, 0.50, 0.10, 0.15),
    "fast": (0.30, 0.10, 0.40, 0.20),
}
# Few bytes a token: long runs without a space (base64, hashes), arrows, signs, emoji and their joiners.
_DENSE = re.compile(r"(?<![!-~])[!-~]{40,}|[\u200d\u2190-\u2bff\ufe0f\U00010000-\U0010ffff]+")


def plan(request: RunRequest, snapshot: Snapshot) -> Plan:
    """Choose candidates in order. Raises ModelNotFound, ModelNotAllowed, NoRoute (the reason per model)."""
    named = [_named(model, snapshot) for model in request.models]
    if request.allowed_models:
        _require_allowed(named, request.allowed_models)
    bound = input_bound(request.messages)
    excluded: dict[str, str] = {}
    candidates: list[Candidate] = []
    for offer in named or snapshot.offers.values():
        reason = _exclusion(offer, request, bound)
        if reason is not None:
            excluded[offer.id] = reason
            continue
        candidate = _judged(offer, request, bound)
        if request.max_cost_micro_rub is not None and candidate.worst_micro_rub > request.max_cost_micro_rub:
            excluded[offer.id] = "budget"
        else:
            candidates.append(candidate)
    if not candidates:
        raise NoRoute("No model can take this request.", reasons=excluded)
    if not named:
        candidates.sort(key=lambda c: (-c.score, c.offer.id))
    chosen = tuple(candidates[:MAX_CANDIDATES])
    return Plan(
        candidates=chosen,
        excluded=excluded,
        input_bound=bound,
        estimate_micro_rub=chosen[0].expected_micro_rub,
        hold_micro_rub=_capped(max(pricing.with_margin(c.worst_micro_rub) for c in chosen), request),
        catalogue_version=snapshot.version,
    )


def _capped(hold: int, request: RunRequest) -> int:
    """The margin never goes beyond what the customer allowed."""
    return hold if request.max_cost_micro_rub is None else min(hold, request.max_cost_micro_rub)


def input_bound(messages: Iterable[Message]) -> int:
    """An upper bound of input tokens without a tokenizer: UTF-8 bytes / 2, plus framing.

    Source: orchestration guide 10.1 (at or above the true count for every language tried); what looks like
    base64 and pictographs, wherever they stand in a text, count a token a byte.
    """
    total = 64
    for message in messages:
        text = message["content"]
        size = len(text.encode())
        dense = sum(len(run.encode()) for run in _DENSE.findall(text))
        total += 8 + dense + -(-(size - dense) // 2)
    return total


def _named(model: str, snapshot: Snapshot) -> Offer:
    offer = snapshot.offers.get(model)
    if offer is None:
        raise ModelNotFound(f"There is no model {model!r}.")
    return offer


def _require_allowed(named: Iterable[Offer], allowed: frozenset[str]) -> None:
    for offer in named:
        if offer.id not in allowed:
            raise ModelNotAllowed(f"This API key may not use the model {offer.id!r}.", model=offer.id)


def _exclusion(offer: Offer, request: RunRequest, bound: int) -> str | None:
    """The first hard reason against an offer but its price, or None."""
    if request.allowed_models and offer.id not in request.allowed_models:
        return "not_allowed_by_key"
    if not offer.is_enabled:
        return "model_disabled"
    if offer.price is None:
        return "stale_rate" if offer.has_stale_rate else "no_price"
    if not offer.is_configured:
        return "no_active_key"
    if "text" not in offer.capabilities:
        return "modality"
    if (request.max_output_tokens or 0) > offer.max_output_tokens:
        return "max_out"
    if bound + _max_output(offer, request) > offer.context_tokens:
        return "context"
    return None


def _judged(offer: Offer, request: RunRequest, bound: int) -> Candidate:
    assert offer.price is not None  # noqa: S101 - _exclusion has refused offers without a price
    max_output = _max_output(offer, request)
    typical = Usage(input_tokens=max(1, bound // 2), output_tokens=min(TYPICAL_OUTPUT, max_output))
    expected = pricing.cost(typical, offer.price)
    wq, wc, wl, wr = WEIGHTS[request.profile]
    cheapness = _cheapness(expected / 1_000_000)
    score = wq * offer.quality + wc * cheapness + wl * NEUTRAL_LATENCY + wr * NEUTRAL_RELIABILITY
    return Candidate(
        offer=offer,
        price=offer.price,
        score=score,
        expected_micro_rub=expected,
        worst_micro_rub=pricing.worst_case(
            input_bound=bound, max_output_tokens=max_output, price=offer.price
        ),
        max_output_tokens=max_output,
        reasons=("named",) if request.models else ("profile:" + request.profile, "score"),
    )


def _max_output(offer: Offer, request: RunRequest) -> int:
    return request.max_output_tokens or min(offer.max_output_tokens, DEFAULT_MAX_OUTPUT)


def _cheapness(rub: float) -> float:
    """1 for free, 0 at five roubles, on a logarithmic scale: prices span three orders."""
    value = 1 - math.log1p(rub / COST_KNEE_RUB) / math.log1p(COST_CAP_RUB / COST_KNEE_RUB)
    return min(1.0, max(0.0, value))
