"""Words of the chat: refusals, failures, prices. Pure: facts in, text for the active language out.

Codes are those of the API; the tone and the order (fact, sum, step) are the UX guide's 5.1 and 5.4.
"""

from typing import Any

from django.utils.translation import gettext as _

from billing.templatetags.money import money
from orchestration.words import no_route
from plyrum.errors import PlyrumError

MONEY_HELPS = ("insufficient_balance", "reserved_in_flight")  # a top-up is offered


def refusal(error: PlyrumError) -> dict[str, Any]:
    """An error before anything was sent to a model: {title, text, code, topup}."""
    title, text = _refusal(error)
    helps = error.code in MONEY_HELPS or error.extra.get("subject_kind") == "gift"
    return {"title": title, "text": text, "code": error.code, "topup": helps}


def _refusal(error: PlyrumError) -> tuple[str, str]:
    match error.code:
        case "insufficient_balance":
            return (
                _("На балансе %(balance)s, на этот запрос нужно до %(needed)s.") % _sums(error),
                _("Пополните баланс или выберите модель дешевле."),
            )
        case "reserved_in_flight":
            return (
                _("Деньги заняты другими запросами: свободно %(balance)s, нужно до %(needed)s.")
                % _sums(error),
                _("Дождитесь их ответов или пополните баланс."),
            )
        case "spend_limit_reached":
            return limit_reached(error.extra)
        case "request_limit_exceeded":
            return (
                _("Запрос может стоить до %(needed)s, ваш лимит на запрос %(limit)s.")
                % {
                    "needed": money(error.extra["needed_micro_rub"]),
                    "limit": money(error.extra["limit_micro_rub"]),
                },
                _("Деньги не тронуты. Выберите модель дешевле или измените лимит в кошельке."),
            )
        case "spending_blocked":
            return (
                _("Траты на этом аккаунте остановлены."),
                _("Деньги на месте. Напишите в поддержку: причина записана у нас."),
            )
        case "debt_outstanding":
            return (
                _("Банк отозвал платёж, и на аккаунте долг %(debt)s.")
                % {"debt": money(error.extra["debt_micro_rub"])},
                _("Пополните баланс: долг погасится из пополнения, и вопросы снова будут приниматься."),
            )
        case "no_route":
            return no_route(error.extra.get("reasons", {}))
        case "model_not_found" | "model_not_allowed":
            return _("Этой модели больше нет в списке."), _("Деньги не тронуты. Выберите другую модель.")
        case "terms_outdated":
            return (
                _("Вышла новая версия оферты."),
                _("Прочитайте и примите её на странице пополнения, потом отправьте вопрос ещё раз."),
            )
        case "idempotency_mismatch":
            return (
                _("Эта форма уже отправлена с другим вопросом."),
                _("Отправьте вопрос ещё раз: деньги не тронуты."),
            )
        case "validation_failed":
            return invalid(str(error.extra.get("field", "")))
        case "rate_limited":
            return _("Слишком много запросов подряд."), _("Подождите немного и повторите. Деньги не тронуты.")
        case "unauthenticated":
            return _("Вы вышли из аккаунта."), _("Войдите ещё раз: вопрос останется на странице.")
        case "not_found":
            return _("Этой переписки нет."), _("Начните новую тему: деньги не тронуты.")
        case _:
            return _("Сейчас ответить нельзя."), _("Деньги не тронуты. Повторите через минуту.")


def limit_reached(facts: dict[str, Any]) -> tuple[str, str]:
    """A limit by hour, day or month, in the words of its window."""
    again = {
        "hour": _("Счёт начнётся сначала с новым часом."),
        "day": _("Новый день начнётся в 00:00 по Москве."),
        "month": _("Новый месяц начнётся первого числа в 00:00 по Москве."),
    }[facts["window"]]
    if facts["subject_kind"] == "gift":
        return _("Подаренные деньги на это время потрачены."), again + " " + _("Или пополните баланс.")
    reached = {
        "hour": _("Не помещается в лимит на час: %(limit)s, занято %(used)s."),
        "day": _("Не помещается в лимит на день: %(limit)s, занято %(used)s."),
        "month": _("Не помещается в лимит на месяц: %(limit)s, занято %(used)s."),
    }[facts["window"]]
    sums = {"limit": money(facts["limit_micro_rub"]), "used": money(facts["used_micro_rub"])}
    if facts["subject_kind"] == "organisation":
        return reached % sums, again + " " + _("Это лимит вашей организации, его делят все участники.")
    return reached % sums, again + " " + _("Лимит можно изменить в кошельке.")


def invalid(field: str) -> tuple[str, str]:
    """What is wrong with the form."""
    match field:
        case "text":
            return _("Напишите вопрос: от одного знака до ста тысяч."), _("Деньги не тронуты.")
        case "model":
            return _("Выберите модель из списка."), _("Деньги не тронуты.")
        case _:
            return _("Страница устарела."), _("Обновите её и отправьте вопрос ещё раз.")


def failure(code: str, charged_micro_rub: int) -> str:
    """A run that ended in an error, with what it cost."""
    if charged_micro_rub:
        paid = {"sum": money(charged_micro_rub)}
        return _("Ответ оборвался. Списано %(sum)s за полученную часть.") % paid
    match code:
        case "context_too_long":
            return _("Вопрос с историей не помещается в модель. Деньги не списаны. Начните новую тему.")
        case "content_blocked":
            return _("Модель отказалась отвечать по своим правилам. Деньги не списаны.")
        case "request_invalid":
            return _("Модель не приняла этот запрос. Деньги не списаны. Выберите другую модель.")
        case "empty_answer":
            return _("Модель ответила пустотой. Деньги не списаны. Можно повторить.")
        case _:
            return _("Модель не ответила. Деньги не списаны. Можно повторить или выбрать другую модель.")


def held(hold_micro_rub: int) -> str:
    """The status line once money is set aside."""
    if not hold_micro_rub:
        return _("Запрос принят")
    return _("В резерве до %(sum)s") % {"sum": money(hold_micro_rub)}


def price(cost_micro_rub: int, released_micro_rub: int) -> str:
    """The price line of a finished run."""
    if not cost_micro_rub:
        return _("Не списано")
    sums = {"cost": money(cost_micro_rub), "released": money(released_micro_rub)}
    if not released_micro_rub:
        return _("Списано %(cost)s") % sums
    return _("Списано %(cost)s, с резерва снято %(released)s") % sums


def estimate(usual_micro_rub: int, most_micro_rub: int, balance_micro_rub: int | None) -> str:
    """The price before sending; the balance only when it is short of it."""
    sums = {"usual": money(usual_micro_rub), "most": money(most_micro_rub)}
    line = _("Обычно %(usual)s, не больше %(most)s") % sums
    if balance_micro_rub is not None:
        line += ". " + _("На балансе %(balance)s") % {"balance": money(balance_micro_rub)}
    return line


def _sums(error: PlyrumError) -> dict[str, str]:
    return {
        "balance": money(error.extra.get("balance_micro_rub", 0)),
        "needed": money(error.extra.get("needed_micro_rub", 0)),
    }
