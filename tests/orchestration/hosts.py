"""Hosts of the OpenAI format with manners the sandbox does not play: raw bytes over a real socket.

For what must be exact to the byte: packets, shapes of chunks, headers of refusals.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PACKET_PAUSE_SECONDS = 0.02  # long enough for packets to arrive apart


@dataclass
class Host:
    """Answers every request with `packets` and keeps what it was asked."""

    packets: Sequence[bytes]
    keeps_open: bool = False
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            self.requests.append(head + await reader.readexactly(length))
            for packet in self.packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(PACKET_PAUSE_SECONDS)
            if self.keeps_open:
                await reader.read()
        finally:
            self.left.set()
            writer.close()


@asynccontextmanager
async def host(*packets: bytes, keeps_open: bool = False) -> AsyncIterator[Host]:
    """A host on a free port, for one test."""
    served = Host(packets, keeps_open)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        await server.wait_closed()


def head(status: int = 200, *headers: str) -> bytes:
    """A status line and headers; the body ends when the connection does."""
    lines = [f"HTTP/1.1 {status} Said", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
