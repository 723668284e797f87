"""The one rule of idempotency keys: the header wins, what is no key is refused, absence is told as such."""

import pytest

from plyrum import idempotency
from plyrum.errors import InvalidRequest


@pytest.mark.parametrize(
    ("header", "in_body", "key"),
    [
        (None, None, ""),
        (None, "b", "b"),
        ("h", None, "h"),
        ("h", "b", "h"),
        ("k" * 255, None, "k" * 255),
        ("h", "", "h"),
    ],
)
def test_header_wins_over_the_body(header: str | None, in_body: str | None, key: str) -> None:
    assert idempotency.key_from(header, in_body) == key


@pytest.mark.parametrize("wrong", ["", "k" * 256, "a\nb", "a\x00", "\x7f", "a\x85b"])
@pytest.mark.parametrize("place", ["header", "body"])
def test_what_is_no_key_is_refused_at_its_place(place: str, wrong: str) -> None:
    given = (wrong, "good") if place == "header" else (None, wrong)

    with pytest.raises(InvalidRequest) as refused:
        idempotency.key_from(*given)

    assert refused.value.extra["errors"][0]["loc"][0] == place
