"""A firm from nothing to an invoice, and one that has documents already, on a desk and on a telephone."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import People, Visit
from tests.browser.test_pages import PHONE, sign_in
from tests.payments.invoices.firm import BUYER

pytestmark = [pytest.mark.browser, pytest.mark.heavy]


def test_a_firm_fills_in_its_requisites_and_gets_an_invoice(visit: Visit, people: People) -> None:
    visitor = visit()
    page = visitor.page
    sign_in(visitor, people.newcomer)
    visitor.go("/app/documents")
    visitor.look_around()
    page.locator("main a.btn").first.click()
    for name in ("name", "kpp", "address", "signatory"):
        page.locator(f"[name={name}]").fill(getattr(BUYER, name))
    page.locator("[name=inn]").fill("7700 000 008")
    with visitor.expecting_refusal():
        page.locator("main form [type=submit]").click()
        expect(page.locator("#id_inn_error")).to_be_visible()
    visitor.look_around()
    page.locator("[name=inn]").fill("7700 000 009")
    page.locator("main form [type=submit]").click()
    page.wait_for_url("**/app/documents")
    page.locator("[name=amount_rub]").fill("25 000")
    page.locator("[name=accept_offer]").check()
    page.locator("form[action$=invoices] [type=submit]").click()

    page.wait_for_url("**/app/documents/invoices/*")
    expect(page.locator("svg.qr")).to_be_visible()
    expect(page.locator("#purpose")).to_contain_text("Оплата по счёту")
    visitor.look_around()

    phone = visit(**PHONE)
    sign_in(phone, people.firm)
    for path in ("/app/documents/organisation", "/app/documents"):
        phone.go(path)
        phone.look_around()
        phone.check_width()
    phone.page.locator("th a").first.click()
    phone.page.wait_for_url("**/app/documents/invoices/*")
    phone.check_width()
