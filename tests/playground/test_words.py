"""Words belong to codes: every code that the engine knows has its own."""

import pytest

from billing.errors import IdempotencyMismatch, InsufficientBalance, ReservedInFlight
from legal.errors import TermsOutdated
from orchestration import words as route_words
from orchestration.errors import ModelNotFound, NoRoute, RunNotFound
from orchestration.providers import base
from orchestration.providers.base import ErrorClass
from playground import words
from playground.errors import QuestionInvalid, SignedOut, ThreadNotFound
from plyrum.errors import PlyrumError, TooManyRequests, Unavailable

CLASSES = [value for value in vars(base).values() if isinstance(value, ErrorClass)]
EXCLUSIONS = [
    "model_disabled",
    "no_price",
    "stale_rate",
    "no_active_key",
    "modality",
    "max_out",
    "context",
    "budget",
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_every_failure_of_a_provider_has_words(kind: ErrorClass) -> None:
    assert route_words.attempt_error(kind.name) not in ("", kind.name)


@pytest.mark.parametrize("code", EXCLUSIONS)
def test_every_exclusion_has_words(code: str) -> None:
    assert route_words.exclusion(code) != code


def test_code_of_a_later_version_is_shown_as_it_is() -> None:
    assert route_words.exclusion("unheard_of") == "unheard_of"
    assert route_words.attempt_error("") == ""
    assert route_words.reasons({"reasons": ["unheard:of"], "model": "m"}) == [
        {"text": "unheard", "value": "of"}
    ]


@pytest.mark.parametrize(
    ("error", "words_of_title"),
    [
        (
            InsufficientBalance(needed_micro_rub=3_100_000, balance_micro_rub=180_000),
            "На балансе 0,18\u00a0₽",
        ),
        (ReservedInFlight(needed_micro_rub=1, balance_micro_rub=0), "заняты другими запросами"),
        (NoRoute(reasons={"a": "context", "b": "context"}), "слишком длинный"),
        (NoRoute(reasons={"a": "no_active_key"}), "нет связи с провайдером"),
        (NoRoute(reasons={"a": "no_price", "b": "context"}), "ни одна модель"),
        (ModelNotFound(), "больше нет в списке"),
        (TermsOutdated(), "новая версия оферты"),
        (IdempotencyMismatch(), "уже отправлена"),
        (QuestionInvalid(field="text"), "Напишите вопрос"),
        (QuestionInvalid(field="model"), "Выберите модель"),
        (QuestionInvalid(field="idempotency_key"), "Страница устарела"),
        (TooManyRequests(), "Слишком много"),
        (SignedOut(), "Вы вышли"),
        (ThreadNotFound(), "переписки нет"),
        (RunNotFound(), "переписки нет"),
        (Unavailable(), "Сейчас ответить нельзя"),
    ],
)
def test_refusal_says_the_fact_and_the_step(error: PlyrumError, words_of_title: str) -> None:
    told = words.refusal(error)

    assert words_of_title in told["title"]
    assert told["text"]
    assert told["code"] == error.code
    assert told["topup"] == (error.status == 402)


def test_prices_are_told_before_and_after() -> None:
    assert words.held(0) == "Запрос принят"
    assert words.held(3_100_000) == "В резерве до 3,10\u00a0₽"
    assert words.price(0, 5) == "Не списано"
    assert words.price(310_000, 0) == "Списано 0,31\u00a0₽"
    assert words.price(310_000, 690_000) == "Списано 0,31\u00a0₽, с резерва снято 0,69\u00a0₽"
    assert words.estimate(1, 2, None).startswith("Обычно")
    assert words.estimate(1, 2, 180_000).endswith("На балансе 0,18\u00a0₽")
