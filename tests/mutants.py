"""Mutation testing of the money code (`make mutants`): each small change of it must break a test.

Works on a copy of the tree with servers of its own, one change at a time: comparisons, arithmetic,
conditions, numbers and calls in Python; in the ledger's SQL, which no tool for Python would touch, also
locks, limits and conflicts. Prints the score of each file and the changes that nothing noticed.
Source: docs/decisions/0032-mutation-testing.md.

    python -m tests.mutants [--only FILE ...] [--lines FIRST-LAST] [--every N] [--list]
"""

import argparse
import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".plyrum" / "mutants"
TREE = FOLDER / "tree"
SKIPPED = shutil.ignore_patterns(".git", ".venv", ".plyrum", "__pycache__", ".*_cache", "staticfiles")
# A change may make a loop endless: that is noticed too, when it takes so much longer than without the change.
TOO_LONG = 5
LONGEST_SECONDS = 900  # without any change

_LEDGER = "settle hold credit debit chargeback regressions append_only simulation batches"
# What is changed, and the tests that must notice, without `test_`: first those that most often do.
TARGETS = {
    "billing/money.py": "money money_format pricing",
    "billing/pricing.py": "pricing verification damage",
    "billing/rollups.py": "rollups",
    "billing/ledger.py": f"ledger {_LEDGER} acts queries limit_counters",
    "billing/ledger_calls.py": f"ledger {_LEDGER} acts",
    "billing/verification.py": "verification damage tasks",
    "billing/sql/0000_lots.sql": f"{_LEDGER} limit_counters damage",
    "billing/sql/0001_ledger.sql": f"{_LEDGER} limit_counters",
    "billing/sql/0002_movements.sql": "debit chargeback credit acts regressions batches simulation",
    "billing/sql/0003_daily_root.sql": "daily_roots damage",
    "billing/sql/0004_limits.sql": "limit_counters damage",
    "billing/sql/0005_open_holds.sql": "settle tasks renew limit_counters verification",
    "billing/sql/verify.sql": "damage verification daily_roots",
}
# Races have a folder of their own: what no single caller can see.
RACES = {
    "billing/rollups.py": "rollups",
    "billing/ledger.py": "disputes movements resolving",
    "billing/sql/0000_lots.sql": "reserving",
    "billing/sql/0001_ledger.sql": "reserving resolving keys lock_order movements young_tables open_holds",
    "billing/sql/0002_movements.sql": "movements lock_order keys",
    "billing/sql/0004_limits.sql": "limits",
    "billing/sql/0005_open_holds.sql": "open_holds renewing resolving lock_order",
}


@dataclass(frozen=True)
class Mutant:
    """`text` is the whole file with the one change that `words` tells."""

    line: int
    words: str
    text: str


COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}

