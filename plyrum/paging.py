"""Pages of a collection: by number with a total, or by cursor at constant cost however deep."""

import base64
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpResponse
from ninja import Field, Schema
from pydantic import ValidationInfo, model_validator

from plyrum.errors import InvalidRequest


class KnownParameters(Schema):
    """Parameters of a query; one that is not known is refused.

    A misspelt filter must not answer with everything.
    """

    @model_validator(mode="after")
    def _nothing_unknown(self, info: ValidationInfo) -> Self:
        known = {field.alias or name for name, field in type(self).model_fields.items()}
        given = info.context["request"].GET if info.context else ()  # none: made by our own code
        if unknown := sorted(set(given) - known):
            raise ValueError(f"unknown parameters: {', '.join(unknown)[:200]}")
        return self


class PageQuery(KnownParameters):
    page: int = Field(1, ge=1, le=1_000_000)
    page_size: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=200)


@dataclass(frozen=True)
class Page:
    """`rows` newest first; `next_cursor` is None on the last page; `total` is None in cursor mode."""

    rows: list[Any]
    next_cursor: str | None
    total: int | None


def paginate(rows: QuerySet[Any], query: PageQuery, *, key: str) -> Page:
    """One page of `rows`, ordered by `key` descending; `key` must be unique within them."""
    if query.cursor is not None:
        return follow(rows, query.cursor, size=query.page_size, key=key)
    total = rows.count()
    offset = (query.page - 1) * query.page_size
    return _cut(rows.order_by(f"-{key}")[offset:], query.page_size, key, total)


def follow(rows: QuerySet[Any], cursor: str | None, *, size: int, key: str) -> Page:
    """As `paginate`, always by cursor: without one the first page.

    For pages that show no total, because counting reads every row. Raises InvalidRequest for a forged cursor.
    """
    ordered = rows.order_by(f"-{key}")
    if cursor is not None:
        ordered = ordered.filter(**{f"{key}__lt": _opened(cursor, ordered, key)})
    return _cut(ordered, size, key, total=None)


def _cut(ordered: QuerySet[Any], size: int, key: str, total: int | None) -> Page:
    """The first `size` of the rows; one more is read to know whether others follow."""
    found = list(ordered[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Page(found, _closed(getattr(found[-1], key)) if more else None, total)


def paginate_named(rows: Mapping[str, Any], query: PageQuery) -> Page:
    """One page of `rows` that are in memory, ordered by their names; names are no longer than a cursor."""
    names = sorted(rows)
    total = None
    if query.cursor is not None:
        names = names[bisect_right(names, _text(query.cursor)) :]
    else:
        total = len(names)
        names = names[(query.page - 1) * query.page_size :]
    found = names[: query.page_size]
    more = len(names) > query.page_size
    return Page([rows[name] for name in found], _closed(found[-1]) if more else None, total)


def mark(response: HttpResponse, query: PageQuery, page: Page, *, schema_version: int) -> None:
    """Set the headers of a collection."""
    response["X-Schema-Version"] = str(schema_version)
    if page.total is not None:
        response["X-Total-Count"] = str(page.total)
        response["X-Page"] = str(query.page)
        response["X-Page-Size"] = str(query.page_size)


def _closed(value: object) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _opened(cursor: str, rows: QuerySet[Any], key: str) -> Any:
    """The key inside a cursor; a forged or cut cursor is a wrong field, not a fault."""
    model: type[Model] = rows.model
    try:
        return model._meta.get_field(key).to_python(_text(cursor))  # type: ignore[union-attr]
    except ValidationError as error:
        raise _forged() from error


def _text(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise _forged() from error


def _forged() -> InvalidRequest:
    row = {"loc": ["query", "cursor"], "msg": "This cursor is not one of ours.", "type": "cursor"}
    return InvalidRequest("The request has wrong fields.", errors=[row])
