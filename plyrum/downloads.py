"""A collection as a file of any size: CSV for Russian Excel, XLSX, or JSON lines. Memory stays constant.

Rows are read in batches by their key, newest first, as pages by cursor are: no database cursor and no
transaction is held open while a slow reader takes the file (docs/decisions/0019-exports-read-by-key.md).
"""

import csv
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import orjson
import xlsxwriter
from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.http import urlencode

BATCH_ROWS = 1_000
CHUNK_BYTES = 64 * 1024
# The format ends at 1,048,576 rows; long before that nobody opens it, and the file is made before it is sent.
XLSX_ROWS = 100_000
BOM = "\ufeff"  # without it Excel reads UTF-8 as Windows-1251
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
EXACT_DIGITS = 15  # of a number in a spreadsheet

Item = dict[str, Any]


class Form(StrEnum):
    CSV = "csv"
    XLSX = "xlsx"
    JSONL = "jsonl"


CONTENT_TYPES = {
    Form.CSV: "text/csv; charset=utf-8",
    Form.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Form.JSONL: "application/x-ndjson",
}


# What OpenAPI says about an operation that answers with a file.
FILE = {
    "responses": {
        200: {
            "description": "The file, as an attachment",
            "content": {
                kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in CONTENT_TYPES.values()
            },
        }
    }
}


@dataclass(frozen=True)
class Collection:
    """`rows` in any order, their unique `key`, what makes items of a batch, and the columns of tables.

    Items are those of the JSON API; a column "usage.images" is the member `images` of the member `usage`.
    """

    name: str
    rows: QuerySet[Any]
    key: str
    as_items: Callable[[Sequence[Any]], list[Item]]
    columns: tuple[str, ...]


def answer(collection: Collection, form: Form) -> StreamingHttpResponse:
    """The file as an attachment named after the collection."""
    return StreamingHttpResponse(
        _unhurried(parts(collection, form)),
        content_type=CONTENT_TYPES[form],
        headers={
            "Content-Disposition": f'attachment; filename="{collection.name}.{form}"',
            "Cache-Control": "no-store",
        },
    )


def form_of(text: str) -> Form | None:
    return next((form for form in Form if form == text), None)


def links(path: str, query: Mapping[str, str]) -> list[dict[str, str]]:
    """{label, url} of each form, for a page that offers the file at `path` with `query`."""
    labels = {Form.CSV: "CSV", Form.XLSX: "Excel", Form.JSONL: "JSON"}
    return [
        {"label": label, "url": f"{path}?{urlencode({**query, 'format': form.value})}"}
        for form, label in labels.items()
    ]


def parts(collection: Collection, form: Form) -> Iterator[bytes]:
    """The bytes of the file, piece by piece."""
    return {Form.CSV: _csv, Form.XLSX: _xlsx, Form.JSONL: _jsonl}[form](collection)


async def _unhurried(found: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Under ASGI a plain iterator would be read to its end before the first byte is sent."""
    following = sync_to_async(partial(next, found, None))
    while (part := await following()) is not None:
        yield part


def _batches(collection: Collection) -> Iterator[list[Item]]:
    ordered = collection.rows.order_by(f"-{collection.key}")
    rows = list(ordered[:BATCH_ROWS])
    while rows:
        yield collection.as_items(rows)
        last = getattr(rows[-1], collection.key)
        rows = list(ordered.filter(**{f"{collection.key}__lt": last})[:BATCH_ROWS])


def _jsonl(collection: Collection) -> Iterator[bytes]:
    for items in _batches(collection):
        yield b"".join(orjson.dumps(item) + b"\n" for item in items)


def _csv(collection: Collection) -> Iterator[bytes]:
    yield _lines([collection.columns], start=BOM)
    for items in _batches(collection):
        yield _lines([[_cell(value) for value in _values(item, collection.columns)] for item in items])


def _lines(rows: Sequence[Sequence[str]], start: str = "") -> bytes:
    text = io.StringIO(start, newline="")
    text.seek(len(start))
    csv.writer(text, delimiter=";").writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    """Words as JSON has them; a text that a spreadsheet would compute gets an apostrophe in front."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA_STARTS) else value
    return "" if value is None else orjson.dumps(value).decode()


def _xlsx(collection: Collection) -> Iterator[bytes]:
    """Made row by row in a file on disk, which is gone when it was read."""
    with tempfile.TemporaryFile() as file:
        book = xlsxwriter.Workbook(file, {"constant_memory": True})
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        number = 0
        for column, name in enumerate(collection.columns):
            sheet.write_string(number, column, name)
        for items in _batches(collection):
            for item in items:
                number += 1
                for column, value in enumerate(_values(item, collection.columns)):
                    _write(sheet, number, column, value)
        book.close()
        file.seek(0)
        yield from iter(partial(file.read, CHUNK_BYTES), b"")


def _write(sheet: Any, row: int, column: int, value: object) -> None:
    """A text is written as a text, so it is no formula; a long number too, so that no digit is lost."""
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int) and abs(value) < 10**EXACT_DIGITS:
        sheet.write_number(row, column, value)
    elif value is not None:
        sheet.write_string(row, column, str(value))


def _values(item: Item, columns: Sequence[str]) -> Iterator[object]:
    for column in columns:
        name, _, member = column.partition(".")
        yield item[name][member] if member else item[name]
