"""Starts the process: binds both ports, runs HTTP and SMTP on one event loop, ends cleanly on SIGINT and
SIGTERM.

Called by `python -m sandbox`. Ports are taken before anything else, so that a taken one is a clear message.
"""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

import uvicorn
import uvloop

from sandbox import app, logs, options
from sandbox.app import Sandbox
from sandbox.mail.smtp import LetterServer
from sandbox.options import Options, RefusedError

HOST = "127.0.0.1"
BACKLOG = 2048
SHUTDOWN_SECONDS = 2
KEEP_ALIVE_SECONDS = 75
EXIT_REFUSED = 2


class Server(uvicorn.Server):
    """Uvicorn without its signal handling, which would raise the signal again after a clean end."""

    def __init__(self, config: uvicorn.Config, *, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logs.event(f"sandbox.ready {self._ready}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; answer the exit status: 0 after a clean end, 2 when it could not start."""
    try:
        chosen = options.read(arguments)
        web = _bind(chosen.port, "--port")
        mail = _bind(chosen.smtp_port, "--smtp-port")
    except RefusedError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return EXIT_REFUSED
    logs.configure()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(chosen, web, mail))
    return 0


async def _serve(chosen: Options, web: socket.socket, mail: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    base_url = f"http://{HOST}:{web.getsockname()[1]}"
    sandbox = app.build(chosen, base_url=base_url)
    server = Server(_config(sandbox), ready=f"url={base_url} smtp={HOST}:{mail.getsockname()[1]}")
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, _stop, server, sandbox)
    letters = await loop.create_server(lambda: LetterServer(sandbox.mailbox), sock=mail)
    await server.serve(sockets=[web])
    letters.close()
    logs.event("sandbox.stopped")


def _config(sandbox: Sandbox) -> uvicorn.Config:
    return uvicorn.Config(
        sandbox.app,
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )


def _stop(server: Server, sandbox: Sandbox) -> None:
    """Begin to end: answers that wait are woken, then the server closes what is open."""
    sandbox.clock.stop()
    server.should_exit = True


def _bind(port: int, flag: str) -> socket.socket:
    """Take a port of this machine only. Raises RefusedError with what to do when it is taken."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise RefusedError(
                f"Port {port} of {HOST} cannot be used ({error.strerror}). Choose another with {flag}."
            ) from error
        raise
    taken.setblocking(False)
    return taken
