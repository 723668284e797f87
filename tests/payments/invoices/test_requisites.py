"""Check digits of Russian requisites, by the published vectors; one changed digit is always seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.invoices import in_words, requisites, seller
from payments.invoices.references import numbers_in
from payments.invoices.requisites import Party
from tests.payments.invoices.firm import BUYER

BIC = "049805746"
INNS = ("7830002293", "5544332219", "500100732259")


def test_published_vectors_pass_and_their_neighbours_do_not() -> None:
    assert [requisites.inn_fault(inn) for inn in INNS] == [None] * 3
    assert requisites.inn_fault("7830002290") is not None
    assert requisites.account_fault("40602810700000000025", bic=BIC) is None
    assert requisites.correspondent_fault("30101810800000000746", bic=BIC) is None
    assert requisites.account_fault("40602810800000000025", bic=BIC) is not None
    assert requisites.correspondent_fault("30101810700000000746", bic=BIC) is not None
    assert requisites.ogrn_fault("1027700132195", inn=INNS[0]) is None
    assert requisites.ogrn_fault("304500116000157", inn=INNS[2]) is None
    assert requisites.ogrn_fault("1027700132194", inn=INNS[0]) is not None
    assert requisites.ogrn_fault("304500116000157", inn=INNS[0]) is not None


@given(st.sampled_from(INNS), st.integers(0, 9), st.integers(1, 9))
def test_a_changed_digit_of_an_inn_passes_only_by_the_remainder_ten(inn: str, place: int, step: int) -> None:
    """The remainder 10 is written 0, as the remainder 0 is: the rule itself cannot tell these two."""
    changed = inn[:place] + str((int(inn[place]) + step) % 10) + inn[place + 1 :]
    digits = [int(digit) for digit in changed]

    if requisites.inn_fault(changed) is None:
        assert place == len(inn) - 1 or 0 in digits[9:]
    else:
        assert changed != inn


@given(st.text(max_size=25))
def test_no_text_breaks_a_check(text: str) -> None:
    party = Party(text, text, text, text, text, text, text, text, text, text)

    assert requisites.faults(party)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kpp": ""}, "kpp"), ({"kpp": "77000100"}, "kpp"), ({"inn": "٣٣٣٣٣٣٣٣٣٣"}, "inn"),
        ({"inn": ""}, "inn"),
        ({"ogrn": "1027700132190"}, "ogrn"), ({"name": ""}, "name"), ({"address": "x"}, "address"),
        ({"bank_name": "АО Банк"}, "bic"), ({"bic": "12"}, "bic"), ({"bic": BIC}, "account"),
    ],
)  # fmt: skip
def test_each_wrong_field_is_named(changes: dict[str, str], field: str) -> None:
    assert requisites.faults(BUYER) == {}
    assert field in requisites.faults(Party.of(BUYER.as_dict() | changes))


def test_a_sole_trader_has_no_kpp_and_a_treasury_account_is_not_refused() -> None:
    trader = Party.of(BUYER.as_dict() | {"inn": INNS[2], "kpp": "", "ogrn": "304500116000157"})

    assert requisites.faults(trader) == {}
    assert trader.is_trader
    assert set(requisites.faults(Party.of(trader.as_dict() | {"kpp": "770001001"}))) == {"kpp"}
    assert requisites.account_fault("03100643000000017300", bic=BIC) is None


def test_the_made_up_seller_passes_every_check() -> None:
    assert seller.faults(Party.of(seller.MADE_UP)) == {}
    assert requisites.tidy(" 7700 000-009\u00a0") == BUYER.inn


@pytest.mark.parametrize(
    ("micro_rub", "text"),
    [
        (0, "Ноль рублей 00 копеек"), (1_010_000, "Один рубль 01 копейка"),
        (2_020_000, "Два рубля 02 копейки"), (11_110_000, "Одиннадцать рублей 11 копеек"),
        (21_000_000, "Двадцать один рубль 00 копеек"), (1_001_000_000, "Одна тысяча один рубль 00 копеек"),
        (342_117_500_000, "Триста сорок две тысячи сто семнадцать рублей 50 копеек"),
        (1_000_000_000_000, "Один миллион рублей 00 копеек"),
        (5_000_012_000_000_000, "Пять миллиардов двенадцать тысяч рублей 00 копеек"),
    ],
)  # fmt: skip
def test_sums_are_written_in_words(micro_rub: int, text: str) -> None:
    assert in_words.words(micro_rub) == text


def test_a_document_never_rounds() -> None:
    with pytest.raises(ValueError, match="whole kopecks"):
        in_words.words(1)
    assert in_words.figures(-1_234_560_000).replace("\u00a0", " ") == "−1 234,56"
    assert [in_words.percent(rate) for rate in (2200, 550, 700)] == ["22", "5,5", "7"]


@pytest.mark.parametrize(
    ("purpose", "found"),
    [
        ("Оплата по счёту 26-000123 от 20.11.2026", {(2026, 123)}),
        ("сч.№26–000123,НДС", {(2026, 123)}), ("26 - 000123", {(2026, 123)}),
        ("26-000123 и 26-000124", {(2026, 123), (2026, 124)}), ("26-000123, 26-000123", {(2026, 123)}),
        ("тел. 8-926-000123", set()), ("126-000123", set()), ("26-0001234", set()), ("20.11.2026", set()),
    ],
)  # fmt: skip
def test_numbers_of_invoices_are_found_as_people_type_them(purpose: str, found: set[tuple[int, int]]) -> None:
    assert numbers_in(purpose) == found
