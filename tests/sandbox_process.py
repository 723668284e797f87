"""The sandbox as a real process for tests: started on free ports, stopped by signal.

Used by the fixtures of every test that needs an outside world. It never imports the sandbox's code.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests import web

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 30
PATIENCE_SECONDS = 30
SHOP = ("900001", "test_sandbox_secret")
PROVIDER_KEY = "sk-sandbox-1"


class SandboxProcess:
    """One running sandbox; `url`, `smtp_host` and `smtp_port` are known after start()."""

    smtp_host = "127.0.0.1"

    def __init__(
        self,
        *,
        webhook_url: str | None = None,
        data_path: Path | None = None,
        port: int = 0,
        smtp_port: int = 0,
    ) -> None:
        self.url = ""
        self.smtp_port = smtp_port
        self._arguments = ["--port", str(port), "--smtp-port", str(smtp_port)]
        if webhook_url is not None:
            self._arguments += ["--webhook-url", webhook_url]
        if data_path is not None:
            self._arguments += ["--data", str(data_path)]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.NamedTemporaryFile(prefix="sandbox-", suffix=".log", delete=False)  # noqa: SIM115

    def start(self) -> Self:
        """Start and wait until it answers. Raises RuntimeError with its output when it does not."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", *self._arguments],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ready = [line for line in self.output().splitlines() if line.startswith("sandbox.ready ")]
            if ready:
                facts = dict(pair.split("=", 1) for pair in ready[0].split()[1:])
                self.url = facts["url"]
                self.smtp_port = int(facts["smtp"].rpartition(":")[2])
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"The sandbox did not start:\n{self.output()}")

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Ask it to end and answer its exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal_number)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._log.close()
        self._process = None
        return status

    def output(self) -> str:
        """Answer everything it has printed."""
        return Path(self._log.name).read_text()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        Path(self._log.name).unlink(missing_ok=True)

    def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the control API: POST with a body, GET without. Raises httpx.HTTPStatusError."""
        url = f"{self.url}/control/{path}"
        timeout = PATIENCE_SECONDS
        answer = web.get(url, timeout=timeout) if body is None else web.post(url, json=body, timeout=timeout)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def letters(self, to: str) -> list[dict[str, Any]]:
        """List the letters to an address, newest first."""
        answer = web.get(f"{self.url}/mailbox/api/messages", params={"to": to}, timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items
