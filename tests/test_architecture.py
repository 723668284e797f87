"""The shape of the code: imports, names, sizes, templates, addresses. What review would have to see."""

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
APPS = (
    "plyrum", "accounts", "billing", "plans", "payments", "orchestration", "playground", "auditlog",
    "legal", "sandbox",
)  # fmt: skip
MAX_LINES = 600
# A name that fits anything attracts everything.
BAD_NAMES = {"utils", "helpers", "common", "services", "signals", "misc", "base_utils"}
TEXT_KINDS = {
    ".py", ".html", ".txt", ".md", ".toml", ".js", ".css", ".sql", ".yml", ".yaml", ".po", ".svg", ".sh",
    ".json",
}  # fmt: skip
SKIPPED = {"staticfiles", "__pycache__"}
HIDDEN = {".github", ".ci"}
SCHEME = r"\b(?:https?|wss?|rediss?|postgres(?:ql)?|smtp|ftp)://"
ADDRESS = re.compile(SCHEME + r"""(?:[^\s/@"'<>]+@)?([A-Za-z0-9.-]+|\[[0-9a-f:]+\])""")
# Names nobody can own (RFC 2606, 6761), and our own made-up one.
RESERVED = re.compile(r"(?:^|\.)(?:test|example|invalid|localhost|local|example\.(?:com|org|net))$")
# Public addresses of the parties we speak to or cite; everything else in the tree is a mistake or a leak.
KNOWN_HOSTS = {
    "api.yookassa.ru", "yookassa.ru", "yoomoney.ru", "api.openai.com", "api.groq.com", "api.deepseek.com",
    "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai", "www.cbr.ru",
    "www.w3.org", "scripts.sil.org", "openfontlicense.org", "github.com", "www.rfc-editor.org",
}  # fmt: skip
# Tables of addresses that must be refused.
NAMES_THEM_ON_PURPOSE = {
    "tests/orchestration/test_catalogue.py", "tests/orchestration/test_registry.py",
    "tests/test_architecture.py",
}  # fmt: skip
INLINE = re.compile(
    r"""\s(?:style|on[a-z]+|hx-on[:\w-]*)\s*=\s*["']|<style\b|<script(?![^>]*(?:\ssrc=|application/json))"""
)
# Letters carry their styles with them: mail programs read no style sheets.
MAY_CARRY_STYLE = ("emails",)


def files(*kinds: str) -> list[Path]:
    return [path for path in _tree() if path.suffix in kinds]


@cache
def _tree() -> list[Path]:
    """Every file of ours; hidden folders hold what tools keep, except the workflows."""
    found: list[Path] = []
    for folder, names, here in os.walk(ROOT):
        names[:] = [name for name in names if name not in SKIPPED and (name[0] != "." or name in HIDDEN)]
        found += [Path(folder) / name for name in here]
    return sorted(found)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_import_contracts_are_kept() -> None:
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-3000:]


def test_nothing_is_imported_inside_a_function() -> None:
    found = [
        f"{name_of(path)}:{line}"
        for path in files(".py")
        for line in hidden_imports(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert found == []


def hidden_imports(tree: ast.AST) -> Iterator[int]:
    """Lines of imports inside functions; `ready()` of an app config may, since models are there only then."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "ready":
            yield from (
                part.lineno for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)
            )


def test_hidden_import_is_seen() -> None:
    lines = ("class A:", " def b(self):", "  if b:", "   import os", " def ready(self):", "  import re")
    tree = ast.parse("\n".join(lines))

    assert list(hidden_imports(tree)) == [4]


def test_nothing_is_imported_only_for_types() -> None:
    found = [name_of(path) for path in files(".py") if "if TYPE_CHECKING" in path.read_text(encoding="utf-8")]

    assert [name for name in found if name != "tests/test_architecture.py"] == []


def test_no_module_has_a_name_that_fits_anything() -> None:
    found = [name_of(path) for path in files(".py") if {path.stem, path.parent.name} & BAD_NAMES]

    assert found == []


def test_no_file_is_too_long_to_read() -> None:
    found = {
        name_of(path): lines
        for path in files(".py", ".html", ".js", ".css", ".sql")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }

    assert found == {}


@pytest.mark.parametrize("app", APPS)
def test_every_module_says_what_it_is_for(app: str) -> None:
    found = [
        name_of(path)
        for path in files(".py")
        if path.relative_to(ROOT).parts[0] == app
        and "migrations" not in path.parts
        and path.stat().st_size
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert found == []


def test_no_page_carries_inline_script_or_style() -> None:
    pages = [path for path in files(".html") if not set(MAY_CARRY_STYLE) & set(path.parts)]

    assert pages
    assert [name_of(path) for path in pages if INLINE.search(path.read_text(encoding="utf-8"))] == []


def test_tree_names_no_address_but_loopback_and_known_parties() -> None:
    texts = [path for path in _tree() if path.suffix in TEXT_KINDS or path.name in ("Makefile", "run")]
    found = {
        f"{name_of(path)}: {host}"
        for path in texts
        for host in ADDRESS.findall(path.read_text(encoding="utf-8", errors="replace"))
        if not is_allowed(host) and name_of(path) not in NAMES_THEM_ON_PURPOSE
    }

    assert sorted(found) == []


def is_allowed(host: str) -> bool:
    """Loopback, a name reserved for examples, a party we name on purpose, or no full name at all."""
    plain = host.strip("[].").lower()
    try:
        return ip_address(plain).is_loopback
    except ValueError:
        return "." not in plain or bool(RESERVED.search(plain)) or plain in KNOWN_HOSTS


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("shop.example", True),
        ("api.yookassa.ru", True),
        ("10.1.2.3", False), ("packages.corp.com", False), ("8.8.8.8", False), ("notexample.com", False),
    ],
)  # fmt: skip
def test_foreign_address_is_seen(host: str, allowed: bool) -> None:
    assert is_allowed(host) is allowed
