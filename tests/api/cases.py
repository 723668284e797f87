"""Bad requests, generated from the schema of an operation: bodies, fields, parameters, credentials."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.api.routes import Operation

NUL = "a\x00b"
JSON_TYPES: dict[str, Any] = {
    "null": None, "boolean": True, "integer": 7, "number": 1.5, "string": "x", "array": [], "object": {},
}  # fmt: skip
# Where the schema alone does not say what makes sense together.
EXAMPLES: dict[str, dict[str, Any]] = {
    "/api/auth/register": {"password": "correct horse battery", "accept_offer": True},
    "/api/payments/checkout": {"amount_rub": 500, "accept_terms": True},
    "/api/invoices": {"amount_rub": 500, "accept_terms": True},
    "/api/organisation": {
        "name": "ООО «Ромашка»", "inn": "7700000009", "kpp": "770001001", "address": "Москва, 1",
    },
    "/api/stream/run": {"prompt": "Привет", "model": "sandbox/small", "stream": False},
    "/api/runs/estimate": {"prompt": "Привет", "model": "sandbox/small"},
    "/api/billing/admin/credit": {"user_id": "00000000-0000-7000-8000-00000000abcd", "amount_rub": 5},
    "/api/billing/admin/adjustment": {"user_id": "00000000-0000-7000-8000-00000000abcd", "amount_rub": -5},
    "/api/auth/logout": {"refresh_token": "nobody's"},
    "/api/payments/webhook/yookassa": {
        "type": "notification", "event": "payment.succeeded", "object": {"id": "of-nobody"},
    },
}  # fmt: skip
# Notifications belong to their sender, who may add fields at any time.
NOTIFICATIONS = ("/api/payments/webhook/yookassa",)
GARBAGE_IDS = (
    "x",
    "0",
    "-1",
    "%00",
    "%ff",
    "%F0%9F%98%80",
    "..%2f..%2fhealth",
    "a" * 2_000,
    "%D9%A3",
    "1e9",
    "%20",
)
GARBAGE_VALUES = (
    "",
    "x",
    "-1",
    "0",
    "1.5",
    "1e3",
    "9" * 30,
    "%00",
    "%ff",
    "%D9%A3",
    "NaN",
    "null",
    "a" * 3_000,
)


@dataclass(frozen=True)
class Case:
    """`statuses` are the right answers, `code` the right problem code when there is exactly one."""

    name: str
    statuses: tuple[int, ...]
    code: str = ""
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    is_chunked: bool = False
    path: str = ""
    query: str = ""


def example(operation: Operation) -> dict[str, Any]:
    """A body that the schema of the operation takes; its objects exist nowhere."""
    schema = operation.body or {}
    names = schema.get("required", [])
    found = {name: _value(schema["properties"][name]) for name in names}
    found |= EXAMPLES.get(operation.path, {})
    if "email" in found:
        found["email"] = f"walk-{uuid4().hex}@example.test"
    if operation.is_idempotent_by_key:
        found["idempotency_key"] = uuid4().hex
    return found


def broken_bodies(operation: Operation) -> Iterator[Case]:
    """What is not a JSON object of a bearable size."""
    deep = b'{"walk":' * 500 + b"1" + b"}" * 500
    deeper = b'{"walk":' * 20_000 + b"1" + b"}" * 20_000
    limit = operation.limit
    is_notification = operation.path in NOTIFICATIONS
    malformed = "malformed_notification" if is_notification else "invalid_json"
    for name, content in {
        "no body": b"", "cut": b'{"walk": ', "a list": b"[]", "a text": b'"walk"', "a number": b"1",
        "null": b"null", "NaN": b'{"walk": NaN}', "Infinity": b'{"walk": -Infinity}',
        "bad UTF-8": b'{"walk": "\xff\xfe"}', "a lone surrogate": rb'{"walk": "\ud800"}',
        "UTF-16": '{"walk": 1}'.encode("utf-16"), "two objects": b"{}{}", "a comment": b"{} // walk",
        "a trailing comma": b'{"walk": 1,}', "single quotes": b"{'walk': 1}", "20 000 levels": deeper[:limit],
        "a number of 5 000 digits cut": b'{"walk": ' + b"1" * 5_000,
    }.items():  # fmt: skip
        if content or not operation.may_be_empty:
            yield Case(f"body: {name}", (400,), malformed, content)
    yield Case("body: 500 levels", (400, 422), content=deep)
    if is_notification:
        yield Case("body: duplicate keys", (400,), malformed, _twice(operation))
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=walk",
        "text/plain",
        "x",
    ):
        headers = {"content-type": kind}
        yield Case(f"content type {kind}", (400, 415), content=b"walk=1", headers=headers)
    packed = {"content-encoding": "gzip"}
    yield Case(
        "gzip", (400, 415), content=gzip.compress(json.dumps(example(operation)).encode()), headers=packed
    )
    yield Case("too large by length", (413,), "body_too_large", _padded(limit + 1))
    yield Case("too large in chunks", (413,), "body_too_large", _padded(limit + 1), is_chunked=True)


def wrong_fields(operation: Operation) -> Iterator[Case]:
    """Objects whose fields are not those of the schema."""
    schema = operation.body or {}
    for name in schema.get("required", []):
        rest = {key: value for key, value in example(operation).items() if key != name}
        yield _fields(operation, f"without {name}", rest)
    if operation.path not in NOTIFICATIONS:
        yield _fields(operation, "unknown field", example(operation) | {"walk": 1})
        yield _fields(operation, "unknown field of the language", example(operation) | {"__class__": "walk"})
        whole = json.dumps(example(operation) | {"walk": 1}).encode()
        padding = b" " * (operation.limit - len(whole))
        yield Case("exactly the limit", (422,), "validation_failed", whole + padding)
    for name, part in schema.get("properties", {}).items():
        for kind, value in _wrong_values(part):
            yield _fields(operation, f"{name}: {kind}", example(operation) | {name: value})


def garbage_texts(operation: Operation) -> Iterator[Case]:
    """Texts of the right type that no sane client sends: refused or taken, never a fault."""
    for name, part in (operation.body or {}).get("properties", {}).items():
        if "string" not in _types(part):
            continue
        for kind, value in {
            "NUL": NUL, "bidi": "\u202eabc\u2066", "long": "я" * 20_000, "blank": " ",
            "emoji": "\U0001f469\u200d\U0001f467" * 50, "CRLF": "a\r\nX: y",
            "not a character": "\uffff\ufdd0",
        }.items():  # fmt: skip
            content = json.dumps(example(operation) | {name: value}).encode()
            yield Case(f"{name}: {kind}", (), content=content)


def wrong_parameters(operation: Operation) -> Iterator[Case]:
    for name, schema in operation.query.items():
        for value in GARBAGE_VALUES:
            yield Case(f"?{name}={value[:12]}", (200, 404, 410, 422), query=f"{name}={value}")
        if _types(schema) <= {"integer", "null"}:
            yield Case(f"?{name} is a word", (404, 422), query=f"{name}=walk")
        yield Case(f"?{name} twice", (200, 404, 422), query=f"{name}=1&{name}=x")
    yield Case("unreadable query", (200, 404, 422), query="%&=&&%zz=%e0%a4%a")


def wrong_credentials(good: str, expired: str) -> Iterator[Case]:
    """`good` and `expired` are genuine tokens."""
    head, claims, signature = good.split(".")
    none = "eyJhbGciOiJub25lIn0"
    flipped = signature[:-4] + ("AAAA" if not signature.endswith("AAAA") else "BBBB")
    for name, header in {
        "none at all": None, "empty": "", "only the scheme": "Bearer", "another scheme": "Basic dTpw",
        "garbage": "Bearer garbage", "three dots": "Bearer ...", "long": f"Bearer {'a' * 6_000}",
        "foreign signature": f"Bearer {head}.{claims}.{flipped}",
        "without signature": f"Bearer {none}.{claims}.",
        "two tokens": f"Bearer {good} {good}", "key of nobody": "Bearer plk_00000000000000000000000000000000",
        "expired": f"Bearer {expired}", "Latin-1": "Bearer \xff\xfe",
    }.items():  # fmt: skip
        headers = {} if header is None else {"authorization": header}
        yield Case(f"credential: {name}", (401,), headers=headers)


def _fields(operation: Operation, name: str, body: dict[str, Any]) -> Case:
    content = json.dumps(body).encode()
    if operation.path in NOTIFICATIONS:
        return Case(name, (400,), "malformed_notification", content)
    return Case(name, (422,), "validation_failed", content)


def _value(schema: dict[str, Any]) -> Any:
    """The plainest value that a schema takes."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    kind = min(_types(schema) - {"null"})
    plain = {
        "boolean": True,
        "integer": schema.get("minimum", 1),
        "string": "walk",
        "array": [],
        "object": {},
    }
    return plain.get(kind, 1)


