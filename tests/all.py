"""Everything CI runs, by one command: `make test` (`make lint` for the cheap checks only).

Steps go in order of cost; each prints its name and seconds, and what it said when it failed. All of them run;
the exit code is the first failure's. pytest comes last, so that its own summary is the last line.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests import browsers

ROOT = Path(__file__).resolve().parent.parent
TOO_LONG_SECONDS = 300  # of one test: its threads are shown then, so that a hang in CI can be understood
SIDE_BY_SIDE = 2  # processes with servers of their own: much of a test is waiting for the disk


@dataclass(frozen=True)
class Step:
    """`command` is run with `environment` added to our own."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lint", action="store_true", help="only what needs no server and no browser")
    lint_only = parser.parse_args().lint
    with tempfile.TemporaryDirectory(prefix="plyrum-check-") as folder:
        failures = _failures(_cheap_steps(folder) + ([] if lint_only else _server_steps()))
    if lint_only:
        return next(iter(failures.values()), 0)
    if not _timed("browser", _browser_is_there):
        failures["browser"] = 1
    if failures:
        _say(f"failed: {', '.join(failures)}; the tests run all the same")
    code = _tests()
    return next(iter(failures.values()), code)


def _cheap_steps(folder: str) -> list[Step]:
    python = sys.executable
    return [
        Step("format", ["ruff", "format", "--check", "--quiet", "."]),
        Step("lint", ["ruff", "check", "--quiet", "."]),
        Step("import contracts", ["lint-imports"]),
        Step("translations", [python, "-m", "tests.translations", "--check"]),
        Step("their compilation", [python, "manage.py", "compile_translations"], _production(folder)),
        Step(
            "launch checks",
            [python, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
            _production(folder),
        ),
        Step("types", ["mypy"]),
    ]


def _server_steps() -> list[Step]:
    """Without a role: the check comes before the first migration of a fresh machine makes one."""
    command = [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"]
    as_owner = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PLYRUM_DATABASE_ROLE": ""}
    return [Step("migrations", command, as_owner)]


def _production(folder: str) -> dict[str, str]:
    """What a deployment sets, with made-up values: `check --deploy` must have nothing to say about it.

    The addresses are never called: `check` without `--database` reads settings only.
    """
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "DJANGO_SETTINGS_MODULE": "plyrum.settings",
        "PLYRUM_ENV": "production",
        "PLYRUM_DATA_DIR": folder,
        "PLYRUM_SITE_URL": "https://plyrum.example",
        "PLYRUM_ALLOWED_HOSTS": "plyrum.example",
        "PLYRUM_SECRET_KEY": os.urandom(48).hex(),
        "JWT_PRIVATE_KEY": key.decode("ascii"),
        "PLYRUM_API_KEY_PEPPERS": f"1:{os.urandom(32).hex()}",
        "DATABASE_URL": "postgresql://plyrum@127.0.0.1:5432/plyrum",
        "REDIS_URL": "redis://127.0.0.1:6379/0",
        "EMAIL_URL": "smtp+tls://robot:made-up@127.0.0.1:587",
        "PAYMENTS_PROVIDER": "yookassa",
        "PAYMENTS_LIVE": "1",
        "YOOKASSA_SHOP_ID": "100500",
        "YOOKASSA_SECRET_KEY": "live_made_up",
        "PLYRUM_SELLER_LEGAL_NAME": "ООО «Пример»",
        "PLYRUM_SELLER_TAX_ID": "7700000009",
        "PLYRUM_SELLER_KPP": "770001001",
        "PLYRUM_SELLER_BANK_NAME": "АО «Пример банка»",
        "PLYRUM_SELLER_BIC": "049999999",
        "PLYRUM_SELLER_ACCOUNT": "40702810600000000001",
        "PLYRUM_SELLER_CORRESPONDENT_ACCOUNT": "30101810300000000999",
        "PLYRUM_SELLER_SIGNATORY": "Примеров П. П.",
        "PLYRUM_SELLER_REGISTERED_ADDRESS": "Москва",
        "PLYRUM_SUPPORT_EMAIL": "help@plyrum.example",
        "PLYRUM_REFUND_SUPPORT_EMAIL": "refunds@plyrum.example",
        "PLYRUM_PRIVACY_CONTACT_EMAIL": "privacy@plyrum.example",
    }


def _failures(steps: list[Step]) -> dict[str, int]:
    """Run `steps`; name and exit code of those that failed, in order."""
    failures = {}
    for step in steps:
        began = time.monotonic()
        done = subprocess.run(
            step.command, cwd=ROOT, env={**os.environ, **step.environment}, capture_output=True, text=True
        )
        _report(step.name, done.returncode == 0, time.monotonic() - began)
        if done.returncode:
            _say((done.stdout + done.stderr).rstrip())
            failures[step.name] = done.returncode
    return failures


def _browser_is_there() -> bool:
    path = browsers.find() or browsers.install()
    if path is None:
        _say(browsers.MISSING)
        return False
    os.environ["PLYRUM_CHROMIUM"] = path
    return True


def _tests() -> int:
    _say("tests")
    options = ["-o", f"faulthandler_timeout={TOO_LONG_SECONDS}", "--durations=15", "--cov"]
    if not (os.environ.get("DATABASE_URL") or os.environ.get("REDIS_URL")):  # which they would have to share
        # In the order of tests/conftest.py, not by how many tests a file has.
        options += ["-n", str(SIDE_BY_SIDE), "--dist", "loadfile", "--no-loadscope-reorder"]
    return subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT).returncode


def _timed(name: str, work: Callable[[], bool]) -> bool:
    began = time.monotonic()
    good = work()
    _report(name, good, time.monotonic() - began)
    return good


def _report(name: str, good: bool, seconds: float) -> None:
    _say(f"{'ok    ' if good else 'FAILED'} {name:<18} {seconds:6.1f} s")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
