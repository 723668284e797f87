"""As many callers in flight as fill two connections of the engine's: a batch under way, one ready.

Their process treats its memory as a web process of the engine does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from bench.pgbench import WALLETS, wallet
from orchestration.engine import spare_the_collector

IN_FLIGHT = 512
CUSTOMERS = [wallet(number) for number in range(1, WALLETS + 1)]


async def rate(work: Callable[[UUID], Awaitable[None]], seconds: float) -> float:
    """How many times a second `work` is done with a customer."""
    spare_the_collector()
    deadline = time.perf_counter() + seconds * 2
    counts = [0] * IN_FLIGHT

    async def caller(number: int) -> None:
        place = number
        while time.perf_counter() < deadline:
            place = (place + IN_FLIGHT) % WALLETS
            await work(CUSTOMERS[place])
            counts[number] += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    return sum(counts) / (time.perf_counter() - began)
