"""The whole path in a real browser: from the front page to a paid answer, and the operator who sees it."""

import re

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.conftest import People, Visit
from tests.browser.stage import Stage
from tests.browser.visitor import Visitor

CARD = "5555555555554477"
PASSWORD = "весной 12 капель звенят"

pytestmark = [pytest.mark.browser, pytest.mark.heavy]


def test_newcomer_pays_and_gets_an_answer_and_an_operator_sees_it(
    visit: Visit, stage: Stage, people: People
) -> None:
    email = factories.unique_email("newcomer")
    newcomer = visit()

    sign_up(newcomer, email)
    top_up(newcomer)
    ask(newcomer, "Сколько будет два и два?")
    run_id = see_why(newcomer)
    see_the_books(newcomer)

    operator = visit()
    operator.sign_in_at_the_back_office(people.operator.email)
    operator_sees(operator, email, run_id)


def sign_up(newcomer: Visitor, email: str) -> None:
    page = newcomer.page
    newcomer.go("/")
    newcomer.look_around()
    page.get_by_role("banner").get_by_role("link", name="Начать").click()
    page.locator("[name=email]").fill(email)
    page.locator("[name=password1]").fill(PASSWORD)
    create = page.get_by_role("button", name="Создать аккаунт")
    create.click()
    assert page.locator("[name=accept_offer]:invalid").count() == 1, "an unticked offer must refuse"
    assert page.url.endswith("/signup")
    newcomer.look_around()
    page.locator("[name=accept_offer]").check()
    create.click()
    page.wait_for_url("**/verify")
    newcomer.look_around()
    page.locator("[name=code]").fill(newcomer.stage.code_for(email))
    page.get_by_role("button", name="Подтвердить").click()
    page.wait_for_url("**/app")
    newcomer.look_around()


def top_up(newcomer: Visitor) -> None:
    page = newcomer.page
    newcomer.go("/app/topup")
    page.locator("[name=preset][value='500']").check(force=True)
    page.locator("[name=accept_offer]").check()
    newcomer.look_around()
    page.get_by_role("button", name=re.compile("Оплатить")).click()
    page.wait_for_url(f"{newcomer.stage.sandbox.url}/yookassa/pay/*")
    page.locator("[data-test=card-number]").fill(CARD)
    page.locator("[data-test=card-expiry]").fill("12 / 30")
    page.locator("[data-test=card-csc]").fill("123")
    page.locator("[data-test=pay-card]").click()
    page.wait_for_url("**/app/topup/*")
    expect(page.get_by_role("heading", name="Деньги на балансе")).to_be_visible()
    newcomer.look_around()


def ask(newcomer: Visitor, question: str) -> None:
    page = newcomer.page
    newcomer.go("/app/chat")
    newcomer.look_around()
    page.locator("[name=model]").select_option("sandbox/small")
    page.locator("#composer-text").fill(question)
    expect(page.locator("[data-estimate]")).to_contain_text("₽")
    page.evaluate(GROWTH)
    page.locator("[data-send]").click()
    answer = page.locator(".message-assistant").last
    expect(answer.locator(".message-foot")).to_contain_text("₽")
    expect(answer).to_contain_text("Вы спросили")
    assert len(page.evaluate("window.lengths")) > 2, "the answer must grow before the eyes"
    newcomer.look_around()
    page.reload()
    expect(page.locator(".message-assistant").last).to_contain_text("Вы спросили")
    newcomer.look_around()


# The lengths that the answer had on its way, each once.
GROWTH = """() => {
  window.lengths = [];
  const list = document.querySelector("[data-messages]");
  new MutationObserver(() => {
    const length = list.textContent.length;
    if (!window.lengths.includes(length)) window.lengths.push(length);
  }).observe(list, { childList: true, subtree: true, characterData: true });
}"""


def see_why(newcomer: Visitor) -> str:
    """The page that explains the run; answers the run's id."""
    page = newcomer.page
    address = page.locator(".message-assistant a[href*='/app/requests/']").last.get_attribute("href") or ""
    newcomer.go(address.partition("?")[0])
    newcomer.look_around()
    expect(page.locator("main")).to_contain_text("₽")
    found = re.search(r"/app/requests/([0-9a-f-]{36})", address)
    assert found is not None
    return found[1]


def see_the_books(newcomer: Visitor) -> None:
    page = newcomer.page
    newcomer.go("/app/wallet")
    expect(page.locator("main")).to_contain_text("500")
    expect(page.locator("main")).to_contain_text(re.compile("Пополнение"))
    newcomer.look_around()
    newcomer.go("/app/usage")
    expect(page.locator("main")).to_contain_text(re.compile("small", re.IGNORECASE))
    newcomer.look_around()
    newcomer.go("/app/payments")
    expect(page.locator("main")).to_contain_text("500")
    newcomer.look_around()
    newcomer.go("/app")
    newcomer.look_around()


def operator_sees(operator: Visitor, email: str, run_id: str) -> None:
    """The customer, the payment, the entries, the run and the journal of what has just happened."""
    page = operator.page
    operator.go(f"/admin/accounts/user/?q={email}")
    expect(page.locator("#result_list")).to_contain_text(email)
    row = page.locator("#result_list a[href*='/accounts/user/']").first.get_attribute("href") or ""
    found = re.search(r"/accounts/user/([0-9a-f-]{36})/", row)
    assert found is not None
    customer = found[1]
    operator.go(f"/admin/payments/payment/?q={customer}")
    expect(page.locator("#result_list")).to_contain_text("500")
    operator.go(f"/admin/billing/ledgerentry/?q={customer}")
    assert page.locator("#result_list tbody tr").count() >= 2
    operator.go(f"/admin/orchestration/run/?q={run_id}")
    expect(page.locator("#result_list")).to_contain_text("small")
    operator.go(f"/admin/auditlog/auditevent/?q={customer}")
    expect(page.locator("#result_list")).to_contain_text("accounts.")
    page.set_viewport_size({"width": 390, "height": 844})
    for address in (f"orchestration/run/{run_id}", f"billing/wallet/{customer}"):
        operator.go(f"/admin/{address}/change/")
        operator.check_width()
