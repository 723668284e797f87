"""What stands in the way of people who see, hear or point differently, as axe finds it."""

from collections.abc import Mapping
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

# Only what is wrong is listed and fetched: all that is well takes longer than to look.
LOOK = """options => axe.run(document, {resultTypes: ["violations"], ...options})
  .then(found => found.violations)"""


def barriers(page: Page, options: Mapping[str, object]) -> list[dict[str, Any]]:
    """Axe's violations on the page as it stands; `options` are those of `axe.run()`."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE_SCRIPT)
    found: list[dict[str, Any]] = page.evaluate(LOOK, options)
    return found
