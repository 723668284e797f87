"""Every operation of the API, gathered from the product itself: a new route is walked without being asked.

Sources: the OpenAPI document (ordinary and lean doors) and the URL map (operators, health).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string
from rest_framework.views import APIView

from plyrum.api import api

METHODS = ("get", "post", "put", "patch", "delete")
OPEN_DOORS = (
    "/api/auth/",
    "/api/payments/webhook/",
    "/api/models",
    "/api/plans",
    "/api/health",
    "/api/ready",
    "/api/openapi.json",
)
CHAT_DOORS = (
    "/api/stream/",
    "/api/runs/estimate",
    "/v1/",
)  # contract, section 1: 2 MiB there, 64 KiB elsewhere
# What an API key opens; any other closed operation answers it 403. Reviewed here: a new one is closed.
KEY_DOORS = {
    ("post", "/api/stream/run"),
    ("get", "/api/runs"),
    ("post", "/api/runs/estimate"),
    ("get", "/api/runs/{run_id}"),
    ("get", "/api/runs/{run_id}/frames"),
    ("post", "/api/runs/{run_id}/cancel"),
    ("get", "/api/usage"),
    ("get", "/api/usage/export"),
    ("get", "/api/usage/summary"),
    ("get", "/api/balance"),
}
Audience = Literal["visitor", "customer", "operator"]


@dataclass(frozen=True)
class Operation:
    """`body` is the schema of the JSON object it takes, None without one; `query` maps names to schemas."""

    method: str
    path: str
    audience: Audience
    body: dict[str, Any] | None
    query: dict[str, dict[str, Any]]
    path_names: tuple[str, ...]
    may_be_empty: bool = False  # the body

    @property
    def limit(self) -> int:
        is_chat = self.path.startswith(CHAT_DOORS)
        return 2 * 1024 * 1024 if is_chat else settings.MAX_JSON_BODY_BYTES

    @property
    def is_idempotent_by_key(self) -> bool:
        is_asked = self.body is not None and "idempotency_key" in self.body.get("properties", {})
        return is_asked and not self.path.endswith("/estimate")  # which only computes

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def document() -> dict[str, Any]:
    """As a reader gets it: through JSON."""
    found: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema()))
    return found


def operations() -> list[Operation]:
    """All of them, in a stable order."""
    itself = Operation("get", "/api/openapi.json", "visitor", None, {}, ())
    return sorted([itself, *_documented(document()), *_beside_the_document()], key=str)


def lean_paths() -> set[tuple[str, str]]:
    """(method, pattern) of every route that the lean path serves."""
    return {(route.method, route.pattern.pattern) for route in import_string(settings.LEAN_ROUTES)}


def resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its own reference followed; nested references stay."""
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return schema


def _documented(schema: dict[str, Any]) -> Iterator[Operation]:
    components = schema["components"]["schemas"]
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            operation = item[method]
            parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
            yield Operation(
                method=method,
                path=path,
                audience="visitor" if path.startswith(OPEN_DOORS) else "customer",
                body=_body(operation, components),
                query={p["name"]: p["schema"] for p in parameters if p["in"] == "query"},
                path_names=tuple(p["name"] for p in parameters if p["in"] == "path"),
                may_be_empty=not operation.get("requestBody", {}).get("required", True),
            )


def _body(operation: dict[str, Any], components: dict[str, Any]) -> dict[str, Any] | None:
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    schema = schema.get("allOf", [schema])[0]  # so Ninja writes a body that may be left out
    return _flat(resolved(schema, components), components)


def _flat(schema: dict[str, Any], components: dict[str, Any] | None = None) -> dict[str, Any]:
    """`schema` with the references of its fields followed."""
    components = components or {}
    properties = {name: resolved(part, components) for name, part in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _beside_the_document() -> Iterator[Operation]:
    for path, pattern in _patterns(get_resolver().url_patterns, "/"):
        if not path.startswith(("/api/", "/v1/")):
            continue
        view = getattr(pattern.callback, "view_class", None)
        is_operators = isinstance(view, type) and issubclass(view, APIView)
        methods = [m for m in METHODS if hasattr(view, m)] if is_operators else ["get"]
        for method in methods:
            yield Operation(
                method=method,
                path=path,
                audience="operator" if is_operators else "visitor",
                body=_flat(view.body_schema.model_json_schema()) if view and method != "get" else None,
                query={},
                path_names=tuple(pattern.pattern.converters),
            )


def _patterns(found: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, URLPattern]]:
    """Every pattern outside the Ninja API, with its path as OpenAPI writes it."""
    for entry in found:
        path = prefix + str(entry.pattern).replace("<uuid:", "<").replace("<str:", "<")
        path = path.replace("<", "{").replace(">", "}")
        if isinstance(entry, URLPattern):
            yield path, entry
        elif entry.namespace != "api":
            yield from _patterns(entry.url_patterns, path)
