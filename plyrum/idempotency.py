"""The caller's idempotency key of a POST of the customer API: from the header, else from the body."""

from django.http import HttpRequest

from plyrum.errors import InvalidRequest

KEY_CHARS = 255


def key_of(request: HttpRequest, in_body: str | None) -> str:
    """ "" without a key. Raises InvalidRequest for a header that is empty, too long or not printable."""
    header = request.headers.get("Idempotency-Key")
    if header is None:
        return in_body or ""
    if not 1 <= len(header) <= KEY_CHARS or not header.isprintable():
        text = "The key has 1 to 255 printable characters."
        row = {"loc": ["header", "Idempotency-Key"], "msg": text, "type": "value_error"}
        raise InvalidRequest(text, errors=[row])
    return header
