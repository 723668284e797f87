"""Every text that people read is there in every language, with its placeholders and tags unharmed."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from django.core.management import call_command
from django.template import Context, Template
from django.utils import translation
from django.utils.translation import gettext

from plyrum.management.commands.compile_translations import compile_file
from tests.translations import APPS, LANGUAGES, ROOT, Found, calls, faults, messages, po_path


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_none_is_stale(language: str) -> None:
    found = faults(language)

    assert found == [], "\n".join(["renew the file by `python -m tests.translations`", *found])


def test_messages_of_code_and_templates_are_found() -> None:
    found = messages()

    assert ("", "Пополнить баланс") in found
    assert ("секунды", "с") in found
    assert len(found) > 500


def test_translating_functions_go_by_names_that_are_looked_for() -> None:
    """A text behind another name would never be extracted, and every language would show the Russian one."""
    imports = [
        f"{path.relative_to(ROOT)}: {alias}"
        for app in APPS
        for path in sorted((ROOT / app).rglob("*.py"))
        for alias in re.findall(r"\b\w*gettext\w* as (\w+)", path.read_text(encoding="utf-8"))
    ]

    assert [found for found in imports if not found.endswith(": _")] == []


def test_calls_of_every_kind_are_found_in_a_template() -> None:
    code = """
    _('a') XX gettext(u'b (c)') XX pgettext('place', 'd') XX ngettext('one', 'many', count)
    npgettext('place', 'e', 'f', count) XX _(variable) XX _('broken
    """

    assert list(calls(code)) == [
        Found("", "a", ""), Found("", "b (c)", ""), Found("place", "d", ""), Found("", "one", "many"),
        Found("place", "e", "f"),
    ]  # fmt: skip


def test_compiled_file_holds_the_same_texts(tmp_path: Path) -> None:
    source = tmp_path / "en" / "LC_MESSAGES" / "django.po"
    source.parent.mkdir(parents=True)
    source.write_bytes(po_path("en").read_bytes())

    compile_file(source)

    with source.with_suffix(".mo").open("rb") as file:
        compiled: Catalog = read_mo(file)
    assert compiled["Пополнить баланс"].string == "Top up the balance"
    assert not list(source.parent.glob("*.new"))


def test_site_speaks_both_languages() -> None:
    call_command("compile_translations")
    template = Template("{% load i18n %}{% translate 'Пополнить баланс' %}")

    with translation.override("en"):
        assert template.render(Context()) == gettext("Пополнить баланс") == "Top up the balance"
    with translation.override("ru"):
        assert template.render(Context()) == "Пополнить баланс"
