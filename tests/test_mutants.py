"""The changes that `make mutants` makes: each is one change, and comments are never among them."""

from pathlib import Path

from tests import mutants

PYTHON = '''
@dataclass(frozen=True)
def price(a: int) -> int:
    """Not 1 but 2."""
    if a < 1 and not b:  # 3 > 2
        require()
    return a * min(a, b)
'''
SQL = """-- check A = B AND 0
SELECT a FROM t WHERE a = 1 AND b <> c FOR NO KEY UPDATE;
UPDATE t SET a = b + 1;
"""


def test_each_change_of_python_is_one_change(tmp_path: Path) -> None:
    file = tmp_path / "price.py"
    file.write_text(PYTHON)

    words = [mutant.words for mutant in mutants.mutants(file)]

    assert sorted(words) == [
        "2 for 1",
        "a * min(a, b): other operator",
        "a < 1 and (not b): or",
        "a < 1: other comparison",
        "min(a, b): max",
        "not a < 1 and (not b)",
        "without require()",
    ]
    assert len({mutant.text for mutant in mutants.mutants(file)}) == len(words)


def test_each_change_of_sql_is_one_change_outside_comments(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sql"
    file.write_text(SQL)

    changed = [mutant.text.splitlines() for mutant in mutants.mutants(file)]

    assert {lines[0] for lines in changed} == {SQL.splitlines()[0]}
    assert sorted((lines[1], lines[2]) for lines in changed) == sorted(
        [
            ("SELECT a FROM t WHERE a = 1 AND b = c FOR NO KEY UPDATE;", "UPDATE t SET a = b + 1;"),
            ("SELECT a FROM t WHERE a <> 1 AND b <> c FOR NO KEY UPDATE;", "UPDATE t SET a = b + 1;"),
            ("SELECT a FROM t WHERE a = 1 AND b <> c FOR NO KEY UPDATE;", "UPDATE t SET a = b - 1;"),
            ("SELECT a FROM t WHERE a = 1 OR b <> c FOR NO KEY UPDATE;", "UPDATE t SET a = b + 1;"),
            ("SELECT a FROM t WHERE a = 1 AND b <> c;", "UPDATE t SET a = b + 1;"),
            ("SELECT a FROM t WHERE a = 2 AND b <> c FOR NO KEY UPDATE;", "UPDATE t SET a = b + 1;"),
            ("SELECT a FROM t WHERE a = 1 AND b <> c FOR NO KEY UPDATE;", "UPDATE t SET a = b + 2;"),
        ]
    )


def test_every_file_named_and_its_tests_exist() -> None:
    for name, tests in mutants.TARGETS.items():
        assert (mutants.ROOT / name).exists(), name
        for part in tests.split():
            assert (mutants.ROOT / f"tests/billing/test_{part}.py").exists(), part
    for tests in mutants.RACES.values():
        for part in tests.split():
            assert (mutants.ROOT / f"tests/concurrency/test_{part}.py").exists(), part
