"""The JSON body of an ordinary request, read under one set of rules for customers' and operators' doors."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from plyrum.errors import BodyTooLarge
from plyrum.lean import parse_object, require_no_fields


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The object of at most MAX_JSON_BODY_BYTES, MAX_CHAT_BODY_BYTES where a run is described.

    Raises InvalidJson, BodyTooLarge, InvalidRequest (a NUL).
    """
    is_chat = request.path in settings.CHAT_BODY_PATHS
    return parse_object(
        _limited(request, settings.MAX_CHAT_BODY_BYTES if is_chat else settings.MAX_JSON_BODY_BYTES)
    )


def no_fields(request: HttpRequest) -> None:
    """Refuse a body where none is asked for. Raises InvalidJson, BodyTooLarge, InvalidRequest."""
    require_no_fields(_limited(request, settings.MAX_JSON_BODY_BYTES))


def _limited(request: HttpRequest, most: int) -> bytes:
    # The told length first: a body that says it is too large is not read at all.
    if int(request.META.get("CONTENT_LENGTH") or 0) > most or len(request.body) > most:
        raise BodyTooLarge(f"The body may have {most} bytes.")
    return request.body
