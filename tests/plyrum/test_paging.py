"""Pages by number with a total, pages by cursor at any depth, cursors of somebody else's making."""

import base64
from uuid import UUID

import pytest
from django.http import HttpResponse
from pydantic import ValidationError

from billing.models import LedgerEntry
from orchestration.models import Run
from plyrum import clock, paging
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from plyrum.paging import PageQuery

ROWS = 23


@pytest.fixture(scope="module")
def customer_id(_database_for_all: None) -> UUID:
    """A customer with so many runs, made in order."""
    customer_id = uuid7()
    for number in range(ROWS):
        now = clock.now()
        Run.objects.create(
            id=UUID(int=(customer_id.int & ~0xFFFF) | number), customer_id=customer_id,
            idempotency_key=str(number), fingerprint="f", surface="api", mode="single",
            profile="balanced", model="m", provider="p",
            state="refused", route={}, estimate_micro_rub=1, hold_micro_rub=0, lease_until=now,
            created_at=now, finished_at=now,
        )  # fmt: skip
    return customer_id


def asked(**query: object) -> PageQuery:
    return PageQuery.model_validate(query)


def page(customer_id: UUID, **query: object) -> paging.Page:
    return paging.paginate(Run.objects.filter(customer_id=customer_id), asked(**query), key="id")


def numbers(found: paging.Page) -> list[int]:
    return [int(row.idempotency_key) for row in found.rows]


def test_first_page_is_the_newest_with_a_total(customer_id: UUID) -> None:
    found = page(customer_id)

    assert numbers(found) == list(range(22, 2, -1))
    assert found.total == ROWS
    assert found.next_cursor is not None


@pytest.mark.parametrize("size", [1, 7, 22, 23, 100])
def test_both_ways_visit_every_row_once(customer_id: UUID, size: int) -> None:
    by_number, by_cursor = [], []
    for number in range(1, -(-ROWS // size) + 1):
        by_number += numbers(page(customer_id, page=number, page_size=size))
    cursor = ""
    while True:
        found = page(customer_id, page_size=size, **({"cursor": cursor} if cursor else {}))
        by_cursor += numbers(found)
        assert (found.total is None) is bool(cursor)
        if found.next_cursor is None:
            break
        cursor = found.next_cursor

    assert by_number == by_cursor == list(range(22, -1, -1))


def test_page_beyond_the_end_is_empty(customer_id: UUID) -> None:
    found = page(customer_id, page=1_000_000, page_size=100)

    assert (found.rows, found.next_cursor, found.total) == ([], None, ROWS)


def test_cursor_keeps_its_place_when_rows_are_added(customer_id: UUID) -> None:
    whole = Run.objects.filter(customer_id=customer_id)
    first = paging.paginate(whole.filter(idempotency_key__lt="2"), asked(page_size=5), key="id")
    then = paging.paginate(whole, asked(page_size=5, cursor=first.next_cursor), key="id")

    last = int(first.rows[-1].idempotency_key)
    assert numbers(then) == list(range(last - 1, last - 6, -1))


def closed(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


FORGED = [
    "", "!", "%%%", "я", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "a", "==", closed("1"),
    closed("not-an-id"), closed(b"\xff\xfe"), closed("\0"), closed("' OR 1=1 --"), closed("0" * 100),
    "A" * 200,
]  # fmt: skip


@pytest.mark.parametrize("cursor", FORGED)
def test_forged_cursor_is_a_wrong_field(customer_id: UUID, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        page(customer_id, cursor=cursor)

    (row,) = refused.value.extra["errors"]
    assert (refused.value.status, row["loc"], row["type"]) == (422, ["query", "cursor"], "cursor")


def test_cut_cursor_is_a_wrong_field(customer_id: UUID) -> None:
    whole = page(customer_id, page_size=1).next_cursor
    assert whole is not None

    with pytest.raises(InvalidRequest):
        page(customer_id, cursor=whole[:-3])


@pytest.mark.parametrize("number", ["0", "-5", "9" * 30, "1_000"])
def test_number_in_a_cursor_may_be_any_size(number: str) -> None:
    rows = LedgerEntry.objects.filter(customer_id=uuid7())

    found = paging.paginate(rows, asked(cursor=closed(number)), key="seq")

    assert (found.rows, found.next_cursor) == ([], None)


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": -1},
        {"page": 1_000_001},
        {"page_size": 0},
        {"page_size": 101},
        {"cursor": "A" * 201},
    ],
)
def test_query_has_its_limits(query: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        asked(**query)


def test_headers_say_where_we_are(customer_id: UUID) -> None:
    response = HttpResponse()
    query = asked(page=2, page_size=5)

    paging.mark(response, query, page(customer_id, page=2, page_size=5), schema_version=3)

    assert response.headers["X-Schema-Version"] == "3"
    assert [response.headers[f"X-{name}"] for name in ("Total-Count", "Page", "Page-Size")] == [
        "23",
        "2",
        "5",
    ]


def test_page_without_a_total_begins_at_the_first(customer_id: UUID) -> None:
    rows = Run.objects.filter(customer_id=customer_id)

    first = paging.follow(rows, None, size=20, key="id")
    last = paging.follow(rows, first.next_cursor, size=20, key="id")

    assert numbers(first) + numbers(last) == list(range(22, -1, -1))
    assert (first.total, last.total, last.next_cursor) == (None, None, None)
    with pytest.raises(InvalidRequest):
        paging.follow(rows, "x", size=10, key="id")


def test_cursor_mode_names_no_total(customer_id: UUID) -> None:
    response = HttpResponse()
    cursor = page(customer_id, page_size=1).next_cursor
    query = asked(cursor=cursor)

    paging.mark(response, query, page(customer_id, cursor=cursor), schema_version=1)

    assert "X-Total-Count" not in response.headers
