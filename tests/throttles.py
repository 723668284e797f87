"""Buckets for tests: emptied so far below nothing that no pause of the machine fills them again."""

from django_redis import get_redis_connection  # type: ignore[import-untyped]

from accounts import throttling
from accounts.throttling import Limit


def drain(limit: Limit, key: str) -> None:
    throttling.take(limit, key)
    get_redis_connection().hset(throttling._name(limit, key), "level", -limit.count / 2)


def refill(limit: Limit, key: str) -> None:
    """What time does by itself."""
    get_redis_connection().delete(throttling._name(limit, key))
