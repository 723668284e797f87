"""`make bench`: speed as ratios, measured side by side in one interleaved run, the books audited afterwards.

    python -m bench [--peer litellm] [--rounds 3] [--seconds 2] [--only NAME]

Runs: through Plyrum (hold, ledger debit, usage row, frames) against the same sandbox provider called directly
and, with --peer, through LiteLLM's proxy (no wallet). Pairs, debits, wallet: hold + capture, single debits,
and debits of 100 callers on one wallet, on the embedded server against pgbench's simple-update. Export: a
million rows as a file against a tenth of them.
"""

import argparse
import os
import shutil
import statistics
import sys

import uvloop

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.settings"

import django

django.setup()

from django.conf import settings
from django.core.management import call_command

from bench import debits, exporting, gateway, pairs, pgbench
from bench.load import Round, Target, measure, percentile
from bench.machine import cpu_seconds
from plyrum import embedded

IN_FLIGHT = (1, 16, 64, 256)
MONEY = {"pairs": pairs.run, "debits": debits.run, "wallet": debits.run_one_wallet}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--peer", choices=["litellm"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", choices=["pairs", "debits", "wallet", "export", "runs"])
    options = parser.parse_args()
    for name in ("postgres", "redis"):  # every benchmark starts with an empty ledger
        shutil.rmtree(settings.PLYRUM_DATA_DIR / name, ignore_errors=True)
    embedded.start_if_needed()
    call_command("migrate", verbosity=0)
    call_command("load_catalogue", verbosity=0)
    print(f"Two-sided figures are medians of {options.rounds} interleaved rounds (min..max).")
    if options.only in (None, *MONEY):
        pgbench.prepare()
    for name, measured in MONEY.items():
        if options.only in (None, name):
            measured(rounds=options.rounds, seconds=options.seconds)
    if options.only in (None, "export"):
        exporting.run()
    if options.only in (None, "runs"):
        with gateway.Gateways(peer=options.peer) as gateways:
            for kind in ("plain", "stream"):
                uvloop.run(_runs(gateways.targets(kind), kind, options.rounds, options.seconds))
    return _audit()


async def _runs(targets: list[Target], kind: str, rounds: int, seconds: float) -> None:
    title = "one whole answer" if kind == "plain" else "a stream of 20 chunks"
    print(f"\nRuns: {title}")
    print(f"{'in flight':>9} {'through':<8} {'rps':>22} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms':>7}  against")
    for target in targets:  # warm: plans, caches, connections
        await measure(target, in_flight=8, seconds=1)
    for in_flight in IN_FLIGHT:
        found: dict[str, list[tuple[Round, float]]] = {target.name: [] for target in targets}
        for _ in range(rounds):
            for target in targets:
                before = cpu_seconds(target.processes)
                measured = await measure(target, in_flight=in_flight, seconds=seconds)
                used = cpu_seconds(target.processes) - before
                found[target.name].append((measured, used / max(1, measured.requests) * 1000))
        _print(in_flight, found)


def _print(in_flight: int, found: dict[str, list[tuple[Round, float]]]) -> None:
    medians = {}
    for name, rows in found.items():
        rps = [row.rps for row, _ in rows]
        p50 = statistics.median(percentile(row.latencies, 0.5) for row, _ in rows)
        p99 = statistics.median(percentile(row.latencies, 0.99) for row, _ in rows)
        cpu = statistics.median(used for _, used in rows)
        medians[name] = (statistics.median(rps), p50, p99, cpu)
        spread = f"{statistics.median(rps):8.0f} ({min(rps):.0f}..{max(rps):.0f})"
        direct = medians["direct"]
        added = (
            "" if name == "direct" else f"added p50 {p50 - direct[1]:.2f} ms, p99 {p99 - direct[2]:.2f} ms"
        )
        print(f"{in_flight:>9} {name:<8} {spread:>22} {p50:8.2f} {p99:8.2f} {cpu:7.2f}  {added}")
    if "litellm" in medians:
        ours, peer, direct = medians["plyrum"], medians["litellm"], medians["direct"]
        print(
            f"{'':>9} plyrum / litellm: throughput x{ours[0] / peer[0]:.1f}, "
            f"added p50 x{(ours[1] - direct[1]) / (peer[1] - direct[1]):.2f}, CPU x{ours[3] / peer[3]:.3f}"
        )


def _audit() -> int:
    """The books of everything the benchmark did. A fast wrong ledger is worth nothing."""
    try:
        call_command("verify_ledger")
    except SystemExit as error:
        print("The books are wrong.")
        return int(error.code or 1)
    print("\nThe books are right.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
