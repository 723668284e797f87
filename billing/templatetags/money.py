"""Show money, tokens, shares and durations the way people read them.

Used by templates only. Takes whole micro-RUB (1 RUB = 1 000 000) and plain numbers, returns text for the
active language. It never calculates a price and never rounds up: a shown sum is at most the real one.
"""

from decimal import Decimal

from django import template
from django.utils.translation import get_language, gettext

register = template.Library()

MICRO_PER_RUB = 1_000_000
SMALL_SUM_DIGITS = 4  # significant digits of a sum under one rouble
NO_BREAK_SPACE = "\u00a0"
MINUS = "\u2212"


@register.filter
def money(micro_rub: int | None) -> str:
    """Show micro-RUB: two digits from one rouble up, up to four significant digits below it."""
    if micro_rub is None:
        return ""
    return _with_sign(micro_rub, _rounded(abs(micro_rub)))


@register.filter
def money_exact(micro_rub: int | None) -> str:
    """Show micro-RUB to the last micro-rouble, with at least two digits after the comma."""
    if micro_rub is None:
        return ""
    return _with_sign(micro_rub, _fraction(abs(micro_rub), 6))


@register.filter
def money_signed(micro_rub: int | None) -> str:
    """Show micro-RUB with a plus or a minus: what a statement line adds or takes."""
    if micro_rub is None:
        return ""
    return f"+{money(micro_rub)}" if micro_rub > 0 else money(micro_rub)


@register.filter
def tokens(count: int | None) -> str:
    """Show a whole number in groups of three digits."""
    if count is None:
        return ""
    return _with_minus(count, _grouped(abs(count)))


@register.filter
def percent(share: float | Decimal | None) -> str:
    """Show a share of one (0.125) as percent, with one digit after the comma only when it is not zero."""
    if share is None:
        return ""
    value = (Decimal(str(share)) * 100).quantize(Decimal("0.1"))
    digits = f"{abs(value):f}".removesuffix(".0").replace(".", _decimal_mark())
    return _with_minus(value, digits) + NO_BREAK_SPACE + "%"


@register.filter
def duration(milliseconds: int | None) -> str:
    """Show milliseconds as seconds with one digit, and as minutes and seconds from one minute up."""
    if milliseconds is None:
        return ""
    if milliseconds < 60_000:
        is_shorter = 0 < milliseconds < 50  # would read as no time at all
        tenths = ("<0.1" if is_shorter else f"{milliseconds / 1000:.1f}").replace(".", _decimal_mark())
        return gettext("%(seconds)s с") % {"seconds": tenths}
    minutes, seconds = divmod(milliseconds // 1000, 60)
    return gettext("%(minutes)s мин %(seconds)s с") % {"minutes": minutes, "seconds": seconds}


def _rounded(micro_rub: int) -> str:
    if micro_rub == 0:
        return "0"
    if micro_rub >= MICRO_PER_RUB:
        return _fraction(micro_rub // 10_000 * 10_000, 2)
    digits = len(str(micro_rub))
    unit = 10 ** max(digits - SMALL_SUM_DIGITS, 0)
    return _fraction(micro_rub // unit * unit, 6)


def _fraction(micro_rub: int, most_digits: int) -> str:
    """Return roubles with two to `most_digits` digits after the comma, trailing zeros cut."""
    roubles, rest = divmod(micro_rub, MICRO_PER_RUB)
    digits = f"{rest:06d}"[:most_digits]
    return _grouped(roubles) + _decimal_mark() + digits.rstrip("0").ljust(2, "0")


def _grouped(whole: int) -> str:
    separator = NO_BREAK_SPACE if _is_russian() else ","
    return f"{whole:,}".replace(",", separator)


def _decimal_mark() -> str:
    return "," if _is_russian() else "."


def _is_russian() -> bool:
    return (get_language() or "ru").startswith("ru")


def _with_sign(micro_rub: int, digits: str) -> str:
    return f"{_with_minus(micro_rub, digits)}{NO_BREAK_SPACE}₽"


def _with_minus(value: int | Decimal, digits: str) -> str:
    return f"{MINUS}{digits}" if value < 0 else digits
