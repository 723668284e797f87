"""An error as a problem document (RFC 9457), the same for Ninja, DRF, Django's handlers and the lean doors."""

from typing import Any

from plyrum.errors import InvalidRequest, PlyrumError

CONTENT_TYPE = "application/problem+json"


def document(error: PlyrumError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Shape: type, title, status, detail, instance, code, retryable, request_id, then the error's own facts."""
    return {
        "type": f"/docs/errors/{error.code}",
        "title": str(error.title),
        "status": error.status,
        "detail": str(error.detail),
        "instance": instance,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
        **error.extra,
    }


def headers(error: PlyrumError) -> dict[str, str]:
    """Headers that belong to the error: `Retry-After` in whole seconds, `WWW-Authenticate`, `Allow`."""
    found: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        found["Retry-After"] = str(error.retry_after_seconds)
    if error.status == 401:
        found["WWW-Authenticate"] = 'Bearer realm="plyrum"'
    if error.status == 405 and "allow" in error.extra:
        found["Allow"] = ", ".join(error.extra["allow"])
    return found


def field_errors(errors: list[dict[str, Any]]) -> InvalidRequest:
    """One 422 from pydantic's list of errors; values are never repeated back, they may be secrets."""
    rows = [
        {"loc": [str(part) for part in row["loc"]], "msg": row["msg"], "type": row["type"]} for row in errors
    ]
    return InvalidRequest("The request has wrong fields.", errors=rows)
