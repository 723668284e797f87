"""Words of the back office about legal texts: why a version may not take its next step. Pure."""

from collections.abc import Callable
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from legal.errors import VersionNotReady
from legal.models import DocumentVersion

_REASONS: dict[str, Promise | str] = {
    DocumentVersion.Status.DRAFT.value: gettext_lazy("сначала её согласуют"),
    DocumentVersion.Status.APPROVED.value: gettext_lazy("она уже согласована"),
    DocumentVersion.Status.PUBLISHED.value: gettext_lazy("она уже опубликована"),
    DocumentVersion.Status.SUPERSEDED.value: gettext_lazy("её уже заменила другая"),
    "approver_is_author": gettext_lazy("согласует не тот, кто готовил"),
    "notice_too_short": gettext_lazy("до вступления в силу меньше дней, чем обещано"),
    "hash_differs": gettext_lazy("текст не тот, что был записан"),
}
_SELLER_FACTS: dict[str, Promise | str] = {
    "name": gettext_lazy("название"),
    "inn": gettext_lazy("ИНН"),
    "address": gettext_lazy("адрес"),
    "email": gettext_lazy("почта поддержки"),
}


def not_ready(error: VersionNotReady) -> str:
    """Everything that stands in the way, by the reasons that the error carries."""
    reasons = ", ".join(_reason(code) for code in error.extra["reasons"])
    return _("Эта версия не готова: %(reasons)s.") % {"reasons": reasons}


def _reason(code: str) -> str:
    kind, _colon, fact = code.partition(":")
    if kind == "draft_marker":
        return _("в тексте осталась пометка «%(mark)s»") % {"mark": fact}
    if kind == "seller_fact":
        name = str(_SELLER_FACTS.get(fact, fact))
        return _("в тексте нет данных продавца (%(fact)s)") % {"fact": name}
    return str(_REASONS.get(code, code))


# By the code of the error.
REFUSALS: dict[str, Promise | str | Callable[[Any], str]] = {
    "document_not_ready": not_ready,
    "document_text_missing": gettext_lazy(
        "Для этой версии нет файла с текстом, или в нём нет заголовка <h1>."
    ),
    "approval_missing": gettext_lazy("Назовите письмо или договор, которым согласован текст."),
}
