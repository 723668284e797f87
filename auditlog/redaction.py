"""Take out of a journal entry what must never stand there: secrets, tokens, addresses, card numbers. Pure.

Called by `journal.record` and `jobs.run_job`. Judges a value by the name of its key and by its shape; it is a
net under the callers, who are to hand over ids and counts in the first place.
"""

import re
from collections.abc import Callable
from typing import Any

REMOVED = "[removed]"
MAX_TEXT = 1_000  # characters; a longer text is content, not a fact about an act
MAX_DEPTH = 6

_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)|secret|token(?!s$|_version$|_count$)|authorization|cookie|csrf|api_?key|private_?key"
    r"|signature|otp|(^|_)code$|card_?number|pan$|cvc|cvv|prompt|messages?$|(^|_)answer|completion$",
    re.IGNORECASE,
)
_PERSONAL_KEY = re.compile(r"e?-?mail|phone|first_name|last_name|full_name|passport", re.IGNORECASE)
_MAIL = r"[^\s@<>\"',;:]"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CARD = rf"\b\d(?:(?:[ -](?!{_UUID}\b))?\d){{12,18}}\b"
_SHAPES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    # From the beginning of a word only: looked for at each letter, a long text would take minutes.
    (re.compile(rf"(?<!{_MAIL}){_MAIL}++@{_MAIL}+\.{_MAIL}+"), "[e-mail]"),
    (re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "[token]"),
    (re.compile(r"\b(?:plk|sk|pk|live|test)_[\w-]{12,}|\bsk-[\w-]{12,}"), "[key]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [token]"),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL), "[key]"),
    # A UUID, whose end may by chance be as many digits as a card has, is met first and stays.
    (re.compile(rf"\b({_UUID})\b|{_CARD}"), lambda found: found[1] or "[number]"),
    (re.compile(r"\b[a-z][a-z0-9+]*://[^\s/:@]*:[^\s/@]+@"), "[address]"),
]


def redact(value: Any, *, depth: int = 0) -> Any:
    """A copy of plain JSON data without secrets; anything that is not plain JSON becomes its cleaned text."""
    if depth > MAX_DEPTH:
        return REMOVED
    if isinstance(value, dict):
        return {str(key): _member(str(key), item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean_text(str(value))


def clean_text(text: str) -> str:
    """`text` without anything shaped like an address, a token, a key or a card number, cut to MAX_TEXT."""
    text = text.replace("\x00", "")
    for shape, mark in _SHAPES:
        text = shape.sub(mark, text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def _member(key: str, value: Any, depth: int) -> Any:
    is_plain = value is None or isinstance(value, bool)
    if not is_plain and (_SECRET_KEY.search(key) or _PERSONAL_KEY.search(key)):
        return REMOVED
    return redact(value, depth=depth + 1)
