import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import emails


@pytest.mark.parametrize(
    ("given_address", "stored"),
    [
        ("anna@example.ru", "anna@example.ru"),
        ("Anna@Example.RU", "anna@example.ru"),
        ("  anna@example.ru\n", "anna@example.ru"),
        ("anna+work@example.ru", "anna+work@example.ru"),
        ("a.n.n.a@gmail.com", "a.n.n.a@gmail.com"),
        ("anna@почта.рф", "anna@xn--80a1acny.xn--p1ai"),
        ("anna@ПОЧТА.рф", "anna@xn--80a1acny.xn--p1ai"),
        ("ANNA@XN--80A1ACNY.XN--P1AI", "anna@xn--80a1acny.xn--p1ai"),
        ("o'brien@example.ie", "o'brien@example.ie"),
    ],
)
def test_address_is_stored_in_one_form(given_address: str, stored: str) -> None:
    assert emails.normalise(given_address) == stored


@pytest.mark.parametrize(
    "text",
    [
        "",
        "anna",
        "anna@",
        "@example.ru",
        "anna@@example.ru",
        "anna@example",
        "anna@exa mple.ru",
        "анна@example.ru",  # look-alikes of Latin letters
        "аnna@example.ru",
        "anna@-example.ru",
        "anna@example..ru",
        "anna@" + "x" * 64 + ".ru",
        "anna\x00@example.ru",
        "longſ@example.ru",  # an s of another alphabet
        "a" * 64 + "@" + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + ".example.ru",
        '"odd name"@example.ru',
        "anna@example.ru\nBcc: all@example.ru",
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="e-mail"):
        emails.normalise(text)


@given(st.emails())
def test_normal_form_is_stable_and_ascii(address: str) -> None:
    try:
        once = emails.normalise(address)
    except ValueError:
        return

    assert once.isascii()
    assert once == once.lower() == emails.normalise(once) == emails.normalise(once.upper())
