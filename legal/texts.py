"""The text of a document: rendered with the seller's facts, cleaned, normalised, hashed, searched for gaps.

Pure but for reading templates; writes nothing.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import nh3
from django.conf import settings
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.utils import translation

from legal.errors import TextMissing

TAGS = frozenset(
    {"h2", "h3", "h4", "p", "ul", "ol", "li", "strong", "em", "a", "br", "blockquote", "code", "section"}
    | {"table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd"}
)
ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href"},
    "th": {"scope"},
    "section": {"id"},
    "h2": {"id"},
    "h3": {"id"},
}

# Source: legal.md 15, "Draft markers". A text that holds one of these is not ready for the public.
_DRAFT_MARKERS = re.compile(
    r"\bDRAFT\b|ЧЕРНОВИК|ПРОЕКТ ДОКУМЕНТА|\bTODO\b|\bFIXME\b|\bTBD\b|\bXXX\b|lorem|укажите|заполните|вставьте"
    r"|\[…\]|\[\.\.\.\]|____|ООО [«\"]Ромашка|Иванов Иван|example\.com|0000000000|1234567890|\{\{|\}\}",
    re.IGNORECASE,
)
_TITLE = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    title: str
    html: str
    sha256: str


def render(*, kind: str, number: int, locale: str) -> Text:
    """The text of `templates/legal/<kind>/<number>.html`. Raises TextMissing when there is no such file."""
    try:
        with translation.override(locale):
            raw = render_to_string(f"legal/{kind}/{number}.html", facts())
    except TemplateDoesNotExist as error:
        raise TextMissing(f"There is no file templates/legal/{kind}/{number}.html.") from error
    return clean(raw)


def clean(raw: str) -> Text:
    """Plain, harmless HTML; the first `<h1>` becomes the title. Raises TextMissing without one."""
    heading = _TITLE.search(raw)
    if heading is None:
        raise TextMissing("The text has no <h1>, so the document would have no title.")
    html = normalise(nh3.clean(raw.replace(heading.group(0), "", 1), tags=set(TAGS), attributes=ATTRIBUTES))
    return Text(title=" ".join(heading.group(1).split()), html=html, sha256=digest(html))


def facts() -> dict[str, Any]:
    """What a text may fill in: the seller and the limits of a top-up, from the settings."""
    return {
        "seller": settings.SELLER,
        "site_url": settings.SITE_URL,
        "min_topup_rub": settings.PAYMENTS_MIN_TOPUP_RUB,
        "max_topup_rub": settings.PAYMENTS_MAX_TOPUP_RUB,
    }


def normalise(text: str) -> str:
    """NFC, LF, no trailing spaces, no run of empty lines: what looks the same has the same hash."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    body = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def digest(text: str) -> str:
    return hashlib.sha256(normalise(text).encode()).hexdigest()


def draft_markers(text: str) -> list[str]:
    """The marks of unfinished work found in `text`, each once, in order."""
    return list(dict.fromkeys(match.group(0) for match in _DRAFT_MARKERS.finditer(text)))


def missing_seller_facts(text: str) -> list[str]:
    """Names of the seller's facts that are empty in the settings or stand otherwise in `text`."""
    needed = ("name", "inn", "address", "email")
    return [name for name in needed if not settings.SELLER[name] or settings.SELLER[name] not in text]
