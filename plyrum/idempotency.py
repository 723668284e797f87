"""The caller's idempotency key of a POST: one rule for Ninja's doors, the operators' and the lean ones."""

from django.http import HttpRequest

from plyrum.errors import InvalidRequest

KEY_CHARS = 255


def key_from(header: str | None, in_body: str | None) -> str:
    """The key of the header (None: there is no such header), else of the body; "" without either.

    Raises InvalidRequest for a key that is empty, too long or not printable.
    """
    key = in_body if header is None else header
    if key is None:
        return ""
    if not 1 <= len(key) <= KEY_CHARS or not key.isprintable():
        text = f"The key has 1 to {KEY_CHARS} printable characters."
        loc = ["body", "idempotency_key"] if header is None else ["header", "Idempotency-Key"]
        raise InvalidRequest(text, errors=[{"loc": loc, "msg": text, "type": "value_error"}])
    return key


def key_of(request: HttpRequest, in_body: str | None) -> str:
    """The same of a request of Django."""
    return key_from(request.headers.get("Idempotency-Key"), in_body)
