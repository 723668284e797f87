"""Numbers of invoices in the purpose of a bank order, as accountants type them. Pure."""

import re

CENTURY = 2000
# "26-000123": two digits of the year and six of the number; people put other dashes and spaces between them.
_NUMBER = re.compile(r"(?<![\d-])(\d{2})\s?[-–—‑]\s?(\d{6})(?!\d)")


def numbers_in(purpose: str) -> set[tuple[int, int]]:
    """The (year, number) of every invoice that is named."""
    return {(CENTURY + int(year), int(number)) for year, number in _NUMBER.findall(purpose)}
