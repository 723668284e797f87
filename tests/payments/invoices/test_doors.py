"""The doors of invoices: API, site, back office; each with its stranger, bad input and empty state."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import Settings

from accounts import letters, notices
from accounts.models import Notice, User
from billing import policies
from payments.invoices import bank_files, closing, seller
from payments.invoices.checks import seller_can_be_paid
from payments.invoices.models import BankDecision, BankLine, BankStatement, Invoice
from payments.tasks import close_months, sweep_invoices
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.billing import books
from tests.payments.invoices.firm import (
    BUYER,
    REASON,
    Paid,
    close,
    exchange,
    firm,
    import_,
    in_months,
    invoice,
    operator,
    pays,
    today,
)
from tests.payments.shop import RUB

ORGANISATION, INVOICES = "/api/organisation", "/api/invoices"
BODY: dict[str, Any] = {"amount_rub": 5_000, "accept_terms": True}
DOCUMENTS = "/app/documents"
ADMIN = "/admin/payments/"


class Caller:
    """One customer at the API."""

    def __init__(self, client: Client, user: User) -> None:
        self.client, self.user, self.who = client, user, factories.bearer(user)

    def get(self, path: str) -> Any:
        return self.client.get(path, headers=self.who)

    def send(self, method: str, path: str, body: Any, **headers: str) -> Any:
        call = getattr(self.client, method)
        return call(path, orjson.dumps(body), content_type="application/json", headers=self.who | headers)


@pytest.fixture
def caller(client: Client) -> Caller:
    return Caller(client, factories.customer())


@pytest.fixture
def signed_in(client: Client) -> User:
    """A customer with an organisation, at the site."""
    user = factories.customer()
    firm(user)
    client.force_login(user)
    return user


def test_the_organisation_is_filled_in_read_and_checked(caller: Caller) -> None:
    assert caller.get(ORGANISATION).status_code == 404
    wrong = caller.send("put", ORGANISATION, BUYER.as_dict() | {"inn": "7700 000 008"})
    unknown = caller.send("put", ORGANISATION, BUYER.as_dict() | {"x": 1})
    saved = caller.send("put", ORGANISATION, BUYER.as_dict() | {"inn": "7700 000 009"})

    assert (wrong.status_code, unknown.status_code, saved.status_code) == (422, 422, 200)
    (row,) = wrong.json()["errors"]
    assert row["loc"] == ["body", "inn"]
    assert row["msg"] == "There is a typing error in the INN: its check digit does not fit."
    assert caller.get(ORGANISATION).json() == saved.json()
    assert saved.json() | BUYER.as_dict() == saved.json()
    assert saved.json()["role"] == "owner"


def test_an_invoice_is_issued_listed_shown_and_printed(caller: Caller, client: Client) -> None:
    refused = caller.send("post", INVOICES, BODY)
    firm(caller.user)
    key = str(uuid7())
    issued = caller.send("post", INVOICES, BODY, **{"Idempotency-Key": key})
    again = caller.send("post", INVOICES, BODY, **{"Idempotency-Key": key})
    other = caller.send("post", INVOICES, BODY | {"amount_rub": 1}, **{"Idempotency-Key": key})

    assert (refused.status_code, refused.json()["code"]) == (409, "organisation_required")
    assert (issued.status_code, again.status_code) == (201, 201)
    assert again.json() == issued.json()
    assert (again.headers["Idempotent-Replayed"], "Idempotent-Replayed" in issued.headers) == ("true", False)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    shown = issued.json()["invoice"]
    assert (shown["status"], shown["amount_micro_rub"], shown["currency"]) == ("issued", 5_000 * RUB, "RUB")
    assert shown["qr"].startswith("ST00012|Name=")
    listed = caller.get(INVOICES)
    assert listed.json() == {"items": [shown], "next_cursor": None}
    assert (listed.headers["X-Total-Count"], listed.headers["X-Schema-Version"]) == ("1", "1")
    assert caller.get(f"{INVOICES}/{shown['id']}").json() == shown
    printed = caller.get(shown["pdf_url"])
    assert (printed.headers["Content-Type"], printed.content[:5]) == ("application/pdf", b"%PDF-")
    stranger = Caller(client, factories.stranger())
    for path in (f"{INVOICES}/{shown['id']}", shown["pdf_url"], f"{INVOICES}/x", f"{INVOICES}/x.pdf"):
        assert stranger.get(path).status_code == 404
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount_rub": 99}, "validation_failed"), ({"amount_rub": 5_000_001}, "validation_failed"),
        ({"amount_rub": "5000"}, "validation_failed"), ({"amount_rub": 1.5}, "validation_failed"),
        ({"accept_terms": False}, "validation_failed"), ({"offer_version": 2**31 - 1}, "terms_outdated"),
        ({"idempotency_key": ""}, "validation_failed"), ({"buyer": {}}, "validation_failed"),
    ],
)  # fmt: skip
def test_a_wrong_wish_issues_nothing(caller: Caller, changes: dict[str, Any], code: str) -> None:
    firm(caller.user)

    answer = caller.send("post", INVOICES, BODY | changes)

    assert answer.json()["code"] == code
    assert not Invoice.objects.filter(customer_id=caller.user.id).exists()


def test_closing_documents_and_reconciliation_are_read(caller: Caller, client: Client) -> None:
    organisation = firm(caller.user)
    import_(pays(invoice(caller.user.id)))
    books.spend(caller.user.id, 122 * RUB)
    document = close(organisation, in_months(1))
    assert document is not None

    path = f"{ORGANISATION}/closing-documents"
    (shown,) = caller.get(path).json()["items"]
    act = caller.get(f"{ORGANISATION}/reconciliation?from={today()}&to={today()}")
    wrong = caller.get(f"{ORGANISATION}/reconciliation?from={today()}&to=2020-01-01")

    assert (shown["amount_micro_rub"], shown["net_micro_rub"], shown["upd_status"]) == (
        122 * RUB,
        100 * RUB,
        1,
    )
    assert caller.get(f"{path}/{document.id}").json() == shown
    assert caller.get(shown["pdf_url"]).content[:5] == b"%PDF-"
    assert act.json()["closing_micro_rub"] == 4_878 * RUB
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    assert wrong.json()["errors"][0]["loc"] == ["query", "to"]
    stranger = Caller(client, factories.stranger())
    assert stranger.get(f"{path}/{document.id}").status_code == 404
    assert stranger.get(shown["pdf_url"]).status_code == 404
    assert stranger.get(f"{ORGANISATION}/reconciliation?from={today()}&to={today()}").status_code == 409
    client.force_login(caller.user)
    for name, start in (("pdf", b"%PDF-"), ("json", b"{\n")):
        assert client.get(f"{DOCUMENTS}/closing/{document.id}.{name}").content.startswith(start)
        assert client.get(f"{DOCUMENTS}/closing/{uuid7()}.{name}").status_code == 404
    assert document.title in client.get(DOCUMENTS).content.decode()


def test_the_site_leads_from_nothing_to_an_invoice(client: Client) -> None:
    user = factories.customer()
    client.force_login(user)
    assert "Указать реквизиты" in client.get(DOCUMENTS).content.decode()
    assert client.post(f"{DOCUMENTS}/invoices", {}).headers["Location"] == DOCUMENTS
    wrong = client.post(f"{DOCUMENTS}/organisation", BUYER.as_dict() | {"kpp": "", "inn": "1"})
    empty = client.post(f"{DOCUMENTS}/organisation", {"x": "y"})
    assert set(empty.context["form"].errors) == {"name", "inn", "kpp", "address"}
    saved = client.post(f"{DOCUMENTS}/organisation", BUYER.as_dict() | {"inn": " 7700 000009"})
    assert (wrong.status_code, set(wrong.context["form"].errors)) == (422, {"inn", "kpp"})
    assert saved.headers["Location"] == DOCUMENTS
    assert BUYER.kpp in client.get(f"{DOCUMENTS}/organisation").content.decode()

    page = client.get(DOCUMENTS)
    form = {
        "amount_rub": "12 500",
        "accept_offer": "on",
        "offer_version": page.context["offer"]["version"],
        "idempotency_key": str(page.context["idempotency_key"]),
    }
    answers = [client.post(f"{DOCUMENTS}/invoices", form) for _ in range(2)]

    row = Invoice.objects.get(customer_id=user.id)
    assert [answer.headers["Location"] for answer in answers] == [f"{DOCUMENTS}/invoices/{row.id}"] * 2
    shown = client.get(f"{DOCUMENTS}/invoices/{row.id}").content.decode()
    for wanted in (row.title, row.purpose, "40702810600000000001", '<path d="M0 0h7'):
        assert wanted in shown
    assert client.get(f"{DOCUMENTS}/invoices/{row.id}.pdf").content[:5] == b"%PDF-"
    assert row.title in client.get(DOCUMENTS).content.decode()
    client.force_login(factories.stranger())
    for ending in ("", ".pdf"):
        assert client.get(f"{DOCUMENTS}/invoices/{row.id}{ending}").status_code == 404


def test_a_wrong_form_comes_back_with_its_words(client: Client, signed_in: User, settings: Settings) -> None:
    good = {"accept_offer": "on", "offer_version": "1", "idempotency_key": str(uuid7())}

    for amount in ("", "много", "99", "5000001", "1.5"):
        answer = client.post(f"{DOCUMENTS}/invoices", good | {"amount_rub": amount})
        assert (answer.status_code, set(answer.context["form"].errors)) == (422, {"amount_rub"})
    outdated = client.post(f"{DOCUMENTS}/invoices", good | {"amount_rub": "500", "offer_version": "99"})
    assert (outdated.status_code, outdated.context["replaced_offer"]) == (409, True)
    assert client.get(f"{DOCUMENTS}?cursor=x").headers["Location"] == DOCUMENTS
    assert not Invoice.objects.filter(customer_id=signed_in.id).exists()
    period = {"first_day": "2026-02-31", "last_day": "x"}
    assert client.get(f"{DOCUMENTS}/reconciliation", period).status_code == 422
    turned = {"first_day": str(today()), "last_day": str(today() - timedelta(days=2))}
    assert client.get(f"{DOCUMENTS}/reconciliation", turned).status_code == 422
    today_only = {"first_day": str(today()), "last_day": str(today())}
    assert client.get(f"{DOCUMENTS}/reconciliation", today_only).content[:5] == b"%PDF-"
    settings.IS_PRODUCTION = True  # without the seller's bank account
    assert "Счета пока не выставляются" in client.get(DOCUMENTS).content.decode()
    assert client.get(f"{DOCUMENTS}/reconciliation", today_only).headers["Location"] == DOCUMENTS


def test_too_many_wishes_are_slowed_down(client: Client, signed_in: User, settings: Settings) -> None:
    settings.PLYRUM_ENFORCE_REQUEST_RATES = True
    caller = Caller(client, signed_in)
    throttles.drain(policies.of(signed_in.id, now=clock.now()).rates[0], str(signed_in.id))
    form = {"amount_rub": "500", "accept_offer": "on", "offer_version": "1", "idempotency_key": str(uuid7())}

    assert client.post(f"{DOCUMENTS}/invoices", form).status_code == 429
    assert caller.send("post", INVOICES, BODY).json()["code"] == "rate_limited"
    assert not Invoice.objects.filter(customer_id=signed_in.id).exists()


def test_without_an_offer_in_force_the_page_says_so(client: Client, signed_in: User) -> None:
    with time_machine.travel(datetime(2020, 1, 1, tzinfo=UTC)):
        client.force_login(signed_in)
        assert client.get(DOCUMENTS).status_code == 503


def act(client: Client, path: str, **fields: str) -> int:
    return client.post(f"{ADMIN}{path}/", {"_form_submitted": "True", **fields}).status_code


def upload(client: Client, content: bytes) -> Any:
    return client.post(f"{ADMIN}bankstatement/import/", {"file": SimpleUploadedFile("kl_to_1c.txt", content)})


def test_the_back_office_imports_and_resolves(client: Client, settings: Settings) -> None:
    first, second = factories.operator("finance"), factories.operator("finance")
    client.force_login(first)
    row, large = invoice(firm().owner_id), invoice(firm().owner_id, 100_001)
    number = f"n{uuid7().hex[-12:]}"  # leading zeros would not be kept
    paid = [Paid("5000.00", "x", number=f"{number}1"), Paid("100001.00", "x", number=f"{number}2")]
    assert client.get(f"{ADMIN}bankstatement/import/").status_code == 200
    assert upload(client, exchange(*paid)).status_code == 302
    assert upload(client, b"nothing").status_code == 422
    assert upload(client, b"x" * (bank_files.MAX_BYTES + 1)).context["form"].errors
    content = exchange(*paid)
    settings.IS_PRODUCTION = True  # without the seller's requisites
    assert upload(client, content).status_code == 422
    settings.IS_PRODUCTION = False
    small, big = BankLine.objects.filter(number__startswith=number).order_by("number")

    assert act(client, f"bankline/{small.id}/attach", invoice=row.title, reason="мало") == 200
    assert act(client, f"bankline/{small.id}/attach", invoice="26-999999", reason=REASON) == 200
    assert BankDecision.objects.filter(line=small).count() == 0
    assert act(client, f"bankline/{small.id}/attach", invoice=row.title, reason=REASON) == 302
    assert act(client, f"bankline/{big.id}/return", reason=REASON) == 302
    small.refresh_from_db()
    assert (small.status, small.invoice_id) == ("credited", row.id)
    decision = BankDecision.objects.get(line=big)
    assert decision.state == "waiting"
    assert str(decision) == f"вернуть плательщику {big.id}"
    assert act(client, f"bankdecision/{decision.id}/approve") == 403
    client.force_login(second)
    assert REASON in client.get(f"{ADMIN}bankdecision/{decision.id}/refuse/").content.decode()
    assert act(client, f"bankdecision/{decision.id}/refuse", reason=REASON) == 302
    assert act(client, f"bankline/{big.id}/attach", invoice=large.title, reason=REASON) == 302
    client.force_login(first)
    waiting = BankDecision.objects.get(line=big, state="waiting")
    assert act(client, f"bankdecision/{waiting.id}/approve") == 200  # the hash of what was shown is missing
    form = client.get(f"{ADMIN}bankdecision/{waiting.id}/approve/").content.decode()
    (shown,) = re.findall(r'name="sha256" value="([0-9a-f]{64})"', form)
    assert act(client, f"bankdecision/{waiting.id}/approve", sha256=shown) == 302
    big.refresh_from_db()
    assert big.status == "credited"
    voided = invoice(large.customer_id)
    assert voided.title in client.get(f"{ADMIN}invoice/{voided.id}/void/").content.decode()
    assert act(client, f"invoice/{voided.id}/void", reason=REASON) == 302
    voided.refresh_from_db()
    assert voided.status == "void"


def test_pages_of_the_back_office_open_for_their_roles_only(client: Client) -> None:
    organisation = firm()
    row = invoice(organisation.owner_id)
    books.spend(import_(pays(row))[0].invoice.customer_id, RUB)  # type: ignore[union-attr]
    document = close(organisation, in_months(1))
    (line,) = import_(Paid("1.00", "x"))
    pages = [
        f"{ADMIN}{name}/"
        for name in (
            "organisation",
            "invoice",
            "bankstatement",
            "bankline",
            "bankdecision",
            "closingdocument",
        )
    ]
    single = [
        f"{ADMIN}organisation/{organisation.id}/change/",
        f"{ADMIN}invoice/{row.id}/change/",
        f"{ADMIN}invoice/{row.id}/pdf/",
        f"{ADMIN}bankline/{line.id}/change/",
        f"{ADMIN}bankline/{line.id}/attach/",
        f"{ADMIN}closingdocument/{document.id if document else ''}/pdf/",
        f"{ADMIN}closingdocument/{document.id if document else ''}/change/",
    ]
    client.force_login(factories.operator("finance"))
    for page in pages:
        assert client.get(page).status_code == 200
        assert client.get(page, {"q": BUYER.inn}).status_code == 200
        assert client.get(f"{page}add/").status_code == 403
    for page in single:
        assert client.get(page).status_code == 200, page

    client.force_login(factories.operator("support"))
    assert client.get(pages[1]).status_code == 200
    assert act(client, f"bankline/{line.id}/return", reason=REASON) == 403
    assert client.get(f"{ADMIN}bankstatement/import/").status_code == 403
    client.force_login(factories.operator("finance"))
    assert act(client, f"bankline/{line.id}/return", reason=REASON) == 302
    client.force_login(factories.operator("catalogue"))
    for page in (*pages, *single):
        assert client.get(page).status_code == 403, page


def test_the_letters_tell_number_and_sum_in_both_languages() -> None:
    organisation = firm()
    row = invoice(organisation.owner_id)
    import_(pays(row))
    books.spend(organisation.owner_id, 5 * RUB)
    document = close(organisation, in_months(1))
    assert document is not None
    told = Notice.objects.filter(user_id=organisation.owner_id).order_by("created_at")
    assert {notice.letter for notice in told} == {"invoice_issued", "invoice_paid", "closing_document_ready"}

    for notice in told:
        for locale in ("ru", "en"):
            letter = letters.compose(notice.letter, to="a@b.test", context=dict(notice.facts), locale=locale)
            assert notice.facts["number"] in letter.subject
            assert len(letter.subject) < 60
            assert DOCUMENTS in letter.body
    correction = dict(told.last().facts) | {"is_correction": True}  # type: ignore[union-attr]
    assert "исправляет" in letters.compose("closing_document_ready", to="a@b.test", context=correction).body
    assert notices.send(notice_id=told[0].pk, now=clock.now() - timedelta(days=1)) == ""


def test_the_clock_sweeps_and_closes_months() -> None:
    slot = str(uuid7())
    line = import_(Paid("1.00", "x"))[0]

    assert [sweep_invoices(slot=slot), sweep_invoices(slot=slot)] == ["done", "skipped"]
    assert [close_months(slot=slot), close_months(slot=slot)] == ["done", "skipped"]

    assert line.status == "suspense"
    assert BankStatement.objects.filter(pk=line.statement_id).exists()


def test_launch_wants_real_requisites(settings: Settings) -> None:
    assert seller_can_be_paid() == []

    settings.IS_PRODUCTION = True
    assert [found.id for found in seller_can_be_paid()] == ["payments.W020"]
    assert closing.close_months(now=in_months(1), actor=operator()) == 0
    settings.SELLER = settings.SELLER | seller.MADE_UP
    (made_up,) = seller_can_be_paid()
    assert (made_up.id, made_up.hint) == ("payments.E020", "Set PLYRUM_SELLER_TAX_ID.")
    settings.SELLER = settings.SELLER | {"inn": BUYER.inn, "bic": "1"}
    assert {found.hint for found in seller_can_be_paid()} == {"Set PLYRUM_SELLER_BIC."}
    settings.SELLER = settings.SELLER | {"bic": seller.MADE_UP["bic"]}
    assert seller_can_be_paid() == []
