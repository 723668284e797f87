"""Sums on the screen: exact where small, never more than the real sum, in both languages."""

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from billing.templatetags.money import duration, money, money_exact, money_signed, percent, tokens

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("micro_rub", "shown"),
    [
        (0, "0 ₽"),
        (1, "0,000001 ₽"),
        (4_200, "0,0042 ₽"),
        (420_000, "0,42 ₽"),
        (500_000, "0,50 ₽"),
        (123_456, "0,1234 ₽"),
        (999_999, "0,9999 ₽"),
        (1_000_000, "1,00 ₽"),
        (1_009_999, "1,00 ₽"),
        (1_482_600_000, "1 482,60 ₽"),
        (1_234_567_890_000, "1 234 567,89 ₽"),
        (-910_000, "−0,91 ₽"),
    ],
)
def test_money_is_shown_by_its_size(micro_rub: int, shown: str) -> None:
    with translation.override("ru"):
        assert money(micro_rub) == shown.replace(" ", NBSP)


def test_english_uses_its_own_separators() -> None:
    with translation.override("en"):
        assert money(1_482_600_000) == f"1,482.60{NBSP}₽"
        assert tokens(1_204_000) == "1,204,000"


def test_exact_money_keeps_every_digit() -> None:
    with translation.override("ru"):
        assert money_exact(1_482_600_001) == f"1{NBSP}482,600001{NBSP}₽"
        assert money_exact(1_500_000) == f"1,50{NBSP}₽"
        assert money_exact(0) == f"0,00{NBSP}₽"


def test_a_statement_line_says_its_direction() -> None:
    with translation.override("ru"):
        assert money_signed(500_000_000) == f"+500,00{NBSP}₽"
        assert money_signed(-910_000) == f"−0,91{NBSP}₽"
        assert money_signed(0) == f"0{NBSP}₽"


def test_tokens_percent_and_durations_read_naturally() -> None:
    with translation.override("ru"):
        assert tokens(1204) == f"1{NBSP}204"
        assert percent(0.125) == f"12,5{NBSP}%"
        assert percent(1) == f"100{NBSP}%"
        assert percent(-0.2) == f"−20{NBSP}%"
        assert duration(800) == "0,8 с"
        assert duration(30) == "<0,1 с"
        assert duration(125_000) == "2 мин 5 с"


def test_an_absent_value_shows_nothing() -> None:
    assert [show(None) for show in (money, money_exact, money_signed, tokens, percent, duration)] == [""] * 6


@given(st.integers(min_value=0, max_value=10**15))
def test_a_shown_sum_is_never_more_than_the_real_one(micro_rub: int) -> None:
    with translation.override("ru"):
        shown = money(micro_rub).removesuffix(f"{NBSP}₽").replace(NBSP, "").replace(",", ".")
    whole, _, rest = shown.partition(".")
    assert int(whole) * 1_000_000 + int(rest.ljust(6, "0")) <= micro_rub
