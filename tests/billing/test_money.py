"""Amounts at the edges: what providers and people write becomes exact integers, or is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money


@pytest.mark.parametrize(
    ("text", "micro_rub"),
    [
        ("0", 0),
        ("0.01", 10_000),
        ("0.1", 100_000),
        ("1", 1_000_000),
        ("1.00", 1_000_000),
        ("1500.00", 1_500_000_000),
        ("007.50", 7_500_000),
        ("999999999999.99", 999_999_999_999_990_000),
    ],
)
def test_amount_of_a_provider_is_read_exactly(text: str, micro_rub: int) -> None:
    assert money.from_provider(text) == micro_rub


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1,50",
        "1.500",
        "1.",
        ".5",
        "-1.00",
        "+1.00",
        "1e3",
        "0x10",
        "1 000.00",
        "1_000",
        "NaN",
        "Infinity",
        "1.00\n",
        "\u0661.00",
        "\uff11.00",
        "1000000000000.00",
        "1.00 RUB",
    ],
)
def test_anything_else_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError):
        money.from_provider(text)


@given(st.integers(0, 10**14 - 1))
def test_amount_goes_to_the_provider_and_back(kopecks: int) -> None:
    micro_rub = kopecks * 10_000

    assert money.from_provider(money.to_provider(micro_rub)) == micro_rub


@pytest.mark.parametrize("micro_rub", [1, 9_999, 10_001, -10_000])
def test_provider_gets_whole_kopecks_only(micro_rub: int) -> None:
    with pytest.raises(ValueError):
        money.to_provider(micro_rub)


def test_roubles_are_a_million_micro() -> None:
    assert money.from_rub(500) == 500_000_000


@pytest.mark.parametrize(
    ("text", "units"), [("2.50", 2_500_000), ("0.006", 6_000), ("0", 0), ("0.000001", 1)]
)
def test_price_is_read_in_millionths(text: str, units: int) -> None:
    assert money.micro_units(text) == units


@pytest.mark.parametrize("text", ["0.0000001", "-1", "abc", "", "NaN", "1e400", "2,50", 2.5])
def test_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        money.micro_units(text)
