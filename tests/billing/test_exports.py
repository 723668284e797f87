"""Statement and usage as files: the rows of the API, in constant memory, safe in spreadsheets, journalled."""

import csv
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from xml.etree import ElementTree

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import exports, ledger, policies, queries
from billing.models import LotKind
from billing.schemas import LEDGER_COLUMNS, USAGE_COLUMNS
from plyrum import clock, downloads, paging
from plyrum.downloads import Collection, Form
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.billing import books

# The test client is not asynchronous; the product is, see tests/orchestration/test_api.py.
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")

MANY_ROWS = """
INSERT INTO billing_usageevent (id, customer_id, run_id, model, provider, kind, input_tokens, output_tokens,
            cached_input_tokens, cache_write_tokens, reasoning_tokens, images, cost_micro_rub,
            charged_micro_rub, price_version_id, estimated, created_at)
SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || right(%(customer)s::text, 12))::uuid,  -- they ascend
       %(customer)s, gen_random_uuid(), 'some/model', 'tests', 'chat', 1000, n, 0, 0, 0, 0, 0, 0, 0,
       false, now()
  FROM generate_series(1, %(rows)s) AS n
"""


@pytest.fixture
def customer(client: Client) -> User:
    """A customer with a session and with entries of some kinds."""
    user = factories.customer()
    books.credit(user.id, 5000)
    books.credit(user.id, 70, kind=LotKind.BONUS, expires_at=books.in_seconds(36_000))
    for cost in (10, 20, 30):
        books.spend(user.id, cost)
    client.force_login(user)
    return user


@pytest.fixture(autouse=True)
def _small_batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches for the five entries above."""
    if "customer" in request.fixturenames:
        monkeypatch.setattr(downloads, "BATCH_ROWS", 2)


def body(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer)


def download(client: Client, user: User, path: str, **query: object) -> bytes:
    return body(client.get(f"{path}?{urlencode(query)}", headers=factories.bearer(user)))


def items(client: Client, user: User, path: str, **query: object) -> list[dict[str, Any]]:
    answer = client.get(f"{path}?{urlencode({'page_size': 100, **query})}", headers=factories.bearer(user))
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def flat(item: dict[str, Any]) -> dict[str, Any]:
    """Members of an inner object as "outer.inner"."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        inner = value.items() if isinstance(value, dict) else None
        found |= {f"{name}.{member}": one for member, one in inner} if inner else {name: value}
    return found


def csv_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))


