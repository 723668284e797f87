"""The processes of a benchmark: an own data folder, sandbox, server, and the CPU they use."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: tuple[int, ...]) -> float:
    """User and system time of the processes and all their descendants, alive now."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(entry.name)
            children.setdefault(int(fields[1]), []).append(pid)
            used[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    total, waiting = 0.0, list(pids)
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += children.get(pid, [])
    return total


class Process:
    """A process in a group of its own; stopped with everything it started."""

    def __init__(self, *command: str, environment: dict[str, str], log: Path, ready: str) -> None:
        self.log = log
        if _answers(ready):
            raise RuntimeError(f"Something else answers at {ready}: it would be measured instead.")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                # An emptied name is no name: LiteLLM refuses an empty DATABASE_URL.
                env={name: value for name, value in {**os.environ, **environment}.items() if value},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + 120
        while not _answers(ready):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGTERM)
            try:
                self._process.wait(25)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - loopback only
            return bool(answer.status == 200)
    except OSError:
        return False
