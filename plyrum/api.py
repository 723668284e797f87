"""The customer API: one Ninja instance, closed by default, every failure a problem document.

Routers are named in strings: the frame imports no app. The engine's doors (runs) are served by the lean
path of `plyrum/asgi.py`; their description is merged into the same OpenAPI document.
"""

from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.renderers import BaseRenderer
from ninja.types import DictStrAny
from django.utils.module_loading import import_string

from plyrum import errors, problems
from plyrum.lean import parse_object


class OrjsonRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data)


class StrictParser(Parser):
    """Bodies are JSON objects of at most 64 KiB; anything else is refused before a schema looks at it."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.MAX_JSON_BODY_BYTES:
            raise errors.BodyTooLarge(f"The body may have {settings.MAX_JSON_BODY_BYTES} bytes.")
        body = request.body
        if len(body) > settings.MAX_JSON_BODY_BYTES:
            raise errors.BodyTooLarge(f"The body may have {settings.MAX_JSON_BODY_BYTES} bytes.")
        return parse_object(body)


class PlyrumAPI(NinjaAPI):
    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        """Ninja's document plus the operations that the lean path serves."""
        schema = super().get_openapi_schema(*args, **kwargs)
        for contribute in settings.OPENAPI_CONTRIBUTORS:
            import_string(contribute)(schema)
        return schema


api = PlyrumAPI(
    title="Plyrum",
    version="1",
    description="Work by AI models for a prepaid rouble wallet. Money is whole micro-RUB: 1 RUB = 1 000 000.",
    urls_namespace="api",
    docs_url=None,
    parser=StrictParser(),
    renderer=OrjsonRenderer(),
    auth=import_string("accounts.auth.AccessToken")(),
)
for prefix, router in settings.API_ROUTERS:
    api.add_router(prefix, router)


def problem(request: HttpRequest, error: errors.PlyrumError) -> HttpResponse:
    """The answer of every failed call of the customer API."""
    request_id = getattr(request, "request_id", "")
    body = problems.document(error, instance=request.path, request_id=request_id)
    return HttpResponse(
        orjson.dumps(body, default=str),
        status=error.status,
        content_type=problems.CONTENT_TYPE,
        headers=problems.headers(error),
    )


@api.exception_handler(errors.PlyrumError)
def _expected(request: HttpRequest, failure: errors.PlyrumError) -> HttpResponse:
    return problem(request, failure)


@api.exception_handler(ValidationError)
def _wrong_fields(request: HttpRequest, failure: ValidationError) -> HttpResponse:
    return problem(request, problems.field_errors(failure.errors))


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, _: RequestDataTooBig) -> HttpResponse:
    return problem(request, errors.BodyTooLarge())


@api.exception_handler(Http404)
def _missing(request: HttpRequest, _: Http404) -> HttpResponse:
    return problem(request, errors.NotFound())


@api.exception_handler(AuthenticationError)
def _nobody(request: HttpRequest, _: AuthenticationError) -> HttpResponse:
    return problem(request, errors.Unauthenticated())


@api.exception_handler(HttpError)
def _unreadable(request: HttpRequest, failure: HttpError) -> HttpResponse:
    """Ninja wraps what the parser raised; the cause says what was wrong with the body."""
    cause = failure.__cause__
    if isinstance(cause, errors.PlyrumError):
        return problem(request, cause)
    if isinstance(cause, RequestDataTooBig):
        return problem(request, errors.BodyTooLarge())
    return problem(request, errors.BadRequest(str(failure)))
