"""An error as a problem document (RFC 9457), the same for Ninja, DRF, Django and the lean doors."""

from typing import Any

import orjson
import pydantic
from django.http import HttpRequest, HttpResponse

from plyrum.errors import InvalidRequest, PlyrumError, TooManyRequests

CONTENT_TYPE = "application/problem+json"
# How the OpenAPI document shows it.
RESPONSE: dict[str, Any] = {
    "description": "A problem document (RFC 9457)",
    "content": {
        CONTENT_TYPE: {
            "schema": {
                "type": "object",
                "required": [
                    "type", "title", "status", "detail", "instance", "code", "retryable", "request_id",
                ],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "instance": {"type": "string"},
                    "code": {"type": "string", "description": "Stable and machine-readable."},
                    "retryable": {"type": "boolean", "description": "The same request may succeed later."},
                    "request_id": {"type": "string"},
                    "errors": {
                        "type": "array",
                        "description": "Which fields are wrong; with status 422.",
                        "items": {
                            "type": "object",
                            "required": ["loc", "msg", "type"],
                            "properties": {
                                "loc": {
                                    "type": "array",
                                    "description": "body, query, path or header, then the way to the field.",
                                    "items": {"type": "string"},
                                },
                                "msg": {"type": "string"},
                                "type": {"type": "string"},
                            },
                        },
                    },
                },
            }
        }
    },
}  # fmt: skip


def document(error: PlyrumError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Shape: type, title, status, detail, instance, code, retryable, request_id, the error's own facts."""
    return {
        "type": f"urn:plyrum:error:{error.code}",
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
    """Headers that belong to the error: `Retry-After` in whole seconds, `WWW-Authenticate`, `Allow`.

    All texts of the API are English, whatever pages the caller reads.
    """
    found = {"Content-Language": "en"}
    if error.retry_after_seconds is not None:
        found["Retry-After"] = str(error.retry_after_seconds)
    if error.is_replay:
        found["Idempotent-Replayed"] = "true"
    if isinstance(error, TooManyRequests) and error.limit is not None:
        found["X-RateLimit-Limit"] = str(error.limit)
        found["X-RateLimit-Remaining"] = "0"
        found["X-RateLimit-Reset"] = str(error.retry_after_seconds)
    if error.status == 401:
        found["WWW-Authenticate"] = 'Bearer realm="plyrum"'
    if error.status == 405 and "allow" in error.extra:
        found["Allow"] = ", ".join(error.extra["allow"])
    return found


def answer(request: HttpRequest, error: PlyrumError) -> HttpResponse:
    """Django's answer with the problem document."""
    body = document(error, instance=request.path, request_id=getattr(request, "request_id", ""))
    return HttpResponse(
        orjson.dumps(body, default=str),
        status=error.status,
        content_type=CONTENT_TYPE,
        headers=headers(error),
    )


def body_errors(failure: pydantic.ValidationError) -> InvalidRequest:
    """One 422 from what is wrong with a body, see field_errors."""
    return field_errors([{**row, "loc": ("body", *row["loc"])} for row in failure.errors()])


def field_errors(errors: list[dict[str, Any]]) -> InvalidRequest:
    """One 422 from pydantic's list of errors; values are never repeated back, they may be secrets.

    Each `loc` begins with body, query, path or header; the way to the field follows.
    """
    rows = [
        {"loc": [str(part) for part in row["loc"]], "msg": row["msg"], "type": row["type"]} for row in errors
    ]
    return InvalidRequest("The request has wrong fields.", errors=rows)
