"""DRF's failures as problem documents, so that operators and customers read the same errors."""

from typing import Any

from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from plyrum import errors, problems

_FAMILIES: list[tuple[type[Exception], type[errors.PlyrumError]]] = [
    (exceptions.ParseError, errors.InvalidJson),
    (exceptions.NotAuthenticated, errors.Unauthenticated),
    (exceptions.AuthenticationFailed, errors.Unauthenticated),
    (exceptions.PermissionDenied, errors.Forbidden),
    (exceptions.UnsupportedMediaType, errors.InvalidJson),
    (exceptions.NotFound, errors.NotFound),
    (Http404, errors.NotFound),
]


def handle(failure: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: None lets an unexpected failure rise."""
    error = _translated(failure, context)
    if error is None:
        return None
    request = context["request"]
    body = problems.document(error, instance=request.path, request_id=request.request_id)
    return Response(
        body, status=error.status, headers=problems.headers(error), content_type=problems.CONTENT_TYPE
    )


def _translated(failure: Exception, context: dict[str, Any]) -> errors.PlyrumError | None:
    if isinstance(failure, errors.PlyrumError):
        return failure
    if isinstance(failure, exceptions.MethodNotAllowed):
        offered = sorted(context["view"].allowed_methods)
        return errors.MethodNotAllowed(f"Use {', '.join(offered)}.", allow=offered)
    if isinstance(failure, exceptions.ValidationError):
        place = "query" if context["request"].method == "GET" else "body"
        detail = failure.detail if isinstance(failure.detail, dict) else {"": failure.detail}
        rows = [
            {
                "loc": [place, str(name)] if name else [place],
                "msg": str(text),
                "type": str(getattr(text, "code", "invalid")),
            }
            for name, texts in detail.items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
        return errors.InvalidRequest("The request has wrong fields.", errors=rows)
    return next((family() for kind, family in _FAMILIES if isinstance(failure, kind)), None)
