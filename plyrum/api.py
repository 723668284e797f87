"""The customer API: one Ninja instance, closed by default, every failure a problem document.

Routers are named in strings: the frame imports no app. The engine's doors (runs) are served by the lean
path of `plyrum/asgi.py`; their description is merged into the same OpenAPI document.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, URLResolver, re_path
from django.utils.datastructures import MultiValueDict
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.renderers import BaseRenderer
from ninja.types import DictStrAny
from redis.exceptions import RedisError

from plyrum import errors, problems
from plyrum.bodies import json_object
from plyrum.lean import refuse_nul

log = structlog.get_logger(__name__)

View = Callable[..., HttpResponse]
METHODS = ("get", "post", "put", "patch", "delete")
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Wins over `idempotency_key` of the body.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


class OrjsonRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data)


class StrictParser(Parser):
    """Bodies are JSON objects of a bearable size; anything else is refused before a schema looks at it."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        return json_object(request)

    def parse_querydict(
        self, data: MultiValueDict[str, str], list_fields: list[str], request: HttpRequest
    ) -> DictStrAny:
        found: DictStrAny = super().parse_querydict(data, list_fields, request)
        refuse_nul(found, "query")
        return found


class PlyrumAPI(NinjaAPI):
    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        """Ninja's document plus the lean doors; each operation says who may call it and how it fails."""
        schema = super().get_openapi_schema(*args, **kwargs)
        for contribute in settings.OPENAPI_CONTRIBUTORS:
            import_string(contribute)(schema)
        schema["components"]["responses"] = {"Problem": problems.RESPONSE}
        operations = [
            item[method] for item in schema["paths"].values() for method in METHODS if method in item
        ]
        for operation in operations:
            operation.setdefault("security", [])  # open to everybody
            if _takes_a_key(operation, schema):
                operation.setdefault("parameters", []).append(KEY_HEADER)
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
        return schema

    def _get_urls(self) -> list[URLResolver | URLPattern]:
        """Ninja's paths, with a problem document where Ninja answers a wrong method or path in plain text."""
        urls = super()._get_urls()
        for url in urls:
            if url.callback is not None:
                url.callback = _with_problems(url.callback)
        return [*urls, re_path("", nowhere)]


def _takes_a_key(operation: DictStrAny, document: DictStrAny) -> bool:
    """Whether the key that its body may have may stand in the header too."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    body = body.get("allOf", [body])[0]  # so Ninja writes a body that may be left out
    if "$ref" in body:
        body = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    return "idempotency_key" in body.get("properties", {})


def _with_problems(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        asked = request.method
        if asked == "HEAD":
            request.method = "GET"  # the same answer; the server sends its headers alone
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            return problems.answer(request, errors.NotFound())
        finally:
            request.method = asked
        if isinstance(response, HttpResponseNotAllowed):
            return problems.answer(request, _wrong_method(response.headers["Allow"].split(", ")))
        return response

    return guarded


def only_read(view: View) -> View:
    """A view that only answers GET. It changes nothing, so a wrong method is told before a token is asked."""

    @csrf_exempt
    @wraps(view)
    def read(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return problems.answer(request, _wrong_method(["GET"]))
        return view(request, *args, **kwargs)

    return read


def _wrong_method(allowed: list[str]) -> errors.MethodNotAllowed:
    offered = sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])})
    return errors.MethodNotAllowed(f"Use {', '.join(offered)}.", allow=offered)


@csrf_exempt
def nowhere(request: HttpRequest, **_: Any) -> HttpResponse:
    """Every path of the API that nobody serves."""
    return problems.answer(request, errors.NotFound())


api = PlyrumAPI(
    title="Plyrum",
    version="1",
    description="Work by AI models for a prepaid rouble wallet. Money is whole micro-RUB: 1 RUB = 1 000 000.",
    urls_namespace="api",
    docs_url=None,
    docs_decorator=only_read,
    parser=StrictParser(),
    renderer=OrjsonRenderer(),
    auth=import_string("accounts.auth.AccessToken")(),
)
for prefix, router in settings.API_ROUTERS:
    api.add_router(prefix, router)


@api.exception_handler(errors.PlyrumError)
def _expected(request: HttpRequest, failure: errors.PlyrumError) -> HttpResponse:
    return problems.answer(request, failure)


@api.exception_handler(ValidationError)
def _wrong_fields(request: HttpRequest, failure: ValidationError) -> HttpResponse:
    if not request.body and any(row["loc"][0] == "body" for row in failure.errors):
        return problems.answer(request, errors.InvalidJson("The body is empty."))
    return problems.answer(
        request, problems.field_errors([{**row, "loc": _way(*row["loc"])} for row in failure.errors])
    )


def _way(place: str, *way: str | int) -> tuple[str | int, ...]:
    """The way to a field without the name of our function's argument: a body's, and `query` of a schema."""
    is_named = place == "body" or (place == "query" and way[:1] == ("query",))
    return (place, *(way[1:] if is_named else way))


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, _: RequestDataTooBig) -> HttpResponse:
    return problems.answer(request, errors.BodyTooLarge())


@api.exception_handler(OperationalError)
@api.exception_handler(RedisError)
def _away(request: HttpRequest, failure: Exception) -> HttpResponse:
    """The database or Redis is not there: nothing moved, the caller may try again."""
    log.warning("server_away", path=request.path, error=type(failure).__name__)
    return problems.answer(request, errors.Unavailable("The service is not available now. Try again."))


@api.exception_handler(Http404)
def _missing(request: HttpRequest, _: Http404) -> HttpResponse:
    return problems.answer(request, errors.NotFound())


@api.exception_handler(AuthenticationError)
def _nobody(request: HttpRequest, _: AuthenticationError) -> HttpResponse:
    return problems.answer(request, errors.Unauthenticated())


@api.exception_handler(HttpError)
def _unreadable(request: HttpRequest, failure: HttpError) -> HttpResponse:
    """Ninja wraps what the parser raised; the cause says what was wrong with the body."""
    cause = failure.__cause__
    if isinstance(cause, errors.PlyrumError):
        return problems.answer(request, cause)
    if isinstance(cause, RequestDataTooBig):
        return problems.answer(request, errors.BodyTooLarge())
    return problems.answer(request, errors.BadRequest(str(failure)))


@api.exception_handler(Exception)
def _unexpected(request: HttpRequest, failure: Exception) -> HttpResponse:
    """The outer edge: the traceback goes to the log, in development too."""
    log.error("request_failed", path=request.path, exc_info=failure)
    return problems.answer(request, errors.PlyrumError("Something broke on our side."))
