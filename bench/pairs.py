"""Hold + capture pairs on the embedded server against pgbench's simple-update on the same server."""

from uuid import UUID

import uvloop
from django.db import connection

from bench import coalesced, pgbench
from bench.pgbench import CALLERS, FIRST_WALLET, ID, ROUND, WALLETS
from billing import ledger
from billing.models import Hold
from orchestration.coalescer import Coalescer
from orchestration.engine import conninfo
from plyrum.ids import uuid7

FIRST_ROUND = 1000
# One command a line; a colon right before a name or a number would be a variable. Ids are the client's; as
# pgbench makes no text itself, the server does.
DRAW = (
    f"\\set wallet random({FIRST_WALLET + 1}, {FIRST_WALLET + WALLETS})\n"
    "\\set n :n + 1\n"
    f"\\set hold :round * {ROUND} + :client_id * {ROUND // 100} + :n\n"
)
PAIR = (
    f"{DRAW}"
    f"SELECT (ledger_hold_one(('{ID}' || :hold)::uuid, ('{ID}' || :wallet)::uuid, 1000, 900)).outcome;\n"
    f"SELECT (ledger_settle_one(('{ID}' || :hold)::uuid, ('{ID}' || :wallet)::uuid, 700, 'bench')).outcome;\n"
)
# The same by the functions that take arrays.
ARRAYS_OF_ONE = (
    f"{DRAW}"  # noqa: S608 - our own numbers
    f"""SELECT outcome FROM ledger_hold(format('[{{"id":"{ID}%s","customer_id":"{ID}%s","amount": 1000,"""
    """"ttl_seconds": 900,"soft": false}]', :hold::text, :wallet::text)::jsonb);\n"""
    f"""SELECT outcome FROM ledger_settle(format('[{{"hold_id":"{ID}%s","customer_id":"{ID}%s","""
    """"amount": 700,"source_type": "bench","usage": []}]', :hold::text, :wallet::text)::jsonb);\n"""
)


def run(*, rounds: int, seconds: float) -> None:
    """Print transactions a second of simple-update and pairs a second, one by one and coalesced."""
    found: dict[str, list[float]] = {
        "simple-update": [],
        "one by one": [],
        "arrays of one": [],
        "coalesced": [],
    }
    for number in range(rounds):
        found["simple-update"].append(pgbench.simple_update(seconds))
        found["one by one"].append(_one_by_one(PAIR, FIRST_ROUND + number, seconds))
        found["arrays of one"].append(_one_by_one(ARRAYS_OF_ONE, FIRST_ROUND + rounds + number, seconds))
        found["coalesced"].append(uvloop.run(_coalesced(seconds)))
    print(
        f"\nHold + capture pairs: {CALLERS} callers, {coalesced.IN_FLIGHT} in flight when coalesced, durable"
    )
    pgbench.say(found)


def _one_by_one(pair: str, number: int, seconds: float) -> float:
    """Pairs a second of round `number`. Raises RuntimeError unless each of them was captured."""
    path = pgbench.script("pair.sql", pair)
    count, rate = pgbench.run("-f", path, "-D", f"round={number}", "-D", "n=0", seconds=seconds)
    first, behind = (f"{ID}{place * ROUND}" for place in (number, number + 1))
    captured = Hold.objects.filter(id__range=(first, behind), status=Hold.Status.CAPTURED).count()
    connection.close()
    if captured != count:
        raise RuntimeError(f"Of {count} pairs {captured} were captured.")
    return rate


async def _coalesced(seconds: float) -> float:
    """Pairs a second through the engine's coalescers."""
    address = conninfo()
    holds = Coalescer(address, "ledger_hold", step_key="id", row_key="hold_id")
    settles = Coalescer(address, "ledger_settle", step_key="hold_id", row_key="settled_hold_id")

    async def pair(customer: UUID) -> None:
        hold_id = uuid7()
        row = await holds.submit(
            ledger.hold_step(hold_id=hold_id, customer_id=customer, amount=1000, ttl_seconds=900, soft=False)
        )
        if row["outcome"] != "held":
            raise RuntimeError(f"A hold was refused: {row['outcome']}")
        row = await settles.submit(
            ledger.settle_step(
                hold_id=hold_id, customer_id=customer, amount=700, usage=[], source_type="bench"
            )
        )
        if row["outcome"] != "done":
            raise RuntimeError(f"A capture was refused: {row['outcome']}")

    found = await coalesced.rate(pair, seconds)
    await holds.close()
    await settles.close()
    return found
