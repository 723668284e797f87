"""Operators' acts in a real browser: a form says what will happen, and two people give a large sum."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import People, Visit
from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.heavy]


def open_form(operator: Visitor, act: str, title: str) -> None:
    operator.page.locator(f"a[hx-get$='/{act}/']").first.click()
    expect(operator.page.locator("#dialog")).to_contain_text(title)


def send(operator: Visitor, **fields: str) -> None:
    form = operator.page.locator("#dialog form")
    for name, value in fields.items():
        form.locator(f"[name={name}]").fill(value)
    form.locator("[type=submit]").click()


def test_large_sum_is_given_by_two_people(visit: Visit, people: People) -> None:
    maker, checker = visit(), visit()
    maker.sign_in_at_the_back_office(people.operator.email)
    maker.go(f"/admin/billing/wallet/{people.customer.id}/change/")

    open_form(maker, "give", "Начислить деньги")
    expect(maker.page.locator("#dialog dl")).to_contain_text("100 000,00")
    send(maker, amount="100000,01", reason="")
    expect(maker.page.locator("#dialog")).to_contain_text("Обязательное поле")
    send(maker, reason="Перенос остатка из прежней системы", ticket="T-31")
    expect(maker.page.locator("body")).to_contain_text("ждёт второго человека")

    checker.sign_in_at_the_back_office(people.second_operator.email)
    expect(checker.page.locator("body")).to_contain_text("Запросы ждут второго человека")
    checker.go(f"/admin/billing/operatorrequest/?q={people.customer.id}")
    checker.page.locator("#result_list a[href*='/operatorrequest/']").first.click()
    open_form(checker, "approve", "Одобрить и выполнить")
    for words in ("+100", "000,01", people.customer.email, people.operator.email, "T-31"):
        expect(checker.page.locator("#dialog dl")).to_contain_text(words)
    send(checker)
    expect(checker.page.locator("body")).to_contain_text("Одобрено и выполнено.")

    maker.go(f"/admin/billing/ledgerentry/?q={people.customer.id}&type__exact=admin_adjustment")
    expect(maker.page.locator("#result_list")).to_contain_text("000,01")
