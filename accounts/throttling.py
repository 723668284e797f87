"""Atomic counters against guessing: so many attempts per key and window, one Redis call each.

Without Redis a small counter of the process decides, so that a dead cache never opens the door (security L3).
"""

import hashlib
import time
from dataclasses import dataclass
from threading import Lock

import structlog
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_TAKE = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}
"""
_GIVE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('DECR', KEYS[1]) end return 0"
LOCAL_SHARE = 5  # without Redis each process allows a fifth: several processes together stay near the limit
MAX_LOCAL_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` attempts of one key in `window_seconds`, counted from the first."""

    name: str
    count: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Taken:
    count: int
    is_allowed: bool
    retry_after_seconds: int


# Source: security bar, L1. Only failures stay counted; a success gives its attempt back. An address may be an
# office or a mobile network, so its limit bounds guessing over many accounts without shutting people out.
LOGIN_PER_ACCOUNT = Limit("login-account", 5, 5 * 60)
LOGIN_PER_ADDRESS = Limit("login-address", 100, 60)
SIGNUP_PER_ADDRESS = Limit("signup-address", 600, 60)


def take(limit: Limit, key: str) -> Taken:
    """Count one attempt of `key` and say whether it is within the limit."""
    name = _name(limit, key)
    try:
        count, ttl_ms = get_redis_connection().eval(_TAKE, 1, name, limit.window_seconds * 1000)
    except RedisError:
        log.warning("throttle_without_redis", limit=limit.name)
        count, ttl_ms = _local.take(name, limit.window_seconds)
        allowed = max(1, limit.count // LOCAL_SHARE)
    else:
        allowed = limit.count
    return Taken(count, count <= allowed, max(1, -(-int(ttl_ms) // 1000)))


def give_back(limit: Limit, key: str) -> None:
    """Take one attempt off again: it turned out to be the right person."""
    name = _name(limit, key)
    try:
        get_redis_connection().eval(_GIVE_BACK, 1, name)
    except RedisError:
        _local.give_back(name)


def _name(limit: Limit, key: str) -> str:
    """Keys are digests: an address book of who tried to sign in would be personal data."""
    return f"throttle:{limit.name}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"


class _LocalCounters:
    """The fallback: windows in this process's memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._windows: dict[str, tuple[int, float]] = {}

    def take(self, name: str, window_seconds: int) -> tuple[int, int]:
        moment = time.monotonic()
        with self._lock:
            count, ends = self._windows.get(name, (0, 0.0))
            if ends <= moment:
                count, ends = 0, moment + window_seconds
            if name not in self._windows and len(self._windows) >= MAX_LOCAL_KEYS:
                self._windows = {key: row for key, row in self._windows.items() if row[1] > moment}
                if len(self._windows) >= MAX_LOCAL_KEYS:
                    return MAX_LOCAL_KEYS, window_seconds * 1000  # full: refuse rather than forget
            self._windows[name] = (count + 1, ends)
        return count + 1, int((ends - moment) * 1000)

    def give_back(self, name: str) -> None:
        with self._lock:
            if name in self._windows:
                count, ends = self._windows[name]
                self._windows[name] = (max(0, count - 1), ends)


_local = _LocalCounters()
