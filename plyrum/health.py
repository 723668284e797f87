"""Health: is this process able to work (`/api/health`), and is the whole service ready (`/api/ready`).

Cheap and public: one query and one ping, never a provider.
"""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from plyrum.api import only_read

log = structlog.get_logger(__name__)

WORKER_HEARTBEAT_KEY = "worker-heartbeat"
WORKER_HEARTBEAT_SECONDS = 120  # four beats may be missed


@only_read
def health(request: HttpRequest) -> HttpResponse:
    """200 or 503 with a part-by-part body: {"status", "parts": {"database", "redis"}}."""
    return _answer({"database": _database, "redis": _redis})


@only_read
def ready(request: HttpRequest) -> HttpResponse:
    """As health, plus: migrations applied, catalogue loaded, a worker alive."""
    return _answer(
        {
            "database": _database,
            "redis": _redis,
            "migrations": _migrations,
            "catalogue": import_string(settings.CATALOGUE_IS_LOADED),
            "worker": _worker,
        }
    )


def _answer(parts: dict[str, Callable[[], bool]]) -> HttpResponse:
    found = {name: _is_good(part) for name, part in parts.items()}
    good = all(found.values())
    if not good:
        log.warning("probe_failed", parts=[name for name, value in found.items() if not value])
    body = {
        "status": "ok" if good else "failing",
        "parts": {name: "ok" if value else "failing" for name, value in found.items()},
    }
    return JsonResponse(body, status=200 if good else 503, headers={"Cache-Control": "no-store"})


def _is_good(part: Callable[[], bool]) -> bool:
    try:
        return part()
    except (DatabaseError, RedisError, OSError):
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def _redis() -> bool:
    cache.set("health", 1, 5)
    return bool(cache.get("health") == 1)


def _migrations() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _worker() -> bool:
    return cache.get(WORKER_HEARTBEAT_KEY) is not None
