"""A small load generator: keep-alive HTTP/1.1 connections, each asking again as soon as it was answered."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Target:
    """Where requests go; `body(worker)` makes the next body, `headers(worker)` that worker's own headers."""

    name: str
    url: str
    headers: Callable[[int], dict[str, str]]
    body: Callable[[int], bytes]
    good: bytes  # a mark that every good answer contains
    processes: tuple[int, ...] = ()  # whose CPU is counted


@dataclass(frozen=True)
class Round:
    requests: int
    seconds: float
    latencies: list[float]

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


async def measure(target: Target, *, in_flight: int, seconds: float) -> Round:
    """Run `in_flight` connections for `seconds`. Raises RuntimeError for the first bad answer."""
    latencies: list[float] = []
    deadline = time.perf_counter() + seconds
    began = time.perf_counter()
    await asyncio.gather(*(_worker(target, number, deadline, latencies) for number in range(in_flight)))
    return Round(len(latencies), time.perf_counter() - began, sorted(latencies))


async def _worker(target: Target, number: int, deadline: float, latencies: list[float]) -> None:
    parts = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in target.headers(number).items()]
    head = "\r\n".join(lines).encode() + b"\r\nContent-Length: "
    try:
        while (began := time.perf_counter()) < deadline:
            body = target.body(number)
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = await _answer(reader)
            if target.good not in answer:
                raise RuntimeError(f"{target.name} answered badly: {answer[:600]!r}")
            latencies.append(time.perf_counter() - began)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    place = lowered.find(b"content-length:")
    if place >= 0:
        length = int(lowered[place + 15 : lowered.index(b"\r\n", place)])
        return head + await reader.readexactly(length)
    return head + await reader.readuntil(b"\r\n0\r\n\r\n")


def percentile(latencies: list[float], share: float) -> float:
    """In milliseconds."""
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000