def sheet_rows(content: bytes) -> list[dict[str, Any]]:
    """Cells by their column's name; numbers as numbers, no formula anywhere."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - made by ourselves
    assert sheet.find(".//{*}f") is None
    names, *rows = [
        {str(cell.get("r")).rstrip("0123456789"): _value(cell) for cell in row}
        for row in sheet.findall(".//{*}row")
    ]
    return [{name: row.get(column) for column, name in names.items()} for row in rows]


def _value(cell: ElementTree.Element) -> Any:
    text = "".join(cell.itertext())
    match cell.get("t"):
        case "inlineStr":
            return text
        case "b":
            return text == "1"
        case _:
            return int(text)


@pytest.mark.parametrize(
    ("path", "columns"), [("/api/billing/ledger", LEDGER_COLUMNS), ("/api/usage", USAGE_COLUMNS)]
)
def test_every_form_holds_the_rows_of_the_api(
    client: Client, customer: User, path: str, columns: tuple[str, ...]
) -> None:
    expected = items(client, customer, path)
    table = [flat(item) for item in expected]
    assert len(expected) == (5 if path == "/api/billing/ledger" else 3)
    assert tuple(table[0]) == columns

    lines = download(client, customer, f"{path}/export", format="jsonl")
    separated = download(client, customer, f"{path}/export")
    sheet = download(client, customer, f"{path}/export", format="xlsx")

    assert [json.loads(line) for line in lines.splitlines()] == expected
    assert sheet_rows(sheet) == table
    told = {None: "", True: "true", False: "false"}
    assert csv_rows(separated) == [
        {name: told[value] if value is None or value is False else str(value) for name, value in row.items()}
        for row in table
    ]


def test_csv_is_what_russian_excel_opens(client: Client, customer: User) -> None:
    content = download(client, customer, "/api/billing/ledger/export", format="csv")

    assert content.startswith(b"\xef\xbb\xbfid;seq;type;")
    assert content.count(b"\r\n") == content.count(b"\n") == 6


@pytest.mark.parametrize("form", Form)
def test_file_says_what_it_is(client: Client, customer: User, form: Form) -> None:
    answer = client.get(f"/api/usage/export?format={form}", headers=factories.bearer(customer))

    assert answer["Content-Type"] == downloads.CONTENT_TYPES[form]
    assert answer["Content-Disposition"] == f'attachment; filename="plyrum-usage.{form}"'
    assert answer["Cache-Control"] == "no-store"
    assert body(answer)


def test_filters_are_those_of_the_api(client: Client, customer: User) -> None:
    newest, *_, oldest = items(client, customer, "/api/billing/ledger")
    for query in (
        {"type": "usage_debit"},
        {"from": newest["created_at"]},
        {"to": newest["created_at"], "type": "admin_adjustment"},
        {"to": oldest["created_at"]},
    ):
        lines = download(client, customer, "/api/billing/ledger/export", format="jsonl", **query)

        found = [json.loads(line) for line in lines.splitlines()]
        assert found == items(client, customer, "/api/billing/ledger", **query)
    assert download(client, customer, "/api/usage/export", format="jsonl", model="other") == b""
    assert download(client, customer, "/api/usage/export", format="jsonl", api_key_id=uuid7()) == b""


@pytest.mark.parametrize("query", ["format=pdf", "type=x", "from=yesterday", "typ=topup", "format="])
def test_wrong_question_is_refused(client: Client, customer: User, query: str) -> None:
    answer = client.get(f"/api/billing/ledger/export?{query}", headers=factories.bearer(customer))

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_stranger_gets_nothing_of_it(client: Client, customer: User) -> None:
    stranger = factories.customer()

    for path in ("/api/billing/ledger/export", "/api/usage/export"):
        assert download(client, stranger, path, format="jsonl") == b""
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    ("path", "action"),
    [("/api/billing/ledger/export", "billing.ledger.export"), ("/api/usage/export", "billing.usage.export")],
)
def test_export_is_journalled_with_its_filter(client: Client, customer: User, path: str, action: str) -> None:
    download(client, customer, path, format="jsonl", **{"from": "2026-01-01T00:00:00Z"})

    (event,) = AuditEvent.objects.filter(action=action, target_user_id=customer.id)
    assert (event.actor_kind, event.actor_id, event.subject) == (
        "customer",
        str(customer.id),
        f"wallet:{customer.id}",
    )
    assert event.data == {"format": "jsonl", "filter": {"since": "2026-01-01 00:00:00+00:00"}}


def test_spreadsheet_with_too_many_rows_is_refused_and_nothing_is_cut(
    client: Client, customer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "XLSX_ROWS", 4)

    answer = client.get("/api/billing/ledger/export?format=xlsx", headers=factories.bearer(customer))

    assert (answer.status_code, answer.json()["code"]) == (422, "export_too_large")
    assert answer.json()["most_rows"] == 4
    assert len(csv_rows(download(client, customer, "/api/billing/ledger/export"))) == 5
    assert len(sheet_rows(download(client, customer, "/api/usage/export", format="xlsx"))) == 3


@pytest.mark.parametrize("text", ["=1+1", "+7", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_text_is_no_formula_and_a_number_stays_one(text: str) -> None:
    item = {"text": text, "amount": -5, "long": -(10**15)}
    customer = uuid7()
    books.credit(customer, 1)
    collection = Collection(
        "x", queries.statement(customer), "seq", lambda rows: [item for _ in rows], ("text", "amount", "long")
    )

    (row,) = csv_rows(b"".join(downloads.parts(collection, Form.CSV)))
    (cells,) = sheet_rows(b"".join(downloads.parts(collection, Form.XLSX)))

    assert row == {"text": f"'{text}", "amount": "-5", "long": "-1000000000000000"}
    assert (cells["amount"], cells["long"]) == (-5, "-1000000000000000")
    assert text.strip() in cells["text"]


def test_descriptions_are_in_the_language_of_the_customer(client: Client, customer: User) -> None:
    User.objects.filter(pk=customer.pk).update(locale="en")
    customer.refresh_from_db()

    lines = download(client, customer, "/api/billing/ledger/export", format="jsonl", type="admin_adjustment")

    assert (
        json.loads(lines)["description"]
        == items(client, customer, "/api/billing/ledger", type="admin_adjustment")[0]["description"]
    )


@pytest.mark.parametrize("page", ["/app/wallet", "/app/usage"])
def test_page_offers_every_form_with_its_filters(client: Client, customer: User, page: str) -> None:
    query = "type=usage_debit" if page == "/app/wallet" else f"model={books.SKU}"
    shown = client.get(f"{page}?{query}").content.decode()

    for form in Form:
        name, _, value = query.partition("=")
        address = f"{page}/export?{urlencode({name: value, 'format': form})}"
        assert f'href="{address.replace("&", "&amp;")}"' in shown
        assert body(client.get(address))
    lines = body(client.get(f"{page}/export?{query}&format=jsonl"))
    assert len(lines.splitlines()) == 3


@pytest.mark.parametrize(
    "address",
    [
        "/app/wallet/export",
        "/app/wallet/export?format=pdf",
        "/app/wallet/export?format=csv&type=x",
        "/app/usage/export",
        "/app/usage/export?format=csv&from=2026-31-31",
    ],
)
def test_wrong_question_of_the_site_leads_back_to_the_page(
    client: Client, customer: User, address: str
) -> None:
    answer = client.get(address)

    assert (answer.status_code, answer["Location"]) == (302, address.partition("/export")[0])


@pytest.mark.parametrize("page", ["/app/wallet", "/app/usage"])
def test_site_says_that_a_spreadsheet_is_too_small(
    client: Client, customer: User, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "XLSX_ROWS", 2)

    shown = client.get(f"{page}/export?format=xlsx", follow=True)

    assert "В таблицу Excel помещается 2 строк" in shown.content.decode()


@pytest.mark.parametrize("page", ["/app/wallet", "/app/usage"])
def test_site_says_that_there_were_too_many_requests(
    client: Client, customer: User, page: str, settings: Settings
) -> None:
    settings.PLYRUM_ENFORCE_REQUEST_RATES = True
    assert body(client.get(f"{page}/export?format=csv"))
    throttles.drain(policies.of(customer.id, now=clock.now()).rates[0], str(customer.id))

    refused = client.get(f"{page}/export?format=csv", follow=True)

    assert refused.redirect_chain[-1][0].startswith(page)
    assert "Слишком много запросов" in refused.content.decode()


@pytest.mark.parametrize("page", ["/app/wallet/export", "/app/usage/export"])
def test_visitor_is_asked_to_sign_in(client: Client, page: str) -> None:
    answer = client.get(f"{page}?format=csv")

    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/login")


@pytest.fixture(scope="module")
def crowded() -> dict[int, UUID]:
    """Customers with a thousand and with ten thousand usage rows."""
    found = {rows: uuid7() for rows in (1_000, 10_000)}
    with connection.cursor() as cursor:
        for rows, customer in found.items():
            cursor.execute(MANY_ROWS, {"customer": customer, "rows": rows})
    return found


@pytest.mark.parametrize("form", Form)
def test_memory_does_not_grow_with_the_rows(
    crowded: dict[int, UUID], form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BATCH_ROWS", 100)
    peaks = {}
    for rows, customer in crowded.items():
        found = exports.usage(customer_id=customer, form=form, actor=Actor.customer(customer))
        tracemalloc.start()
        size = sum(len(part) for part in downloads.parts(found, form))
        peaks[rows] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > rows * 10

    assert peaks[10_000] < 1.5 * peaks[1_000]


def plan_of(sql: str) -> list[dict[str, Any]]:
    """The steps of the plan of a query, as they were done."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        (found,) = cursor.fetchone()
    steps, waiting = [], [found[0]["Plan"]]
    while waiting:
        step = waiting.pop()
        steps.append(step)
        waiting += step.get("Plans", [])
    return steps


