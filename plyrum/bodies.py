"""The JSON body of an ordinary request, read under one set of rules for customers' and operators' doors."""

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.http.request import RawPostDataException

from plyrum.errors import BodyTooLarge, InvalidJson
from plyrum.lean import parse_object


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The object of at most MAX_JSON_BODY_BYTES. Raises InvalidJson, BodyTooLarge, InvalidRequest (a NUL)."""
    most = settings.MAX_JSON_BODY_BYTES
    too_large = BodyTooLarge(f"The body may have {most} bytes.")
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        raise too_large
    try:
        body = request.body
    except RequestDataTooBig as error:
        raise too_large from error
    except RawPostDataException as error:  # a form, which the check of its token has read
        raise InvalidJson("The body is not valid JSON.") from error
    if len(body) > most:
        raise too_large
    return parse_object(body)
