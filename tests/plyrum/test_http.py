"""What one turn of the server's loop writes leaves in one piece, and nothing is kept back for longer."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest_asyncio
import uvloop

from plyrum.http import InOnePiece


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[tuple[InOnePiece, socket.socket]]:
    """A transport, and its other end, which reads one packet at a time."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.settimeout(5)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    yield InOnePiece(transport, loop), theirs
    transport.close()
    theirs.close()


async def test_head_and_body_arrive_together(wire: tuple[InOnePiece, socket.socket]) -> None:
    transport, reader = wire

    transport.write(b"head ")
    transport.write(b"body")
    arrived = reader.recv(100)  # before the loop can run

    assert arrived == b"head body"


async def test_what_is_written_alone_leaves_when_the_turn_is_over(
    wire: tuple[InOnePiece, socket.socket],
) -> None:
    transport, reader = wire

    for part in (b"one", b"two", b"three"):
        transport.write(part)
        await asyncio.sleep(0)
        assert reader.recv(100) == part


async def test_nothing_is_lost_by_closing(wire: tuple[InOnePiece, socket.socket]) -> None:
    transport, reader = wire

    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0.01)

    assert transport.is_closing()
    assert reader.recv(100) == b"last"
    assert reader.recv(100) == b""


def test_reader_who_has_left_disturbs_nobody() -> None:
    faults = []

    async def work() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, facts: faults.append(facts))
        made, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport = InOnePiece(made, loop)
        made.abort()
        transport.write(b"too late")
        await asyncio.sleep(0.01)
        transport.write(b"much too late")
        await asyncio.sleep(0.01)
        theirs.close()

    uvloop.run(work())

    assert faults == []


def test_order_is_kept_on_the_loop_of_production() -> None:
    async def work() -> bytes:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        loop = asyncio.get_running_loop()
        made, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport = InOnePiece(made, loop)
        for number in range(1000):
            transport.write(b"%d " % number)
            if number % 3 == 0:
                await asyncio.sleep(0)
        transport.close()
        read = await loop.run_in_executor(None, _all_of, theirs)
        theirs.close()
        return read

    assert uvloop.run(work()) == b"".join(b"%d " % number for number in range(1000))


def _all_of(reader: socket.socket) -> bytes:
    parts = []
    while part := reader.recv(10_000):
        parts.append(part)
    return b"".join(parts)
