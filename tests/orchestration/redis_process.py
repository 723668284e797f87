"""A Redis of a test's own, which it may stop and start again: the shared one belongs to everybody."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from plyrum.embedded import _redis_binary

START_SECONDS = 30


class RedisProcess:
    """`url` stays the same over stops and starts; nothing is kept on disk."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="plyrum-redis-")
        self._socket = Path(self._folder.name) / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}?db=0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(_redis_binary()), "--port", "0", "--unixsocket", str(self._socket),
                "--dir", self._folder.name, "--save", "", "--appendonly", "no",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as redis:
                return bool(redis.ping())
        except (RedisError, OSError):
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self._folder.cleanup()
