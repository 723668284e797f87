"""Which model names exist and how each behaves. Names are the only switch: no state, so tests cannot disturb
each other.

Asked by `door` for every call. `bench-<chunks>[-<milliseconds>]` gives exactly that many content chunks.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

BENCH = re.compile(r"bench-([1-9]\d{0,3})(?:-(\d{1,4}))?", re.ASCII)
PLAIN_FAULTS = {
    "fault-400": "request refused: 400 invalid_request_error",
    "fault-401": "key refused: 401 invalid_api_key",
    "fault-402": "no money: 402 insufficient_balance",
    "fault-403-region": "country refused: 403 unsupported_country_region_territory",
    "fault-404": "model unknown: 404 model_not_found",
    "fault-429": "too fast: 429 rate_limit_exceeded, Retry-After: 2",
    "fault-429-date": "too fast: 429 with Retry-After as a date",
    "fault-429-quota": "no money: 429 insufficient_quota",
    "fault-500": "server error: 500 server_error",
    "fault-503": "overloaded: 503 server_is_overloaded",
    "fault-context": "too long: 400 context_length_exceeded",
    "fault-html": "proxy's page: 502 text/html",
    "fault-huge-error": "500 with a body of one megabyte",
}
TRANSPORT_FAULTS = {
    "fault-hang": "never answers",
    "fault-cut": "connection cut after some content",
    "fault-cut-early": "connection cut after the headers",
    "fault-bad-json": "200 with broken JSON",
    "fault-error-in-stream": "200, then an error before any content",
    "fault-error-late": "200, then an error after some content",
}
SHAPE_FAULTS = {
    "fault-content-filter": "stops with finish_reason content_filter",
    "fault-empty": "an empty answer",
    "fault-empty-choices": "a chunk with empty choices and no usage comes first",
    "fault-no-done": "no [DONE] at the end",
    "fault-no-usage": "no usage, asked for or not",
    "fault-slow": "a chunk every quarter of a second, 40 chunks",
    "fault-slow-first": "the first token after three seconds",
    "fault-split-utf8": "writes split inside letters and lines, CRLF, comment lines",
    "fault-unknown-finish": "an unheard-of finish_reason",
    "fault-usage-everywhere": "growing usage in every chunk",
    "fault-usage-in-finish": "usage in the chunk of finish_reason",
    "fault-wrong-usage": "more cached tokens than prompt tokens",
    "fault-zero-usage": "usage of zeros",
}
FAULTS = {**PLAIN_FAULTS, **TRANSPORT_FAULTS, **SHAPE_FAULTS}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model answers; pauses are in seconds between content chunks."""

    name: str
    fault: str | None = None
    pause_seconds: float = 0.0
    bench_chunks: int | None = None
    is_reasoning: bool = False
    is_caching: bool = False


ORDINARY = {
    "sandbox-small": Behaviour("sandbox-small", pause_seconds=0.004),
    "sandbox-large": Behaviour("sandbox-large", pause_seconds=0.02),
    "sandbox-reasoning": Behaviour("sandbox-reasoning", pause_seconds=0.012, is_reasoning=True),
    "sandbox-cached": Behaviour("sandbox-cached", is_caching=True),
}


@lru_cache(maxsize=4096)
def find(model: str) -> Behaviour | None:
    """Answer how the named model behaves, None when there is no such model."""
    if model in ORDINARY:
        return ORDINARY[model]
    if model in FAULTS:
        return Behaviour(model, fault=model, pause_seconds=0.25 if model == "fault-slow" else 0.0)
    match = BENCH.fullmatch(model)
    if match is None:
        return None
    return Behaviour(model, bench_chunks=int(match[1]), pause_seconds=int(match[2] or 0) / 1000)


def names() -> list[str]:
    return [*ORDINARY, "bench-20", *FAULTS]
