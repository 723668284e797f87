"""A person with a browser who notices everything: console, failed requests, foreign hosts, barriers."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

from tests import factories
from tests.barriers import barriers
from tests.browser.stage import Stage

# What ends when the page goes on: the price of a draft, the events of an answer that is over, icon, fonts.
ENDED_BY_THE_PAGE = ("/app/chat/estimate", "/events?", "/favicon.svg", ".woff2")


# In the dark only colours are different.
RULES: dict[str, dict[str, object]] = {
    "light": {},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}


class Visitor:
    """One page in a context of its own. What it complains about is told at the end of the test, all of it."""

    def __init__(self, context: BrowserContext, stage: Stage) -> None:
        self.stage = stage
        self.hosts = {urlsplit(stage.url).netloc, urlsplit(stage.sandbox.url).netloc}
        self.complaints: list[str] = []
        self.context = context
        self.page: Page = context.new_page()
        self._may_fail = False
        context.on("request", self._requested)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.complaints.append(f"error: {error.error}"))

    def go(self, path: str) -> None:
        self.page.goto(f"{self.stage.url}{path}")

    def sign_in_at_the_back_office(self, email: str) -> None:
        self.go("/admin/")
        self.page.locator("[name=username]").fill(email)
        self.page.locator("[name=password]").fill(factories.PASSWORD)
        self.page.locator("[type=submit]").click()
        self.page.wait_for_url("**/admin/")

    @contextmanager
    def expecting_refusal(self) -> Iterator[None]:
        """Inside, answers of 4xx and what the console says about them are what the test is about."""
        self._may_fail = True
        yield
        self._may_fail = False

    def look_around(self) -> None:
        """Is the page fit to be seen: one h1, no barrier in light and dark, no sideways scroll?"""
        self.page.wait_for_load_state("load")
        where = self.page.url.removeprefix(self.stage.url)
        for scheme, options in RULES.items():
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for violation in barriers(self.page, options):
                targets = [node["target"] for node in violation["nodes"]][:3]
                self.complaints.append(f"{where} [{scheme}] axe {violation['id']}: {targets}")
        self.page.emulate_media(color_scheme="light")
        if (headings := self.page.locator("h1").count()) != 1:
            self.complaints.append(f"{where} has {headings} h1")
        self.check_width()

    def check_width(self) -> None:
        over = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            self.complaints.append(f"{self.page.url} is {over} px too wide")

    def _requested(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc not in self.hosts:
            self.complaints.append(f"asks another host: {request.url}")

    def _failed(self, request: Request) -> None:
        is_ours = any(part in request.url for part in ENDED_BY_THE_PAGE)
        if not (is_ours and request.failure == "net::ERR_ABORTED"):
            self.complaints.append(f"failed: {request.method} {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and not self._may_fail:
            self.complaints.append(f"{response.status}: {response.request.method} {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self._may_fail:
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url')})")
