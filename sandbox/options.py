"""Reads the command line and the environment of the sandbox into one frozen value.

Called by `server.main` only. It refuses what must never happen: production, or an address that is not of this
machine. It opens nothing.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PORT = 8100
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class RefusedError(Exception):
    """The sandbox must not start this way; the text is for the person at the shell."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one sandbox process was asked for. Port 0 means "any free port"."""

    port: int
    smtp_port: int
    webhook_url: str | None
    data_path: Path | None


def read(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line. Raises RefusedError in production and for an outside webhook address."""
    environment = os.environ.get("PLYRUM_ENV", "development")
    if environment == "production":
        raise RefusedError("The sandbox refuses to start with PLYRUM_ENV=production.")
    parsed = _parser().parse_args(arguments)
    if parsed.webhook_url is not None:
        _require_loopback(parsed.webhook_url)
    smtp_port = parsed.smtp_port
    if smtp_port is None:
        smtp_port = parsed.port + 1 if parsed.port else 0
    return Options(
        port=parsed.port,
        smtp_port=smtp_port,
        webhook_url=parsed.webhook_url,
        data_path=parsed.data,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="Local YooKassa, model provider, central bank and mailbox for tests, on 127.0.0.1.",
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="HTTP port (default %(default)s, 0: any)"
    )
    parser.add_argument("--smtp-port", type=_port, help="SMTP port (default: HTTP port + 1)")
    parser.add_argument("--webhook-url", help="where YooKassa notifications go (default: nowhere)")
    parser.add_argument("--data", type=Path, help="SQLite file that keeps the state (default: memory)")
    return parser


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"{value} is not a port: 0..65535")
    return value


def _require_loopback(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname not in LOOPBACK_HOSTS:
        raise RefusedError(f"--webhook-url must be an http address of this machine, not {url!r}.")
