"""The real ASGI server as a process of its own, on the test database: for all that needs an engine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from django.conf import settings
from django.db import connection

from tests import web

START_SECONDS = 90


class ReservedPort:
    """A port of ours until `release`: the system gives it to nobody else, but a server may listen on it.

    A port that was merely free a moment ago may be taken by any connection that somebody opens meanwhile.
    Raises OSError when `number` is not free.
    """

    def __init__(self, number: int = 0) -> None:
        self._socket = socket.socket()
        try:
            self._socket.bind(("127.0.0.1", number))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # now that nobody else has it
        except OSError:
            self._socket.close()
            raise
        self.number = int(self._socket.getsockname()[1])

    def release(self) -> None:
        self._socket.close()


def database_url() -> str:
    """The address of the database the tests run on."""
    facts = connection.settings_dict
    host = quote(facts["HOST"], safe="")
    return f"postgresql://{facts['USER']}:{facts['PASSWORD']}@{host}:{facts['PORT'] or 5432}/{facts['NAME']}"


class ServerProcess:
    """`manage.py serve` on a free port. `environment` adds to what the tests' own process has."""

    def __init__(
        self, *, sandbox_url: str, smtp_port: int = 25, workers: int = 1, **environment: str
    ) -> None:
        self._reservation = ReservedPort()
        self.port = self._reservation.number
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        self.log = Path(tempfile.mkstemp(prefix="plyrum-serve-", suffix=".log")[1])
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "PLYRUM_SANDBOX_URL": sandbox_url,
            "PLYRUM_SITE_URL": settings.SITE_URL,
            "EMAIL_URL": f"smtp://127.0.0.1:{smtp_port}",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "manage.py",
                    "serve",
                    "--port",
                    str(self.port),
                    "--workers",
                    str(self.workers),
                ],
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if web.get(f"{self.url}/api/health").status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"The server did not start:\n{self.output()[-4000:]}")
            time.sleep(0.05)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """The server and everything it started stand still meanwhile, and go on afterwards."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server and everything it started."""
        self._reservation.release()
        if self.process is None or self.process.poll() is not None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
