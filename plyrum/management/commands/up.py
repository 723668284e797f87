"""`up`: everything at once for a developer, under one supervisor. What `make run` does after installing.

Starts database, Redis and sandbox, migrates, loads catalogue and demo people, then web, worker and beat;
shows their logs by colour; Ctrl-C stops all of it. If one part dies, the others are stopped too.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, Any

import httpx
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

READY_SECONDS = 60
STOP_SECONDS = 45  # longer than the web server's grace and the engine's together
PR_SET_PDEATHSIG = 1
COLOURS = {"web": 36, "worker": 35, "beat": 33, "sandbox": 32, "plyrum": 1}


@dataclass(frozen=True)
class Part:
    name: str
    command: list[str]


class Command(BaseCommand):
    help = "Start everything: database, Redis, sandbox, web, worker, beat."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise CommandError("`up` is for development; a deployment starts the parts one by one.")
        self._require_free_ports()
        call_command("compile_translations", verbosity=0)
        call_command("migrate", verbosity=0, interactive=False)
        call_command("load_catalogue", verbosity=0)
        import_string(settings.DEV_SUPERACCOUNT)()
        people = import_string(settings.DEMO_SEEDER)()
        supervisor = Supervisor(self.stdout)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stop.set())
        try:
            supervisor.start(_parts())
            self._wait_until_ready(supervisor, stop)
            if not stop.is_set():
                self._say_hello(people)
            supervisor.watch(stop)
        finally:
            supervisor.stop()
        if supervisor.casualty:
            raise CommandError(f"{supervisor.casualty} has ended by itself; see its lines above.")

    def _require_free_ports(self) -> None:
        sandbox = settings.PORT + 100
        for port, what in (
            (settings.PORT, "the site"),
            (sandbox, "the sandbox"),
            (settings.PLYRUM_SANDBOX_SMTP_PORT, "its mail"),
        ):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise CommandError(
                        f"Port {port} ({what}) is in use or not allowed. Choose another: PORT=9000 make run"
                    ) from error

    def _wait_until_ready(self, supervisor: "Supervisor", stop: threading.Event) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not stop.is_set() and not supervisor.find_casualty():
            try:
                if httpx.get(f"{settings.SITE_URL}/api/ready", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                raise CommandError("The site did not become ready; see the lines above.")
            time.sleep(0.3)

    def _say_hello(self, people: list[tuple[str, str, str]]) -> None:
        sandbox = settings.PLYRUM_SANDBOX_URL
        lines = [
            "",
            f"  Site         {settings.SITE_URL}",
            f"  Back office  {settings.SITE_URL}/admin/",
            *(f"  {role:<12} {email}  {password}" for role, email, password in people),
            f"  Mailbox      {sandbox}/mailbox",
            f"  YooKassa     {sandbox}/yookassa/payments",
            "  Ctrl-C stops everything.",
            "",
        ]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()  # also into a pipe or a file


def _parts() -> list[Part]:
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "plyrum"]
    return [
        Part(
            "sandbox",
            [
                python, "-m", "sandbox",
                "--port", str(settings.PORT + 100),
                "--smtp-port", str(settings.PLYRUM_SANDBOX_SMTP_PORT),
                "--webhook-url", f"{settings.SITE_URL}/api/payments/webhook/yookassa",
                "--data", str(settings.PLYRUM_DATA_DIR / "sandbox.sqlite3"),
            ],
        ),
        Part("web", [python, "manage.py", "serve", "--port", str(settings.PORT)]),
        Part("worker", [*celery, "worker", "--concurrency=2", "--loglevel=INFO", "--without-gossip"]),
        Part("beat", [*celery, "beat", "--loglevel=WARNING"]),
    ]  # fmt: skip


class Supervisor:
    """Starts parts, shows their lines, stops them all when one ends or when asked."""

    def __init__(self, output: Any) -> None:
        self.output = output
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.casualty = ""
        self._lock = threading.Lock()

    def start(self, parts: list[Part]) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        for part in parts:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                part.command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=settings.BASE_DIR,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops in order
                preexec_fn=_die_with_parent,
            )
            self.processes[part.name] = process
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            threading.Thread(target=self._show, args=(part.name, process.stdout), daemon=True).start()

    def watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.2):
            self.casualty = self.find_casualty()
            if self.casualty:
                return

    def find_casualty(self) -> str:
        return next((name for name, process in self.processes.items() if process.poll() is not None), "")

    def stop(self) -> None:
        """Ask politely in reverse order of start, then end what did not go."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _show(self, name: str, lines: IO[str]) -> None:
        colour = COLOURS[name] if self.output.isatty() else None
        label = f"{name:<8}"
        if colour is not None:
            label = f"\x1b[{colour}m{label}\x1b[0m"
        for line in lines:
            with self._lock:
                self.output.write(f"{label} {line.rstrip()}")
                self.output.flush()


def _die_with_parent() -> None:
    """Linux: a part gets SIGTERM when the supervisor is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
