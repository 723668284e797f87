"""Debits: one call each, by 16 callers over 10 000 wallets and by 100 over one; and many in one call."""

from uuid import UUID

import uvloop
from django.db import connection

from bench import coalesced, pgbench
from billing.models import LedgerEntry
from orchestration.coalescer import Coalescer
from orchestration.engine import conninfo
from plyrum.ids import uuid7

ONE_WALLET_CALLERS = 100
# Ids of debits begin behind those of pairs.
FIRST_ROUND = 2000
ONE_WALLET_ROUND = 3000
# As in `bench/pairs.py`: one command a line, ids that the client made.
DEBIT = (
    "\\set wallet random({first}, {last})\n"
    "\\set n :n + 1\n"
    "\\set entry :round * {round} + :client_id * {share} + :n\n"
    "SELECT (ledger_debit_one(('{id}' || :entry)::uuid, ('{id}' || :wallet)::uuid, 700,"
    " 'admin_adjustment', 'adjustments', 'debit:' || :entry, 'bench', :entry::text)).outcome;\n"
)


def run(*, rounds: int, seconds: float) -> None:
    """Print debits a second against pgbench's simple-update on the same server."""
    found: dict[str, list[float]] = {"simple-update": [], "one by one": [], "coalesced": []}
    for number in range(rounds):
        found["simple-update"].append(pgbench.simple_update(seconds))
        found["one by one"].append(_debits(FIRST_ROUND + number, seconds, wallets=pgbench.WALLETS))
        found["coalesced"].append(uvloop.run(_coalesced(seconds)))
    print(f"\nDebits: {pgbench.CALLERS} callers, {coalesced.IN_FLIGHT} in flight when coalesced, durable")
    pgbench.say(found)


def run_one_wallet(*, rounds: int, seconds: float) -> None:
    """Print debits a second of 100 callers on one wallet; a deadlock, an error or a lost debit stops it."""
    found: dict[str, list[float]] = {"simple-update": [], "one wallet": []}
    for number in range(rounds):
        found["simple-update"].append(pgbench.simple_update(seconds))
        rate = _debits(ONE_WALLET_ROUND + number, seconds, wallets=1, callers=ONE_WALLET_CALLERS)
        found["one wallet"].append(rate)
    print(f"\nOne wallet: {ONE_WALLET_CALLERS} callers, one call each, durable, no error")
    pgbench.say(found)


def _debits(number: int, seconds: float, *, wallets: int, callers: int = pgbench.CALLERS) -> float:
    """Debits a second of round `number`. Raises RuntimeError unless each of them was written."""
    text = DEBIT.format(
        first=pgbench.FIRST_WALLET + 1,
        last=pgbench.FIRST_WALLET + wallets,
        round=pgbench.ROUND,
        share=pgbench.ROUND // 1000,
        id=pgbench.ID,
    )
    path = pgbench.script("debit.sql", text)
    arguments = ("-f", path, "-D", f"round={number}", "-D", "n=0")
    count, rate = pgbench.run(*arguments, seconds=seconds, callers=callers)
    first, behind = (f"{pgbench.ID}{place * pgbench.ROUND}" for place in (number, number + 1))
    written = LedgerEntry.objects.filter(id__range=(first, behind)).count()
    connection.close()
    if written != count:
        raise RuntimeError(f"Of {count} debits {written} were written.")
    return rate


async def _coalesced(seconds: float) -> float:
    """Debits a second through as many connections as pairs have; those of a wallet go over the same one."""
    address = conninfo()
    both = [Coalescer(address, "ledger_debit", step_key="entry_id", row_key="entry_id") for _ in range(2)]

    async def debit(customer: UUID) -> None:
        entry_id = uuid7()
        row = await both[customer.int % 2].submit(
            {
                "entry_id": entry_id,
                "customer_id": customer,
                "amount": 700,
                "type": "admin_adjustment",
                "credit_account": "adjustments",
                "lot_id": None,
                "lot_kind": None,
                "partial": False,
                "key": f"debit:{entry_id}",
                "source_type": "bench",
                "source_id": str(entry_id),
                "effective_at": None,
            }
        )
        if row["outcome"] != "done":
            raise RuntimeError(f"A debit was refused: {row['outcome']}")

    found = await coalesced.rate(debit, seconds)
    for each in both:
        await each.close()
    return found
