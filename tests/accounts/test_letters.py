from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings as configured
from pytest_django import Settings

from accounts import letters

NAMES = sorted(
    path.parent.name for path in Path(configured.BASE_DIR, "templates/emails").glob("*/subject.txt")
)
CONTEXT = {
    "number": "26-000123",
    "amount_micro_rub": 5_000_000_000,
    "valid_until": "27.11.2026",
    "month": "11.2026",
    "is_correction": True,
    "url": "http://127.0.0.1/app/documents",
    "code": "AB12CD",
    "name": "Сервер <1>",
    "prefix": "plk_0123456789ab",
    "happened_at": "20.11.2026 14:02",
    "login_url": "http://127.0.0.1/login",
    "password_reset_url": "http://127.0.0.1/password/reset?a=1&b=2",
    "timestamp": datetime(2026, 11, 20, 11, 2, tzinfo=UTC),
    "at": datetime(2026, 11, 20, 11, 2, tzinfo=UTC),
    "left_micro_rub": 4_500_000,
    "threshold_micro_rub": 100_000_000,
    "ip": "192.0.2.1",
    "request_id": "request-77",
    "plan": "Start",
    "price_micro_rub": 300_000_000,
    "mark": 90,
    "window": "day",
    "spent_micro_rub": 270_000_000,
    "limit_micro_rub": 300_000_000,
    "resets_at": "21.11.2026 00:00",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("locale", ["ru", "en"])
def test_letter_is_complete(name: str, locale: str) -> None:
    letter = letters.compose(name, to="anna@example.test", context=CONTEXT, locale=locale)

    html = str(letter.alternatives[0][0])
    assert letter.to == ["anna@example.test"]
    assert 0 < len(letter.subject) <= 60
    assert "\n" not in letter.subject
    assert "request-77" in letter.body
    assert "request-77" in html
    assert "<img" not in html
    assert "http://www" not in html
    assert "{{" not in letter.body + html
    assert "&amp;" not in letter.body


@pytest.mark.parametrize("name", NAMES)
def test_letter_says_why_it_came_and_from_whom(name: str, settings: Settings) -> None:
    settings.SELLER = {**settings.SELLER, "name": "ООО «Пример»", "inn": "7700000016", "email": "a@b.ru"}

    letter = letters.compose(name, to="anna@example.test", context=CONTEXT, locale="ru")

    for text in (letter.body, str(letter.alternatives[0][0])):
        assert "Письмо пришло, потому что" in text
        assert "7700000016" in text


def test_letter_shows_moscow_time() -> None:
    letter = letters.compose("session_reuse", to="anna@example.test", context=CONTEXT, locale="ru")

    assert "20 ноября 2026, 14:02" in letter.body
