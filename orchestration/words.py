"""Words for people about a route: why a model was chosen or left out, why an attempt failed. Pure.

Every text belongs to a stored code, so that the same facts are always told the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from billing.templatetags.money import money
from orchestration.models import Attempt, Run, RunState

Words = Promise | str

_EXCLUSIONS: dict[str, Words] = {
    "model_disabled": gettext_lazy("выключена оператором"),
    "no_price": gettext_lazy("нет цены в прейскуранте"),
    "stale_rate": gettext_lazy("курс валюты, в которой она куплена, устарел"),
    "no_active_key": gettext_lazy("нет связи с провайдером"),
    "modality": gettext_lazy("не работает с текстом"),
    "max_out": gettext_lazy("не пишет таких длинных ответов"),
    "context": gettext_lazy("запрос с историей в неё не помещается"),
    "not_allowed_by_key": gettext_lazy("не разрешена ключу API"),
    "budget": gettext_lazy("дороже предела, который вы задали"),
}

_PROFILES: dict[str, Words] = {
    "balanced": gettext_lazy("поровну качество и цена"),
    "quality": gettext_lazy("сначала качество"),
    "cheap": gettext_lazy("сначала цена"),
    "fast": gettext_lazy("сначала скорость"),
}

_ERRORS: dict[str, Words] = {
    "retry_same": gettext_lazy("сбой на стороне модели"),
    "overloaded": gettext_lazy("перегружена"),
    "rate_limited": gettext_lazy("слишком много запросов у провайдера"),
    "out_of_funds": gettext_lazy("провайдер временно недоступен"),
    "auth_invalid": gettext_lazy("провайдер временно недоступен"),
    "region_blocked": gettext_lazy("недоступна из нашего региона"),
    "model_unavailable": gettext_lazy("модель недоступна у провайдера"),
    "request_invalid": gettext_lazy("не приняла запрос"),
    "context_too_long": gettext_lazy("запрос в неё не поместился"),
    "content_blocked": gettext_lazy("отказалась по своим правилам"),
    "stream_broken": gettext_lazy("ответ оборвался"),
    "answer_too_long": gettext_lazy("ответ оказался длиннее, чем просили"),
    "timeout_first": gettext_lazy("не начала отвечать вовремя"),
    "timeout_idle": gettext_lazy("замолчала посреди ответа"),
    "empty_answer": gettext_lazy("ответила пустотой"),
    "worker_lost": gettext_lazy("наш сервер перезапустился"),
    "internal_error": gettext_lazy("сбой на нашей стороне"),
}


def exclusion(code: str) -> str:
    """Why a model could not be asked."""
    return str(_EXCLUSIONS.get(code, code))


def attempt_error(code: str) -> str:
    """Why a call failed."""
    return str(_ERRORS.get(code) or _("сбой на стороне модели")) if code else ""


def not_needed() -> str:
    return _("запасная, не понадобилась")


def sentence(run: Run, attempts: Sequence[Attempt], labels: Mapping[str, str]) -> str:
    """What happened, in one or two sentences. `labels` are the models' names by id."""
    failed = dict.fromkeys(
        labels[attempt.model]
        for attempt in attempts
        if attempt.status == "failed" and attempt.model != run.model
    )
    facts = {"model": labels[run.model], "failed": ", ".join(failed), "sum": money(run.cost_micro_rub)}
    said = [_("Не ответили: %(failed)s; за это ничего не списали.") % facts] if failed else []
    match run.state:
        case RunState.RUNNING:
            said.append(_("Ответ готовится, деньги в резерве."))
        case RunState.DONE:
            said.append(_("Ответила модель %(model)s.") % facts)
        case RunState.STOPPED if run.cost_micro_rub:
            said.append(
                _("Вы остановили ответ модели %(model)s: списано за вопрос и полученную часть.") % facts
            )
        case RunState.STOPPED:
            said.append(_("Вы остановили запрос до ответа, ничего не списано."))
        case RunState.REFUSED:
            said.append(_("Запрос не отправлен: на балансе не хватило денег."))
        case _ if run.cost_micro_rub:
            said.append(_("Ответ модели %(model)s оборвался, списано %(sum)s за полученную часть.") % facts)
        case _:
            said.append(
                _("Ответа нет: %(reason)s. Ничего не списано.") % {"reason": attempt_error(run.error_code)}
            )
    return " ".join(said)


def reasons(candidate: Mapping[str, Any], label: str = "") -> list[dict[str, str]]:
    """The rules that put a candidate of the stored route where it stands: [{text, value}].

    `label` is the model's name for people; without it its id is shown.
    """
    found = []
    for code in candidate.get("reasons", ()):
        name, _colon, value = code.partition(":")
        if name == "named":
            found.append({"text": _("Модель назвали вы"), "value": label or candidate["model"]})
        elif name == "profile":
            found.append({"text": _("Правило выбора"), "value": str(_PROFILES.get(value, value))})
        elif name == "score":
            share = f"{candidate['score']:.2f}".replace(".", _decimal_mark())
            found.append({"text": _("Оценка модели из 1"), "value": share})
        else:
            found.append({"text": name, "value": value})
    return found


def no_route(excluded: Mapping[str, str]) -> tuple[str, str]:
    """Why nobody could be asked: (what happened, what to do)."""
    codes = set(excluded.values())
    if codes == {"context"}:
        return (
            _("Вопрос с историей слишком длинный для этой модели."),
            _("Деньги не тронуты. Начните новую тему или выберите модель с большей памятью."),
        )
    if len(excluded) == 1:
        (code,) = codes
        return (
            _("Эту модель сейчас спросить нельзя: %(reason)s.") % {"reason": exclusion(code)},
            _("Деньги не тронуты. Выберите другую модель."),
        )
    return _("Сейчас ни одна модель не может ответить."), _(
        "Деньги не тронуты. Повторите через несколько минут."
    )


def _decimal_mark() -> str:
    return "," if (get_language() or "ru").startswith("ru") else "."
