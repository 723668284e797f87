"""As many callers in flight as fill two connections of the engine's: a batch under way, one ready."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from bench.pgbench import WALLETS, wallet

IN_FLIGHT = 512
CUSTOMERS = [wallet(number) for number in range(1, WALLETS + 1)]


async def rate(work: Callable[[UUID], Awaitable[None]], seconds: float) -> float:
    """How many times a second `work` is done with a customer."""
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
