"""The stage, the people and the browser of the browser tests; screenshots of what failed.

People are made before the browser starts: its driver keeps an event loop in this thread, where Django's ORM
refuses to work.
"""

import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import Browser, expect, sync_playwright

from accounts.models import User
from billing import ledger
from plyrum.ids import uuid7
from tests import browsers, factories
from tests.billing import books
from tests.browser.stage import Stage
from tests.browser.visitor import Visitor
from tests.payments.invoices.firm import close, firm, import_, in_months, invoice, pays

RUB = 1_000_000
PATIENCE_MS = 30_000
Visit = Callable[..., Visitor]
_failed = pytest.StashKey[bool]()
expect.set_options(timeout=PATIENCE_MS)  # it does not ask the context: five seconds by itself


@dataclass(frozen=True)
class People:
    customer: User
    operator: User
    second_operator: User
    newcomer: User  # has filled in nothing
    firm: User  # has a paid invoice, an open one, and an act


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(scope="session")
def people() -> People:
    customer = factories.customer()
    with transaction.atomic():
        ledger.bonus(
            entry_id=uuid7(), customer_id=customer.id, amount_micro_rub=100 * RUB,
            key=f"browser:{uuid7()}", expires_at=None,
        )  # fmt: skip
    return People(
        customer=customer,
        operator=factories.operator(),
        second_operator=factories.operator("finance"),
        newcomer=factories.customer(),
        firm=_firm(),
    )


def _firm() -> User:
    user = factories.customer()
    organisation = firm(user)
    import_(pays(invoice(user.id)))
    invoice(user.id, 25_000)
    books.spend(user.id, 122 * RUB)
    close(organisation, in_months(1))
    return user


@pytest.fixture(scope="module")
def stage(people: People) -> Iterator[Stage]:
    """Gone after its module: its beat sweeps the common database and would end the runs of other tests."""
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def browser(stage: Stage) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers.require(), args=list(browsers.FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, stage: Stage) -> Iterator[Visit]:
    """Opens visitors; options are those of a browser context (viewport, java_script_enabled, locale)."""
    opened: list[Visitor] = []

    def open_one(**options: Any) -> Visitor:
        context = browser.new_context(
            **{
                "reduced_motion": "reduce",
                "locale": "ru-RU",
                "viewport": {"width": 1280, "height": 900},
                **options,
            }
        )
        context.set_default_timeout(PATIENCE_MS)
        opened.append(Visitor(context, stage))
        return opened[-1]

    yield open_one
    if request.node.stash.get(_failed, False):
        folder = Path(tempfile.mkdtemp(prefix="plyrum-browser-"))
        for number, visitor in enumerate(opened, start=1):
            visitor.page.screenshot(path=folder / f"{number}.png", full_page=True)
            (folder / f"{number}.html").write_text(visitor.page.content(), encoding="utf-8")
        sys.stderr.write(f"screenshots: {folder}, log of worker and beat: {stage.log}\n")
    for visitor in opened:
        visitor.context.close()
    complaints = [complaint for visitor in opened for complaint in visitor.complaints]
    assert not complaints, "\n".join(complaints)
