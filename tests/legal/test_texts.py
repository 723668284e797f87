import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from legal import documents, texts
from legal.errors import TextMissing

SELLER = {
    "name": "ООО «Пример»",
    "inn": "7700000016",
    "address": "Москва, Тестовая улица, 1",
    "email": "help@plyrum.test",
    "refund_email": "refund@plyrum.test",
    "privacy_email": "privacy@plyrum.test",
}
OFFER_HEADINGS = (
    "Кто продаёт",
    "Слова",
    "О чём договор",
    "Кто может купить",
    "Как принять оферту",
    "Цены и учёт",
    "Пополнение, резерв и списание",
    "Сбой, остановка, неполный ответ",
    "Ограничения",
    "Замена модели и провайдера",
    "Ваши обязанности",
    "Права на запросы и ответы",
    "Пределы ИИ",
    "Доступность",
    "Блокировка и её обжалование",
    "Возврат и отказ от договора",
    "Закрытие аккаунта",
    "Ответственность",
    "Персональные данные",
    "Претензии",
    "Право и суд",
    "Изменения",
)


@pytest.mark.parametrize("kind", documents.REQUIRED_KINDS)
def test_shipped_text_renders_and_says_that_it_is_a_draft(kind: str) -> None:
    text = texts.render(kind=kind, number=1, locale="ru")

    assert text.title
    assert "<h1" not in text.html
    assert "{{" not in text.html
    assert "{%" not in text.html
    assert texts.draft_markers(text.html) == ["Черновик"]
    assert texts.digest(text.html) == text.sha256


def test_offer_has_every_heading_the_law_asks_for() -> None:
    html = texts.render(kind="offer", number=1, locale="ru").html

    assert [heading for heading in OFFER_HEADINGS if heading not in html] == []


def test_offer_never_forbids_refunds_nor_contains_a_consent_to_data() -> None:
    html = texts.render(kind="offer", number=1, locale="ru").html.lower()

    assert "не возвращается" not in html
    assert "невозвратн" not in html
    assert "даю согласие" not in html


def test_offer_prints_the_limits_of_a_top_up(settings: Settings) -> None:
    settings.PAYMENTS_MIN_TOPUP_RUB = 137

    assert "от 137 до" in texts.render(kind="offer", number=1, locale="ru").html


def test_seller_of_the_settings_stands_in_the_text(settings: Settings) -> None:
    without = texts.render(kind="offer", number=1, locale="ru")
    settings.SELLER = SELLER

    named = texts.render(kind="offer", number=1, locale="ru")

    assert texts.missing_seller_facts(named.html) == []
    assert texts.missing_seller_facts(without.html) == ["name", "inn", "address", "email"]
    assert named.sha256 != without.sha256


def test_text_is_cleaned_of_everything_active(settings: Settings) -> None:
    settings.SELLER = {**SELLER, "name": "<script>alert(1)</script>Пример"}

    html = texts.render(kind="offer", number=1, locale="ru").html

    assert "<script" not in html
    assert "style=" not in html


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("строка\r\nещё", "строка\nещё"),
        ("строка  \nещё\t", "строка\nещё"),
        ("й", unicodedata.normalize("NFD", "й")),
        ("\n\nтекст\n\n\n\nконец\n", "текст\n\nконец"),
    ],
)
def test_what_looks_the_same_has_the_same_hash(one: str, other: str) -> None:
    assert texts.digest(one) == texts.digest(other)


def test_another_word_has_another_hash() -> None:
    assert texts.digest("от 100 рублей") != texts.digest("от 101 рублей")


@given(st.text())
def test_normal_form_is_stable(text: str) -> None:
    assert texts.normalise(texts.normalise(text)) == texts.normalise(text)


@pytest.mark.parametrize(
    "mark",
    [
        "DRAFT",
        "черновик",
        "Проект документа",
        "TODO",
        "fixme",
        "TBD",
        "XXX",
        "Lorem ipsum",
        "укажите",
        "Заполните",
        "вставьте",
        "[…]",
        "____",
        "ООО «Ромашка»",
        "Иванов Иван",
        "example.com",
        "0000000000",
        "1234567890",
        "{{ seller }}",
    ],
)
def test_mark_of_unfinished_work_is_found(mark: str) -> None:
    assert texts.draft_markers(f"<p>До {mark} после.</p>")


@pytest.mark.parametrize("text", ["Оферта вступает в силу.", "ИНН 7700000016", "draftsman", "XXXL"])
def test_finished_text_has_no_marks(text: str) -> None:
    assert texts.draft_markers(text) == []


def test_text_without_a_title_is_refused() -> None:
    with pytest.raises(TextMissing, match="no <h1>"):
        texts.clean("<p>Текст без названия.</p>")


def test_missing_file_is_named() -> None:
    with pytest.raises(TextMissing, match=r"templates/legal/offer/999\.html"):
        texts.render(kind="offer", number=999, locale="ru")
