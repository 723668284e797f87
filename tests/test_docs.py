"""The documentation tells the truth: every setting, error, check and job has its line, no line is invented.

Also every relative link and every file of the repository that a page names must exist, and every page that
the code names. Reads files and loaded classes only.
"""

import ast
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from celery import current_app

from plyrum import provider_environment, schedule
from plyrum.errors import PlyrumError

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
APPS = (
    "plyrum",
    "auditlog",
    "legal",
    "accounts",
    "billing",
    "plans",
    "payments",
    "orchestration",
    "playground",
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROVIDER_VARIABLES = {f"PLYRUM_<PROVIDER>_{kind}" for kind in ("BASE_URL", "API_KEYS", "API_KEY")}
TRUTH = {True: "1", False: "0"}
ARITHMETIC = (ast.Constant, ast.BinOp, ast.operator)

_ROW = re.compile(r"^\| `([^`]+)` \|(.+)\|$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|sql|toml|md|html|js|css|txt|yml)")
_PAGE_NAMED_IN_CODE = re.compile(r"docs/[\w/-]+\.md")
_CHECK_ID = re.compile(r'"(\w+\.[EWI]\d{3})"')
_NUMBERED_CHECK_ID = re.compile(r'f"(\w+\.[EWI]00)\{number\}"')


def test_every_setting_has_its_line_and_no_line_is_invented() -> None:
    read = {name for name, _ in _settings_read()} | _key_variables() | PROVIDER_VARIABLES
    read |= set(provider_environment._LEGACY) | set(provider_environment._LEGACY_KEYS)

    assert set(_rows("settings")) == read


def test_every_fixed_default_stands_in_its_line() -> None:
    rows = _rows("settings")

    wrong = {
        name: default for name, default in _settings_read() if default and f"`{default}`" not in rows[name]
    }

    assert not wrong


def test_every_error_has_its_line_with_status_and_retry() -> None:
    raised = {
        (error.code, str(error.status), "yes" if error.retryable else "no") for error in _errors(PlyrumError)
    }

    told = {(code, *_cells(row)[:2]) for code, row in _rows("errors").items()}

    assert told == raised


def test_every_check_has_its_line_and_no_line_is_invented() -> None:
    assert set(_rows("checks")) == set(_check_ids())


def test_every_job_has_its_line_with_task_and_period() -> None:
    planned = {(job.name, f"`{job.task}`", str(job.period_seconds)) for job in schedule.JOBS}

    told = {(name, *_cells(row)[:2]) for name, row in _rows("schedule").items()}

    assert told == planned


def test_every_planned_task_exists() -> None:
    """Beat sends tasks by name: a wrong name would only be seen in the worker's log."""
    assert {job.task for job in schedule.JOBS} <= set(current_app.tasks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_of_a_page_is_broken(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    names = {name for name in _CODE.findall(page.read_text(encoding="utf-8")) if _FILE.fullmatch(name)}

    missing = {name for name in names if not (ROOT / name).exists() and not (page.parent / name).exists()}

    assert not missing


def test_every_page_that_the_code_names_exists() -> None:
    sources = [path for app in APPS for kind in ("*.py", "*.sql") for path in (ROOT / app).rglob(kind)]
    texts = [path.read_text(encoding="utf-8") for path in sources]

    named = {page for text in texts for page in _PAGE_NAMED_IN_CODE.findall(text)}

    assert {page for page in named if not (ROOT / page).exists()} == set()


def _settings_read() -> Iterator[tuple[str, str]]:
    """Each variable read by `env.<type>("NAME", default=...)`, with its default where that is plain."""
    tree = ast.parse((ROOT / "plyrum" / "settings.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env")), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name, _plain_default(node)


def _plain_default(call: ast.Call) -> str:
    """As the page writes it; "" for an empty default and for one that depends on something."""
    default = next((keyword.value for keyword in call.keywords if keyword.arg == "default"), None)
    if default is None or any(not isinstance(node, ARITHMETIC) for node in ast.walk(default)):
        return ""
    value = eval(compile(ast.Expression(default), "settings", "eval"), {})  # noqa: S307 - numbers and texts only
    return TRUTH[value] if isinstance(value, bool) else str(value)


def _key_variables() -> set[str]:
    """`plyrum/keys.py` reads each of its names also with `_FILE` behind."""
    text = (ROOT / "plyrum" / "keys.py").read_text(encoding="utf-8")
    names = re.findall(r'_from_env\(env, "(\w+)"\)', text)
    return {name + ending for name in names for ending in ("", "_FILE")}


def _errors(family: type[PlyrumError]) -> Iterator[type[PlyrumError]]:
    """The family and everything below it, wherever it is defined."""
    for app in APPS:
        for module in pkgutil.iter_modules(import_module(app).__path__, f"{app}."):
            if module.name.rpartition(".")[2] not in ("migrations", "management", "settings", "asgi"):
                import_module(module.name)
    yield from _below(family)


def _below(family: type[PlyrumError]) -> Iterator[type[PlyrumError]]:
    if family.__module__.partition(".")[0] in APPS:
        yield family
    for kind in family.__subclasses__():
        yield from _below(kind)


def _check_ids() -> Iterator[str]:
    """Ids written out, and those that number a list of faults from 1."""
    for path in [*ROOT.glob("*/checks.py"), *ROOT.glob("*/*/checks.py")]:
        text = path.read_text(encoding="utf-8")
        yield from _CHECK_ID.findall(text)
        for prefix in _NUMBERED_CHECK_ID.findall(text):
            module = import_module(f"{path.parent.name}.checks")
            (faults,) = (
                act
                for name, act in vars(module).items()
                if name.endswith("_faults") and callable(act) and not signature(act).parameters
            )
            yield from (f"{prefix}{number}" for number, _ in enumerate(faults(), start=1))


def _rows(page: str) -> dict[str, str]:
    """The tables of a reference page: the name in the first cell to the rest of the row."""
    found = _ROW.findall((REFERENCE / f"{page}.md").read_text(encoding="utf-8"))
    rows = dict(found)
    assert len(rows) == len(found), "a name stands twice"
    return rows


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    words = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in words}
