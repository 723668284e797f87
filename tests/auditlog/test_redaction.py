from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.redaction import MAX_TEXT, REMOVED, clean_text, redact


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "new_password",
        "refresh_token",
        "Authorization",
        "api_key",
        "email",
        "e-mail",
        "cookie",
        "private_key",
        "card_number",
        "cvc",
        "secret",
        "phone",
        "code",
        "prompt",
        "messages",
        "csrftoken",
    ],
)
def test_value_under_a_secret_name_is_removed(key: str) -> None:
    assert redact({key: "visible-value"}) == {key: REMOVED}


@pytest.mark.parametrize(
    "key", ["amount_micro_rub", "reason", "surface", "input_tokens", "code_count", "error_code_x"]
)
def test_value_under_a_plain_name_is_kept(key: str) -> None:
    assert redact({key: 12}) == {key: 12}


@pytest.mark.parametrize(
    "text",
    [
        "anna.k+x@example.co.uk",
        "Bearer abcdefghijklmnop",
        "sk-sandbox-1234567890",
        "plk_live_0123456789abcdef",
        "4111 1111 1111 1111",
        "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----",
        "postgresql://plyrum:hunter2@db/plyrum",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl",
    ],
)
def test_secret_shape_is_masked_inside_a_text(text: str) -> None:
    cleaned = clean_text(f"before {text} after")

    assert text not in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


@pytest.mark.parametrize(
    "text",
    [
        "0199f3a2-7c3e-7b1a-9a61-3f2b1c0d9e8f",
        "payment:01a204bc-fa4d-7710-9912-221593800195",  # ends in as many digits as a card has
        "2d5f5a0d-000f-5000-9000-145061218216, 22222222-1111-4111-9111-411111111111",
        "D-9F3A2B1C-7C3E-4B1A-8161-123456789012",
        "2026-11-20 01920400-fa4d-7710-9912-221593800195",
        "payment:42",
        "2026-11-20T10:00:00Z",
        "1500000000",
    ],
)
def test_plain_text_is_kept(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize("card", ["4111111111111111", "4111-1111-1111-1111", "2200 0000 0000 000000 4"])
def test_card_beside_an_id_is_masked(card: str) -> None:
    payment = "01a204bc-fa4d-7710-9912-221593800195"

    assert clean_text(f"{payment} {card} {payment}") == f"{payment} [number] {payment}"


def test_nested_data_is_cleaned_to_the_bottom() -> None:
    data = {"rows": [{"who": {"email": "a@b.ru"}}, ("x@y.ru", True, None, 1.5)]}

    assert redact(data) == {"rows": [{"who": {"email": REMOVED}}, ["[e-mail]", True, None, 1.5]]}


def test_truths_about_secrets_stay() -> None:
    assert redact({"password": True, "email": None}) == {"password": True, "email": None}


def test_long_text_is_cut() -> None:
    assert len(clean_text("я" * 5_000)) == MAX_TEXT + 1


def test_bottomless_data_ends() -> None:
    data: dict[str, Any] = {}
    deepest = data
    for _ in range(50):
        deepest["x"] = {}
        deepest = deepest["x"]

    assert REMOVED in str(redact(data))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_redacting_twice_changes_nothing_more(value: Any) -> None:
    once = redact(value)

    assert redact(once) == once
