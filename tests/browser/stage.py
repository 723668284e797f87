"""The whole product on a stage: sandbox, site, worker and beat as processes, wired as `up` wires them.

Called by the browser fixtures. Its Redis is its own, so that no task of another test is done here.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
from django.conf import settings

from plyrum.embedded import Servers
from tests import web
from tests.sandbox_process import SandboxProcess
from tests.server_process import ReservedPort, ServerProcess

READY_SECONDS = 180


class Stage:
    """`url` is the site's address, `sandbox.url` the outside's; both are all that a page may speak to."""

    def __init__(self) -> None:
        self._port = ReservedPort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        self.sandbox = SandboxProcess(webhook_url=f"{self.url}/api/payments/webhook/yookassa")
        self._open = ExitStack()
        self.log = Path(tempfile.mkdtemp(prefix="plyrum-stage-logs-")) / "celery.log"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self._open)
            self._set_up()
            undo.pop_all()
        return self

    def _set_up(self) -> None:
        self._open.callback(self._port.release)
        self._open.enter_context(self.sandbox)
        redis = Servers(Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="plyrum-stage-"))))
        redis.ensure(postgres=False)
        self._open.callback(shutil.rmtree, redis.run_dir, ignore_errors=True)
        self._open.callback(redis.release)
        server = ServerProcess(
            sandbox_url=self.sandbox.url,
            smtp_port=self.sandbox.smtp_port,
            REDIS_URL=redis.redis_url,
            PLYRUM_SITE_URL=self.url,
            PORT=str(self._port.number),
        )
        server.port, server.url = self._port.number, self.url
        celery = [sys.executable, "-m", "celery", "-A", "plyrum"]
        schedule = self.log.with_suffix(".beat")
        self._start(
            [*celery, "worker", "--pool=solo", "--loglevel=INFO", "--without-gossip"], server.environment
        )
        self._start([*celery, "beat", "--loglevel=INFO", f"--schedule={schedule}"], server.environment)
        self._open.enter_context(server)
        self._wait_until_ready()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def code_for(self, email: str) -> str:
        """The code of the newest letter to an address, as its reader finds it in the mailbox."""
        deadline = time.monotonic() + 60
        while True:
            codes = [letter["code"] for letter in self.sandbox.letters(email) if letter.get("code")]
            if codes:
                return str(codes[0])
            assert time.monotonic() < deadline, "no letter with a code has come"
            time.sleep(0.1)

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=settings.BASE_DIR, env=environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._open.callback(_stop, process)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"The stage is not ready:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return web.get(f"{self.url}/api/ready").status_code == 200
        except httpx.HTTPError:
            return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
