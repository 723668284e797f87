"""What of the product's texts is translated: every message of code and templates against `locale/`.

Run by the tests; `python -m tests.translations` writes new messages into the files and drops stale ones,
with `--check` it only tells.
Needs no gettext tools.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("en",)
APPS = (
    "plyrum", "accounts", "billing", "plans", "payments", "orchestration", "playground", "auditlog", "legal",
)  # fmt: skip
KEYWORDS = {
    name + ending: places
    for name, places in {
        "_": None, "gettext": None, "gettext_noop": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2),
        "npgettext": ((1, "c"), 2, 3),
    }.items()
    for ending in ("", "_lazy")
}  # fmt: skip
CALL = re.compile(r"\b(_|gettext|ngettext|pgettext|npgettext)\(")
# printf names, printf positions and the braces of str.format.
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")
TAG = re.compile(r"</?(?:a|b|br|code|em|i|p|strong)\b[^>]*>")


@dataclass(frozen=True, order=True)
class Found:
    """A message as code asks for it."""

    context: str
    singular: str
    plural: str

    @property
    def key(self) -> tuple[str, str]:
        return self.context, self.singular


def po_path(language: str) -> Path:
    return ROOT / "locale" / language / "LC_MESSAGES" / "django.po"


def catalogue(language: str) -> Catalog:
    path = po_path(language)
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def messages() -> dict[tuple[str, str], Found]:
    """Every message of the product, by context and singular."""
    found = [*_of_code(), *_of_templates()]
    by_key: dict[tuple[str, str], Found] = {}
    for message in sorted(found):
        if message.key not in by_key or message.plural:
            by_key[message.key] = message
    return by_key


def _of_code() -> Iterator[Found]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            with path.open("rb") as file:
                for _line, message, _comments, context in extract("python", file, keywords=KEYWORDS):
                    yield _found(message, context)


def _of_templates() -> Iterator[Found]:
    for path in sorted((ROOT / "templates").rglob("*")):
        if path.suffix in (".html", ".txt"):
            yield from calls(templatize(path.read_text(encoding="utf-8"), origin=path.name))


def calls(code: str) -> Iterator[Found]:
    """The calls of gettext in what Django makes of a template: Python with everything else crossed out."""
    for match in CALL.finditer(code):
        arguments = _call_at(code, match.start())
        texts = [
            part.value for part in arguments if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        if not texts:
            continue
        has_context = match[1] in ("pgettext", "npgettext")
        yield _found(tuple(texts[1:]) if has_context else tuple(texts), texts[0] if has_context else None)


def _call_at(code: str, start: int) -> list[ast.expr]:
    """The arguments of the call that starts there."""
    end = start
    while (end := code.find(")", end) + 1) > 0:
        try:
            call = ast.parse(code[start:end].strip(), mode="eval").body
        except SyntaxError:
            continue
        return call.args if isinstance(call, ast.Call) else []
    return []


def _found(message: str | tuple[str, ...], context: str | None) -> Found:
    texts = (message,) if isinstance(message, str) else message
    return Found(context or "", texts[0], texts[1] if len(texts) > 1 else "")


def faults(language: str) -> list[str]:
    """What is missing, stale, unsure or damaged in the file of a language."""
    wanted, have = messages(), catalogue(language)
    known = {(entry.context or "", _singular(entry)): entry for entry in have if entry.id}
    found = [f"missing: {key}" for key in wanted.keys() - known.keys()]
    found += [f"stale: {key}" for key in known.keys() - wanted.keys()]
    for key in wanted.keys() & known.keys():
        found += [f"{fault}: {key}" for fault in _entry_faults(known[key], wanted[key], have.num_plurals)]
    return sorted(found)


def _entry_faults(entry: Message, wanted: Found, plurals: int) -> Iterator[str]:
    given = entry.string if isinstance(entry.string, tuple | list) else [entry.string]
    texts = [text or "" for text in given]
    if entry.fuzzy:
        yield "unsure"
    if bool(wanted.plural) is not isinstance(entry.id, tuple | list):
        yield "plural forms differ"
    if len(texts) != (plurals if wanted.plural else 1) or not all(texts):
        yield "not translated"
        return
    for text in texts:
        if _parts(text, PLACEHOLDER) != _parts(wanted.singular, PLACEHOLDER):
            yield f"placeholders differ in {text!r}"
        if _parts(text, TAG) != _parts(wanted.singular, TAG):
            yield f"tags differ in {text!r}"
        if re.search("[а-яё]", text, re.IGNORECASE) and "руб" not in text:
            yield f"Russian letters in {text!r}"
        if text.strip() == text and wanted.singular.strip() != wanted.singular:
            yield f"space at an end is lost in {text!r}"


def _parts(text: str, pattern: re.Pattern[str]) -> list[str]:
    return sorted(pattern.findall(text.replace("%%", "")))


def _singular(entry: Message) -> str:
    return str(entry.id[0] if isinstance(entry.id, tuple | list) else entry.id)


def renew(language: str) -> None:
    """Write the file anew: what is translated stays, what is new waits with an empty text."""
    old, new = catalogue(language), Catalog(locale=language)
    for message in messages().values():
        before = old.get(message.singular, message.context or None)
        identity = (message.singular, message.plural) if message.plural else message.singular
        new.add(identity, before.string if before is not None else "", context=message.context or None)
    buffer = BytesIO()
    write_po(buffer, new, width=0, omit_header=True)
    header = f'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    header += f'"Plural-Forms: {new.plural_forms}\\n"\n\n'
    po_path(language).parent.mkdir(parents=True, exist_ok=True)
    po_path(language).write_text(header + buffer.getvalue().decode("utf-8"), encoding="utf-8")


def main() -> int:
    """Renew the files, unless `--check` is said, and tell what is still to be done."""
    found = []
    for language in LANGUAGES:
        if "--check" not in sys.argv:
            renew(language)
        found += faults(language)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return bool(found)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    sys.exit(main())
