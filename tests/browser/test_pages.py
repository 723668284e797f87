"""Every page of a customer: fit in both languages and themes, on a telephone, and without scripts."""

import re

import pytest
from playwright.sync_api import expect

from accounts.models import User
from tests import factories, web
from tests.browser.conftest import People, Visit
from tests.browser.visitor import Visitor

PUBLIC = (
    "/",
    "/signup",
    "/login",
    "/password/reset",
    "/legal/archive",
    "/legal/offer",
    "/legal/privacy_policy",
)
OWN = (
    "/app", "/app/chat", "/app/topup", "/app/payments", "/app/usage", "/app/wallet", "/app/plan",
    "/app/keys", "/app/documents", "/app/documents/organisation", "/email", "/password/change",
)  # fmt: skip
RUSSIAN = re.compile("[А-Яа-яЁё]+")
# The name of the other language; what the catalogue says about a model, it says in Russian.
STAY_RUSSIAN = {"По", "русски", "Модель", "песочницы"}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
NARROWEST = {"viewport": {"width": 320, "height": 640}}

pytestmark = [pytest.mark.browser, pytest.mark.heavy]


def sign_in(visitor: Visitor, user: User, prefix: str = "") -> None:
    visitor.go(f"{prefix}/login")
    visitor.page.locator("[name=login]").fill(user.email)
    visitor.page.locator("[name=password]").fill(factories.PASSWORD)
    visitor.page.locator("main form").get_by_role("button").last.click()
    visitor.page.wait_for_url(f"**{prefix}/app")


@pytest.mark.parametrize("prefix", ["", "/en"])
def test_every_page_is_fit_to_be_seen(visit: Visit, people: People, prefix: str) -> None:
    visitor = visit()

    for path in PUBLIC:
        see(visitor, prefix, path)
    sign_in(visitor, people.customer, prefix)
    for path in OWN:
        see(visitor, prefix, path)

    assert visitor.page.locator("html").get_attribute("lang") == (prefix.strip("/") or "ru")


def see(visitor: Visitor, prefix: str, path: str) -> None:
    visitor.go(f"{prefix}{path}")
    visitor.look_around()
    if prefix == "/en" and not path.startswith("/legal"):  # documents are written in Russian
        words = set(RUSSIAN.findall(visitor.page.locator("body").inner_text())) - STAY_RUSSIAN
        if words:
            visitor.complaints.append(f"{prefix}{path} speaks Russian: {sorted(words)[:12]}")


@pytest.mark.parametrize("screen", [PHONE, NARROWEST], ids=["390", "320"])
def test_no_page_scrolls_sideways_on_a_telephone(
    visit: Visit, people: People, screen: dict[str, object]
) -> None:
    visitor = visit(**screen)

    for path in PUBLIC:
        visitor.go(path)
        visitor.check_width()
    sign_in(visitor, people.customer)
    for path in OWN:
        visitor.go(path)
        visitor.check_width()


def confirm(visitor: Visitor) -> None:
    """The password again, as a form asks for it that makes a key."""
    visitor.page.locator("[name=password]").fill(factories.PASSWORD)
    visitor.page.locator("main form").get_by_role("button").last.click()


