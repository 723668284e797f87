"""The operator's door to the journal: `GET /api/audit`. Reading it is journalled (`audit.export`)."""

from collections.abc import Iterable
from typing import Any, ClassVar

import orjson
from django.utils import translation
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog import exports, queries
from auditlog.requests import operator_of
from auditlog.serializers import AuditQuery

SCHEMA_VERSION = "1"


class NdjsonRenderer(BaseRenderer):
    """One event a line, for tools that read streams; `format=ndjson` or `Accept: application/x-ndjson`."""

    media_type = "application/x-ndjson"
    format = "ndjson"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        rows = data.get("items", [data])
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)


class ByFormat(DefaultContentNegotiation):
    """`format` chooses the form; a wrong one is left for the serializer, which says so with 422."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        asked = request.query_params.get("format") or (
            "ndjson" if NdjsonRenderer.media_type in request.headers.get("Accept", "") else "json"
        )
        offered = list(renderers)
        found = next((one for one in offered if one.format == asked), offered[0])
        return found, str(found.media_type)


class AuditView(APIView):
    """Events, newest first: `{"items": [...], "next_cursor": "..." | null}`."""

    content_negotiation_class = ByFormat
    renderer_classes = [JSONRenderer, NdjsonRenderer]
    http_method_names = ["get", "head"]  # OPTIONS is not answered, so it is not told in Allow
    operator_roles: ClassVar[frozenset[str]] = frozenset({"finance", "security", "owner"})

    def get(self, request: Request) -> Response:
        query = AuditQuery(data=request.query_params.dict())
        with translation.override("en"):  # as all texts of the API
            query.is_valid(raise_exception=True)
        limit: int = query.validated_data["limit"]
        found = exports.export(wanted=query.wanted(), limit=limit, actor=operator_of(request))
        next_cursor = str(found[-1].seq) if len(found) == limit else None
        return Response(
            {"items": [queries.as_item(event) for event in found], "next_cursor": next_cursor},
            headers={"X-Schema-Version": SCHEMA_VERSION, "Cache-Control": "no-store"},
        )
