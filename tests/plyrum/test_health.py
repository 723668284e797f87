"""Health names the part that fails; readiness also wants migrations, a catalogue and a worker."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings
from structlog.testing import capture_logs

from plyrum import tasks
from plyrum.health import WORKER_HEARTBEAT_KEY

NO_REDIS = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "unix:///nowhere/redis.sock?db=0",
    }
}


def asked(client: Client, path: str) -> tuple[int, str, dict[str, str]]:
    answer = client.get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return answer.status_code, body["status"], body["parts"]


def test_healthy_process(client: Client) -> None:
    assert asked(client, "/api/health") == (200, "ok", {"database": "ok", "redis": "ok"})


def test_ready_service(client: Client) -> None:
    tasks.heartbeat()

    status, words, parts = asked(client, "/api/ready")

    assert (status, words) == (200, "ok")
    assert parts == dict.fromkeys(("database", "redis", "migrations", "catalogue", "worker"), "ok")


def test_silent_worker_is_named(client: Client) -> None:
    cache.delete(WORKER_HEARTBEAT_KEY)

    status, words, parts = asked(client, "/api/ready")

    assert (status, words) == (503, "failing")
    assert [name for name, state in parts.items() if state == "failing"] == ["worker"]


def test_failing_probe_is_one_line_that_names_the_part(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    cache.delete(WORKER_HEARTBEAT_KEY)

    with capture_logs() as said:
        client.get("/api/ready")
        client.get("/api/nothing")

    assert said == [{"event": "probe_failed", "log_level": "warning", "parts": ["worker"]}]
    assert [record.args for record in caplog.records if record.name == "django.request"] == [
        ("Not Found", "/api/nothing")
    ]


@pytest.mark.parametrize(
    ("path", "failing"), [("/api/health", ["redis"]), ("/api/ready", ["redis", "worker"])]
)
def test_redis_that_is_away_is_named(
    client: Client, settings: Settings, path: str, failing: list[str]
) -> None:
    settings.CACHES = NO_REDIS

    status, words, parts = asked(client, path)

    assert (status, words) == (503, "failing")
    assert [name for name, state in parts.items() if state == "failing"] == failing


@pytest.mark.parametrize("path", ["/api/health", "/api/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_health_is_only_read(client: Client, path: str, method: str) -> None:
    answer = client.generic(method, path)

    assert (answer.status_code, answer.json()["code"], answer.headers["Allow"]) == (
        405, "method_not_allowed", "GET, HEAD",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/api/health", "/api/models", "/api/plans", "/api/openapi.json"])
def test_head_is_answered_where_get_is(client: Client, path: str) -> None:
    wanted = client.get(path)

    answer = client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers.get("X-Schema-Version") == wanted.headers.get("X-Schema-Version")
