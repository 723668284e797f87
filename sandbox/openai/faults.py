"""The refusals that fault models give instead of an answer.

Called by `door` for the names of `models.PLAIN_FAULTS`. Each is one published error with its status and
headers.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from sandbox.openai.errors import ProviderError, bad_key, invalid, unknown_model

HTML_BODY = (
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"
)
HUGE_CHARACTERS = 1024 * 1024


def refusal(fault: str, model: str) -> ProviderError:
    """Build the error of a plain fault (all but `fault-html`, which has no JSON)."""
    if fault == "fault-429-date":
        moment = datetime.now(UTC) + timedelta(seconds=3)
        return _too_fast((b"retry-after", format_datetime(moment, usegmt=True).encode()))
    if fault == "fault-404":
        return unknown_model(model)
    return _BUILT[fault]()


def _too_fast(retry_after: tuple[bytes, bytes] = (b"retry-after", b"2")) -> ProviderError:
    return ProviderError(
        429,
        "rate_limit_exceeded",
        "Rate limit reached for requests.",
        kind="requests",
        headers=(retry_after,),
    )


def _server_error(message: str = "The server had an error while processing your request.") -> ProviderError:
    return ProviderError(500, "server_error", message, kind="server_error")


def _no_quota() -> ProviderError:
    message = "You exceeded your current quota, please check your plan and billing details."
    return ProviderError(429, "insufficient_quota", message, kind="insufficient_quota")


def _no_money() -> ProviderError:
    return ProviderError(402, "insufficient_balance", "Insufficient balance.", kind="insufficient_balance")


def _overloaded() -> ProviderError:
    message = "The engine is currently overloaded, please try again later."
    return ProviderError(503, "server_is_overloaded", message, kind="service_unavailable_error")


def _region() -> ProviderError:
    message = "Country, region, or territory not supported"
    return ProviderError(403, "unsupported_country_region_territory", message, kind="request_forbidden")


def _too_long() -> ProviderError:
    message = "This model's maximum context length is 8192 tokens."
    return invalid(message, "messages", "context_length_exceeded")


_BUILT: dict[str, Callable[[], ProviderError]] = {
    "fault-400": lambda: invalid("The request was refused.", "messages", "invalid_value"),
    "fault-401": bad_key,
    "fault-402": _no_money,
    "fault-403-region": _region,
    "fault-429": _too_fast,
    "fault-429-quota": _no_quota,
    "fault-500": _server_error,
    "fault-503": _overloaded,
    "fault-context": _too_long,
    "fault-huge-error": lambda: _server_error("x" * HUGE_CHARACTERS),
}
