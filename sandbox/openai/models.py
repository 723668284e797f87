"""Which model names exist and how each behaves. Names are the only switch: no state, so tests cannot disturb
each other.

Asked by `door` for every call. `bench-<chunks>[-<milliseconds>]` gives exactly that many content chunks.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

BENCH = re.compile(r"bench-([1-9]\d{0,3})(?:-(\d{1,4}))?", re.ASCII)
# What each fault does, in the words of the page that lists them.
PLAIN_FAULTS = {
    "fault-400": "запрос отклонён: 400 invalid_request_error",
    "fault-401": "ключ отклонён: 401 invalid_api_key",
    "fault-402": "нет денег: 402 insufficient_balance",
    "fault-403-region": "страна не обслуживается: 403 unsupported_country_region_territory",
    "fault-404": "модели нет: 404 model_not_found",
    "fault-429": "слишком часто: 429 rate_limit_exceeded, Retry-After: 2",
    "fault-429-date": "слишком часто: 429, Retry-After записан датой",
    "fault-429-quota": "нет денег: 429 insufficient_quota",
    "fault-500": "ошибка сервера: 500 server_error",
    "fault-503": "перегрузка: 503 server_is_overloaded",
    "fault-context": "запрос слишком длинный: 400 context_length_exceeded",
    "fault-html": "страница прокси: 502 text/html",
    "fault-huge-error": "500, тело ошибки в мегабайт",
}
TRANSPORT_FAULTS = {
    "fault-hang": "не отвечает никогда",
    "fault-cut": "обрыв соединения после части ответа",
    "fault-cut-early": "обрыв соединения сразу после заголовков",
    "fault-bad-json": "200 и сломанный JSON",
    "fault-endless": "пишет без конца, о пределе не знает",
    "fault-error-in-stream": "200, затем ошибка до первого слова",
    "fault-error-late": "200, затем ошибка после части ответа",
}
SHAPE_FAULTS = {
    "fault-content-filter": "конец с finish_reason content_filter",
    "fault-empty": "пустой ответ",
    "fault-empty-choices": "первая часть с пустым choices и без usage",
    "fault-no-done": "поток без [DONE] в конце",
    "fault-no-usage": "без usage, даже если просили",
    "fault-slow": "часть раз в четверть секунды, всего сорок",
    "fault-slow-first": "первое слово через три секунды",
    "fault-split-utf8": "записи рвутся внутри букв и строк, CRLF, комментарии",
    "fault-unknown-finish": "неизвестный finish_reason",
    "fault-usage-everywhere": "растущий usage в каждой части",
    "fault-usage-in-finish": "usage в одной части с finish_reason",
    "fault-wrong-usage": "cached_tokens больше, чем prompt_tokens",
    "fault-zero-usage": "usage из нулей",
}
PAUSES = {"fault-slow": 0.25, "fault-endless": 0.001}
FAULTS = {**PLAIN_FAULTS, **TRANSPORT_FAULTS, **SHAPE_FAULTS}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model answers; pauses are in seconds between content chunks."""

    name: str
    fault: str | None = None
    pause_seconds: float = 0.0
    bench_chunks: int | None = None
    is_reasoning: bool = False
    is_caching: bool = False


ORDINARY = {
    "sandbox-small": Behaviour("sandbox-small", pause_seconds=0.004),
    "sandbox-large": Behaviour("sandbox-large", pause_seconds=0.02),
    "sandbox-reasoning": Behaviour("sandbox-reasoning", pause_seconds=0.012, is_reasoning=True),
    "sandbox-cached": Behaviour("sandbox-cached", is_caching=True),
}


@lru_cache(maxsize=4096)
def find(model: str) -> Behaviour | None:
    """Answer how the named model behaves, None when there is no such model."""
    if model in ORDINARY:
        return ORDINARY[model]
    if model in FAULTS:
        return Behaviour(model, fault=model, pause_seconds=PAUSES.get(model, 0.0))
    match = BENCH.fullmatch(model)
    if match is None:
        return None
    return Behaviour(model, bench_chunks=int(match[1]), pause_seconds=int(match[2] or 0) / 1000)


def names() -> list[str]:
    return [*ORDINARY, "bench-20", *FAULTS]