@pytest.fixture
def _by_index() -> Iterator[None]:
    """A young table is cheaper to read whole, so that is forbidden; a sort would still be seen."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET enable_seqscan; RESET enable_bitmapscan")


@pytest.mark.usefixtures("_by_index")
@pytest.mark.parametrize("seq", [None, 61, 30])
def test_page_of_the_statement_costs_the_same_however_deep(seq: int | None) -> None:
    customer = books.funded(*[10] * 60)
    cursor = paging._closed(seq) if seq else None

    with CaptureQueriesContext(connection) as captured:
        page = paging.follow(queries.statement(customer), cursor, size=20, key="seq")

    (query,) = captured.captured_queries  # no other query counts the rows
    steps = plan_of(query["sql"])
    assert [step["Node Type"] for step in steps] == ["Limit", "Index Scan"]
    assert (steps[-1]["Index Name"], steps[-1]["Actual Rows"]) == ("billing_entry_one_per_seq", 21)
    assert page.next_cursor is not None


@pytest.mark.usefixtures("_by_index")
@pytest.mark.parametrize("kind", ["", "bonus", "refund", "usage_debit"])
def test_no_query_of_the_wallets_first_page_reads_all_entries(
    client: Client, customer: User, kind: str
) -> None:
    """Not with a filter either: charges, which may be very many, are passed over by an index without them."""
    for _ in range(4):
        holds = [books.hold_step(customer.id, 1) for _ in range(50)]
        ledger.hold(holds)
        ledger.settle([books.settle_step(customer.id, hold["id"], 1) for hold in holds])

    with CaptureQueriesContext(connection) as captured:
        assert client.get("/app/wallet", {"type": kind} if kind else {}).status_code == 200

    asked = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    asked = [sql for sql in asked if "billing_ledgerentry" in sql]
    assert asked
    for sql in asked:
        read = [step for step in plan_of(sql) if step.get("Relation Name") == "billing_ledgerentry"]
        assert sum(step["Actual Rows"] + step.get("Rows Removed by Filter", 0) for step in read) <= 30, sql
