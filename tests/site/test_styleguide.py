"""The style guide in a real browser: every component, both themes, phone and desk.

The page is rendered here and handed to the browser request by request, so neither a server nor the database
takes part; the policy is the one of the customer pages.
"""

import mimetypes
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from csp.utils import build_policy
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, Route, sync_playwright

from plyrum import clock
from tests.barriers import barriers

ADDRESS = "http://styleguide.test"
TEMPLATES = Path(settings.BASE_DIR) / "templates"
# Parts that every page shows around the guide itself, or that need a bound Django form.
FRAME_PARTS = {"logo", "theme_menu", "language_switch", "form_fields"}
INLINE = re.compile(
    r"""\s(?:style|on[a-z]+|hx-on[:\w-]*)\s*=\s*["']|<style|<script(?![^>]*(?:src=|application/json))"""
)


@pytest.fixture(scope="module")
def page_html() -> str:
    request = RequestFactory().get("/styleguide")
    request.user = AnonymousUser()
    return render_to_string("styleguide.html", {"now": clock.now()}, request=request)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("PLYRUM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _serve(page: Page, html: str) -> None:
    policy = build_policy()

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ADDRESS)
        if not path.startswith(settings.STATIC_URL):
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy})
            return
        found = finders.find(path.removeprefix(settings.STATIC_URL))
        assert isinstance(found, str), f"{path} is not a file of the site"
        kind = mimetypes.guess_type(found)[0] or "font/woff2"
        route.fulfill(path=found, content_type=kind)

    page.route("**/*", answer)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_every_component_is_accessible_and_fits(
    browser: Browser, page_html: str, theme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    _serve(page, page_html.replace('data-theme="auto"', f'data-theme="{theme}"', 1))
    page.goto(f"{ADDRESS}/styleguide")
    page.locator("html.js").wait_for(state="attached")
    violations = [violation["id"] for violation in barriers(page, {})]
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.close()
    assert (complaints, violations, overflow) == ([], [], 0)


def test_no_template_of_a_page_carries_inline_script_or_style() -> None:
    pages = [path for path in TEMPLATES.rglob("*.html") if "emails" not in path.parts]
    assert pages
    assert [path.name for path in pages if INLINE.search(path.read_text(encoding="utf-8"))] == []


def test_every_component_lists_its_parameters_and_stands_in_the_style_guide() -> None:
    guide = (TEMPLATES / "styleguide.html").read_text(encoding="utf-8")
    everywhere = guide + "".join(
        path.read_text(encoding="utf-8") for path in (TEMPLATES / "components").glob("*.html")
    )
    missing = [
        path.stem
        for path in (TEMPLATES / "components").glob("*.html")
        if not path.read_text(encoding="utf-8").startswith("{% comment %}")
        or (f"<c-{path.stem} " not in everywhere and path.stem not in FRAME_PARTS)
    ]
    assert missing == []