def _types(schema: dict[str, Any]) -> set[str]:
    if "anyOf" in schema:
        return {kind for part in schema["anyOf"] for kind in _types(part)}
    if "const" in schema or "enum" in schema:
        return {
            _type_of(value) for value in [schema.get("const"), *schema.get("enum", [])] if value is not None
        }
    if "$ref" in schema or "type" not in schema:
        return {"object"}
    kinds = {schema["type"]}
    return kinds | {"integer"} if "number" in kinds else kinds


def _type_of(value: Any) -> str:
    return next(kind for kind, one in JSON_TYPES.items() if type(one) is type(value))


def _wrong_values(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    allowed = _types(schema)
    for kind, value in JSON_TYPES.items():
        if kind not in allowed:
            yield kind, value
    if "integer" in allowed:
        yield from (("huge", 10**30), ("hugely negative", -(10**30)), ("digits in text", "500"))
    if "boolean" in allowed:
        yield from (("yes", "yes"), ("one", 1))
    if "const" in schema or "enum" in schema:
        yield "none of the values", "walk"


def _twice(operation: Operation) -> bytes:
    """The first field of the example twice. Which one counts differs between parsers: refused."""
    whole = json.dumps(example(operation))
    name, value = next(iter(example(operation).items()), ("walk", 1))
    return (
        whole[:-1] + ("," if len(whole) > 2 else "") + f"{json.dumps(name)}: {json.dumps(value)}}}"
    ).encode()


def _padded(size: int) -> bytes:
    return b'{"walk": "' + b"a" * (size - 12) + b'"}'