@pytest.mark.parametrize(
    ("prefix", "screen"), [("", {}), ("/en", {}), ("", NARROWEST)], ids=["ru", "en", "320"]
)
def test_key_is_made_copied_and_revoked(
    visit: Visit, people: People, prefix: str, screen: dict[str, object]
) -> None:
    visitor = visit(**screen)
    page = visitor.page
    sign_in(visitor, people.customer, prefix)
    visitor.go(f"{prefix}/app/keys/new")
    confirm(visitor)
    page.wait_for_url(f"**{prefix}/app/keys/new")
    page.locator("details.more summary").click()
    look(visitor, prefix)
    page.locator("[name=name]").fill("a < b")
    page.locator("[name=month_limit]").fill("300,50")
    page.locator("main form [type=submit]").last.click()

    key = page.locator("#key-text").inner_text().strip()
    look(visitor, prefix)
    answer = web.get(f"{visitor.stage.url}/api/balance", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    page.locator("main .btn-primary").last.click()
    look(visitor, prefix)
    page.locator("table a", has_text="a < b").first.click()
    look(visitor, prefix)
    page.locator("[data-dialog=revoke-key]").click()
    page.locator("dialog [type=submit].btn-danger").click()
    page.wait_for_url(f"**{prefix}/app/keys")
    page.locator("details.more summary").click()
    look(visitor, prefix)
    assert key not in page.content()


def look(visitor: Visitor, prefix: str) -> None:
    """At the page that stands there now."""
    visitor.page.wait_for_load_state("networkidle")
    visitor.check_width()
    visitor.look_around()
    if prefix == "/en":
        words = set(RUSSIAN.findall(visitor.page.locator("main").inner_text())) - STAY_RUSSIAN
        assert not words, sorted(words)[:12]


def test_key_is_made_and_revoked_without_scripts(visit: Visit, people: People) -> None:
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    sign_in(visitor, people.customer)
    visitor.go("/app/keys/new")
    confirm(visitor)
    page.wait_for_url("**/app/keys/new")
    page.locator("[name=name]").fill("no scripts")
    page.locator("main form [type=submit]").last.click()
    expect(page.locator("#key-text")).to_contain_text("plk_")

    visitor.go("/app/keys")
    page.get_by_role("link", name="no scripts").first.click()
    page.get_by_role("button", name="Отозвать навсегда").first.click()

    page.wait_for_url("**/app/keys")
    expect(page.locator("main")).to_contain_text("Ключ «no scripts» отозван.")


def test_theme_is_kept(visit: Visit) -> None:
    visitor = visit()
    visitor.go("/")

    visitor.page.locator("header [popovertarget]").first.click()
    visitor.page.locator("button[name=theme][value=dark]").first.click()
    visitor.page.reload()

    assert visitor.page.locator("html").get_attribute("data-theme") == "dark"


def test_question_is_answered_without_scripts(visit: Visit, people: People) -> None:
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    sign_in(visitor, people.customer)
    visitor.go("/app/chat")

    page.locator("[name=model]").select_option("sandbox/small")
    page.locator("[name=text]").fill("2 + 2 = ?")
    page.locator("form#composer [type=submit]").last.click()

    page.wait_for_url("**/app/chat/*")
    answer = page.locator(".message-assistant").last
    expect(answer).to_contain_text("2 + 2 = ?")
    expect(answer.locator(".message-foot")).to_contain_text("₽")


def test_top_up_is_paid_without_scripts(visit: Visit, people: People) -> None:
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    sign_in(visitor, people.customer)
    visitor.go("/app/topup")

    page.locator("[name=preset][value='500']").check(force=True)
    page.locator("[name=accept_offer]").check()
    page.locator("main form [type=submit]").last.click()
    page.wait_for_url(f"{visitor.stage.sandbox.url}/yookassa/pay/*")
    page.locator("[data-test=sbp-confirm]").click()
    page.wait_for_url("**/app/topup/*")

    for _ in range(120):
        if page.get_by_role("heading", name="Деньги на балансе").count():
            break
        page.wait_for_timeout(250)
        page.reload()
    expect(page.get_by_role("heading", name="Деньги на балансе")).to_be_visible()


def test_declined_card_is_told_and_nothing_is_credited(visit: Visit, people: People) -> None:
    visitor = visit()
    page = visitor.page
    sign_in(visitor, people.customer)
    visitor.go("/app/topup")
    page.locator("[name=preset][value='500']").check(force=True)
    page.locator("[name=accept_offer]").check()
    page.locator("main form [type=submit]").last.click()
    page.wait_for_url(f"{visitor.stage.sandbox.url}/yookassa/pay/*")

    page.locator("[data-test=card-number]").fill("5555555555554600")
    page.locator("[data-test=card-expiry]").fill("12 / 30")
    page.locator("[data-test=card-csc]").fill("123")
    page.locator("[data-test=pay-card]").click()
    page.wait_for_url("**/app/topup/*")

    expect(page.get_by_role("heading", name="Платёж не прошёл")).to_be_visible()
    visitor.look_around()
