"""What is compared: the provider called directly, through Plyrum, and through a peer in a venv of its own."""

import itertools
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import orjson
from django.conf import settings
from django.db import connection, transaction

from accounts import sessions, signup
from accounts.models import User
from accounts.shapes import Origin
from bench.load import Target
from bench.machine import Process, python
from billing import ledger
from billing.limit_models import RequestRate
from plyrum import clock
from plyrum.ids import uuid7

MODEL = "bench-20"
QUESTION = "Какая погода бывает в Москве в ноябре?"
CUSTOMERS = 256
FAST = 10_000_000  # requests a minute: the limiter works, and lets everything pass
PURSE_MICRO_RUB = 10**12
PEER_WORKERS = 2  # one a core, where it is fastest; ours runs as `make run` starts it, in one process


class Gateways:
    """Starts sandbox, Plyrum and the peer; `targets` are what the load generator speaks to."""

    def __init__(self, *, peer: str | None) -> None:
        self.folder = Path(settings.PLYRUM_DATA_DIR)
        self.peer = peer
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:  # a start that fails leaves nothing behind
            undo.callback(self._stop)
            self._start_all(settings.PORT)
            undo.pop_all()
        return self

    def _start_all(self, port: int) -> None:
        self.sandbox = self._start(
            "sandbox",
            python("-m", "sandbox", "--port", str(port + 100)),
            f"http://127.0.0.1:{port + 100}/",
            {},
        )
        self.site = self._start(
            "plyrum",
            python("manage.py", "serve", "--port", str(port)),
            f"http://127.0.0.1:{port}/api/health",
            {"DJANGO_SETTINGS_MODULE": "bench.settings"},
        )
        self.tokens = _customers()
        if self.peer:
            self.peer_process = self._start_peer()

    def targets(self, kind: str) -> list[Target]:
        """Direct, ours and the peer's, for one whole answer ("plain") or a stream of 20 chunks."""
        stream = kind == "stream"
        openai = _openai_body(MODEL, stream)
        sandbox = f"http://127.0.0.1:{settings.PORT + 100}/openai/v1/chat/completions"
        found = [
            Target(
                "direct", sandbox, lambda _: {"Authorization": "Bearer sk-sandbox-1"}, lambda _: openai,
                b"[DONE]" if stream else b'"usage"', (self.sandbox.pid,),
            ),
            Target(
                "plyrum", f"http://127.0.0.1:{settings.PORT}/api/stream/run",
                lambda worker: {"Authorization": f"Bearer {self.tokens[worker % CUSTOMERS]}"},
                lambda _: _our_body(stream), b"run.finished" if stream else b'"ledger_entry_id"',
                (self.site.pid, *_servers()),
            ),
        ]  # fmt: skip
        if self.peer:
            found.append(
                Target(
                    "litellm", f"http://127.0.0.1:{settings.PORT + 50}/v1/chat/completions",
                    lambda _: {"Authorization": "Bearer sk-bench"}, lambda _: openai,
                    b"[DONE]" if stream else b'"usage"', (self.peer_process.pid,),
                )
            )  # fmt: skip
        return found

    def _start_peer(self) -> Process:
        venv = self.folder / "litellm"
        if not (venv / "bin" / "litellm").exists():
            print("Installing LiteLLM's proxy into a venv of its own ...")
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            subprocess.run([str(venv / "bin" / "pip"), "install", "-q", "litellm[proxy]"], check=True)
        config = self.folder / "litellm.yaml"
        base = f"http://127.0.0.1:{settings.PORT + 100}/openai/v1"
        config.write_text(
            json.dumps(
                {
                    "model_list": [
                        {
                            "model_name": MODEL,
                            "litellm_params": {
                                "model": f"openai/{MODEL}",
                                "api_base": base,
                                "api_key": "sk-sandbox-1",
                            },
                        }
                    ],
                    "general_settings": {"master_key": "sk-bench"},
                }
            )
        )
        port = settings.PORT + 50
        return self._start(
            "litellm",
            [str(venv / "bin" / "litellm"), "--config", str(config), "--port", str(port),
             "--host", "127.0.0.1",
             "--num_workers", str(PEER_WORKERS)],
            f"http://127.0.0.1:{port}/health/liveliness",
            {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"},
        )  # fmt: skip

    def _start(self, name: str, command: list[str], ready: str, environment: dict[str, str]) -> Process:
        process = Process(*command, environment=environment, log=self.folder / f"{name}.log", ready=ready)
        self.processes.append(process)
        return process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()


def _openai_body(model: str, stream: bool) -> bytes:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body)


def _our_body(stream: bool) -> bytes:
    return orjson.dumps(
        {"idempotency_key": str(uuid4()), "prompt": QUESTION, "model": "bench/20", "stream": stream}
    )


def _customers() -> list[str]:
    """Tokens of customers with money enough for any benchmark."""
    RequestRate.objects.update(per_minute=FAST, per_hour=FAST * 60)
    now = clock.now()
    origin = Origin(ip="127.0.0.1", request_id="bench", user_agent="bench", surface="api")
    tokens = []
    for number in itertools.islice(itertools.count(), CUSTOMERS):
        with transaction.atomic():
            user = User(email=f"bench-{uuid7().hex}-{number}@example.test", email_verified=True, password="!")
            user.save(force_insert=True)
            signup.welcome(user, origin=origin, now=now)
            ledger.bonus(
                entry_id=uuid7(), customer_id=user.id, amount_micro_rub=PURSE_MICRO_RUB,
                key=f"bench:{user.id}", expires_at=None,
            )  # fmt: skip
            tokens.append(sessions.open_family(user, origin=origin, now=now).access_token)
    return tokens


def _servers() -> tuple[int, ...]:
    """PostgreSQL and Redis of the benchmark: their CPU is part of what an accounted run costs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_read_file('postmaster.pid')")
        postgres = int(cursor.fetchone()[0].splitlines()[0])
    redis = int((Path(settings.PLYRUM_DATA_DIR) / "redis" / "redis.pid").read_text())
    return postgres, redis