# A pattern of SQL and what stands there instead. Equality only where it is compared, not where it is set.
SQL_CHANGES = (
    (r"(?<=\s)<>(?=\s)", "="),
    (r"(?<=\s)<=(?=\s)", "<"),
    (r"(?<=\s)>=(?=\s)", ">"),
    (r"(?<=\s)<(?=\s)", "<="),
    (r"(?<=\s)>(?=\s)", ">="),
    (
        r"\b(?:WHERE|AND|OR|WHEN|IF|ON|ELSIF)\b(?:(?!\b(?:WHERE|AND|OR|WHEN|IF|ON|THEN|SET)\b)[^=,;])*?\s\K=(?=\s)",
        "<>",
    ),
    (r"(?<=\s)\+(?=\s)", "-"),
    (r"(?<=\s)-(?=\s)", "+"),
    (r"\bAND\b", "OR"),
    (r"\bOR\b(?! (?:UPDATE|DELETE))", "AND"),
    (r"\bleast\(", "greatest("),
    (r"\bgreatest\(", "least("),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT DISTINCT FROM\b", "IS DISTINCT FROM"),
    (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
    (r"\bIF NOT FOUND\b", "IF FOUND"),
    (r"\bIF FOUND\b", "IF NOT FOUND"),
    (r" FOR NO KEY UPDATE\b", ""),
    (r"\bON CONFLICT DO NOTHING\b", ""),
    (r"\bNULLS LAST\b", "NULLS FIRST"),
    (r"\bLIMIT \w+\b", ""),
    (r"\bDESC\b", ""),
    (r"\bCONTINUE;", ""),
    (r"\bNOT (?=\w+\.)", ""),
    (r"(?<=[ (])0(?=[ ,;)\n])", "1"),
    (r"(?<=[ (])1(?=[ ,;)\n])", "2"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="mutants", description="Change the money code, see whether tests notice."
    )
    parser.add_argument("--only", nargs="+", choices=sorted(TARGETS), metavar="FILE", default=list(TARGETS))
    parser.add_argument("--lines", help="only changes of these lines, as 120-160")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth change, as a sample")
    parser.add_argument("--list", action="store_true", help="name the changes, run nothing")
    options = parser.parse_args()
    first, last = (int(part) for part in (options.lines or "1-100000").split("-"))
    if not options.list:
        shutil.rmtree(TREE, ignore_errors=True)
        shutil.copytree(ROOT, TREE, ignore=SKIPPED)
    survivors = 0
    for name in options.only:
        found = [mutant for mutant in mutants(ROOT / name) if first <= mutant.line <= last][:: options.every]
        if options.list:
            _say("\n".join(f"{name}:{mutant.line}: {mutant.words}" for mutant in found))
        else:
            survivors += _run(name, found)
    return 1 if survivors else 0


def _run(name: str, found: list[Mutant]) -> int:
    """Try every change of one file; answers how many nothing noticed."""
    place = TREE / name
    original = place.read_text(encoding="utf-8")
    began = time.monotonic()
    if not _tests_pass(name, LONGEST_SECONDS):
        raise SystemExit(f"The tests of {name} fail without any change.")
    limit = (time.monotonic() - began) * TOO_LONG
    survivors = 0
    try:
        for mutant in found:
            place.write_text(mutant.text, encoding="utf-8")
            if _tests_pass(name, limit):
                survivors += 1
                _say(f"{name}:{mutant.line}: survives: {mutant.words}")
    finally:
        place.write_text(original, encoding="utf-8")
    _say(f"{name}: {len(found) - survivors} of {len(found)} changes noticed")
    return survivors


def _tests_pass(name: str, seconds: float) -> bool:
    tests = [f"tests/billing/test_{part}.py" for part in TARGETS[name].split()]
    tests += [f"tests/concurrency/test_{part}.py" for part in RACES.get(name, "").split()]
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {"PLYRUM_DATA_DIR": str(FOLDER / "data"), "LEDGER_SEEDS": "10"}
    process = subprocess.Popen(
        [*command, *tests], cwd=TREE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return process.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def mutants(path: Path) -> Iterator[Mutant]:
    text = path.read_text(encoding="utf-8")
    return _of_python(text) if path.suffix == ".py" else _of_sql(text)


def _of_python(text: str) -> Iterator[Mutant]:
    """Changes of the syntax tree; the text of the file is written anew from it, without comments."""
    tree = ast.parse(text)
    spared = {id(part) for node in ast.walk(tree) for part in _decorators(node)}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in spared:
            continue
        for number, (words, _) in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            twin = next(twin for index, twin in enumerate(ast.walk(changed)) if index == place)
            _, apply = _changes(twin)[number]
            apply()
            yield Mutant(getattr(node, "lineno", 0), words, ast.unparse(ast.fix_missing_locations(changed)))


def _decorators(node: ast.AST) -> Iterator[ast.AST]:
    """Arguments like `frozen` and `durable` guard against what we may write, not against what runs."""
    for decorator in getattr(node, "decorator_list", ()):
        yield from ast.walk(decorator)


def _changes(node: ast.AST) -> list[tuple[str, "Apply"]]:
    """What can be changed at a node: in words, and a function that does it."""
    match node:
        case ast.Compare(ops=[ast.cmpop() as only]):
            return [_put(node, "ops", [COMPARISONS[type(only)]()], f"{_shown(node)}: other comparison")]
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            return [_put(node, "op", ARITHMETIC[type(op)](), f"{_shown(node)}: other operator")]
        case ast.BoolOp(op=ast.And()):
            return [_put(node, "op", ast.Or(), f"{_shown(node)}: or")]
        case ast.BoolOp(op=ast.Or()):
            return [_put(node, "op", ast.And(), f"{_shown(node)}: and")]
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            return [_put(node, "test", ast.UnaryOp(ast.Not(), test), f"not {_shown(test)}")]
        case ast.Constant(value=bool() as truth):
            return [_put(node, "value", not truth, f"{not truth} for {truth}")]
        case ast.Constant(value=int() as number):
            return [_put(node, "value", number + 1, f"{number + 1} for {number}")]
        case ast.Call(func=ast.Name(id=name)) if name in OPPOSITES:
            return [_put(node.func, "id", OPPOSITES[name], f"{_shown(node)}: {OPPOSITES[name]}")]
        case ast.Expr(value=ast.Call()):
            return [_put(node, "value", ast.Constant(None), f"without {_shown(node)}")]
    return []


class Apply:
    """Sets one attribute of one node."""

    def __init__(self, node: ast.AST, name: str, value: object) -> None:
        self.node, self.name, self.value = node, name, value

    def __call__(self) -> None:
        setattr(self.node, self.name, self.value)


def _put(node: ast.AST, name: str, value: object, words: str) -> tuple[str, Apply]:
    return words, Apply(node, name, value)


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:90]


def _of_sql(text: str) -> Iterator[Mutant]:
    """Changes of the code outside comments."""
    code = re.sub(r"--.*", lambda comment: " " * len(comment[0]), text)
    for pattern, instead in SQL_CHANGES:
        before, _, behind = pattern.partition(r"\K")
        for match in re.finditer(f"({before})({behind})" if behind else f"()({before})", code):
            start, end = match.span(2)
            line = text.count("\n", 0, start) + 1
            shown = text.splitlines()[line - 1].strip()[:90]
            yield Mutant(
                line, f"{shown}: {instead or 'nothing'} for {match[2]}", text[:start] + instead + text[end:]
            )


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - its whole work is what it prints


if __name__ == "__main__":
    sys.exit(main())
