"""Token buckets: how often something may happen, asked of Redis in one atomic call.

Signing in spends them against guessing; runs, estimates, checkouts and files against too many requests
(`billing/request_rates.py`, `orchestration/admission.py`). Without Redis a smaller bucket of the process
decides, so that a dead cache never opens the door (security L3).
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import structlog
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

# Take up to ARGV[1] tokens out of all of KEYS, or none when one of them has none. For each bucket follow its
# size and the milliseconds in which it fills. Answer: {taken, place of the tightest bucket, tokens left in
# it, milliseconds until it has one, 1 for its first refusal within the time in which it fills}.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local taken, place, levels, told = tonumber(ARGV[1]), 1, {}, {}
for i, key in ipairs(KEYS) do
  local size, fills = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local row = redis.call('HMGET', key, 'level', 'at', 'told')
  local since = math.max(0, now - (tonumber(row[2]) or now))
  levels[i] = math.min(size, (tonumber(row[1]) or size) + since * size / fills)
  told[i] = tonumber(row[3]) or 0
  if levels[i] - taken < 0 then taken, place = math.max(0, math.floor(levels[i])), i end
end
local size, fills = tonumber(ARGV[2 * place]), tonumber(ARGV[2 * place + 1])
local first = 0
if taken == 0 and told[place] <= now - fills then first, told[place] = 1, now end
for i, key in ipairs(KEYS) do
  levels[i] = levels[i] - taken
  redis.call('HSET', key, 'level', string.format('%.6f', levels[i]), 'at', now, 'told', told[i])
  redis.call('PEXPIRE', key, ARGV[2 * i + 1])
end
local wait = math.max(0, math.ceil((1 - levels[place]) * fills / size))
return {taken, place, math.floor(levels[place]), wait, first}
"""
_GIVE_BACK = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBYFLOAT', KEYS[1], 'level', 1) end return 0"
)
LOCAL_SHARE = 5  # without Redis each process allows a fifth: several processes together stay near the limit
MAX_LOCAL_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket of `count` tokens that fills evenly in `window_seconds`."""

    name: str
    count: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer: how many tokens were taken, and the state of `limit`, the tightest bucket."""

    count: int
    limit: Limit
    remaining: int
    retry_after_seconds: int
    is_first_refusal: bool  # within the limit's window

    @property
    def is_allowed(self) -> bool:
        return self.count > 0


# Source: security bar, L1. Only failures stay counted; a success gives its attempt back. An address may be an
# office or a mobile network, so its limit bounds guessing over many accounts without shutting people out.
LOGIN_PER_ACCOUNT = Limit("login-account", 5, 5 * 60)
LOGIN_PER_ADDRESS = Limit("login-address", 100, 60)
SIGNUP_PER_ADDRESS = Limit("signup-address", 600, 60)


def take(limit: Limit, key: str) -> Taken:
    """Take one token of `key`."""
    return take_of((limit,), key)


def take_of(limits: Sequence[Limit], key: str, wanted: int = 1) -> Taken:
    """Take up to `wanted` tokens out of the key's bucket of each limit, from all of them as many."""
    try:
        reply = get_redis_connection().eval(TAKE, len(limits), *call_of(limits, key, wanted))
    except RedisError:
        return take_locally(limits, key, wanted)
    return read(limits, reply)


def call_of(limits: Sequence[Limit], key: str, wanted: int) -> list[str | int]:
    """Keys and arguments of TAKE, for callers with a connection of their own; `read` reads the reply."""
    sizes = [number for limit in limits for number in (limit.count, limit.window_seconds * 1000)]
    return [*(_name(limit, key) for limit in limits), wanted, *sizes]


def read(limits: Sequence[Limit], reply: list[int]) -> Taken:
    count, place, left, wait_ms, is_first = reply
    return Taken(count, limits[place - 1], max(0, left), max(1, -(-wait_ms // 1000)), bool(is_first))


def take_locally(limits: Sequence[Limit], key: str, wanted: int = 1) -> Taken:
    """The answer without Redis: out of buckets of a fifth in this process's memory."""
    taken = _local.take(limits, key, wanted)
    if taken.is_first_refusal:
        log.warning("throttle_without_redis", limit=taken.limit.name)
    return taken


def give_back(limit: Limit, key: str) -> None:
    """Put one token back: it turned out to be the right person."""
    name = _name(limit, key)
    try:
        get_redis_connection().eval(_GIVE_BACK, 1, name)
    except RedisError:
        _local.give_back(name)


def _name(limit: Limit, key: str) -> str:
    """Keys are digests: an address book of who tried to sign in would be personal data."""
    return f"throttle:{limit.name}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    full_at: float = 0.0
    told_at: float | None = None


class _LocalBuckets:
    """The fallback, by the same arithmetic as TAKE."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._buckets: dict[str, _Bucket] = {}

    def take(self, limits: Sequence[Limit], key: str, wanted: int) -> Taken:
        moment = time.monotonic()
        with self._lock:
            taken, tightest = wanted, 0
            found: list[tuple[_Bucket, float, int]] = []
            for place, limit in enumerate(limits):
                size = max(1, limit.count // LOCAL_SHARE)
                bucket = self._bucket(_name(limit, key), size, moment)
                if bucket is None:
                    return Taken(0, limit, 0, limit.window_seconds, is_first_refusal=False)
                bucket.level = min(size, bucket.level + (moment - bucket.at) * size / limit.window_seconds)
                bucket.at = moment
                found.append((bucket, limit.window_seconds / size, size))
                if bucket.level < taken:
                    taken, tightest = int(bucket.level), place
            for bucket, seconds_each, size in found:
                bucket.level -= taken
                bucket.full_at = moment + (size - bucket.level) * seconds_each
            bucket, seconds_each, _size = found[tightest]
            limit = limits[tightest]
            is_first = not taken and (
                bucket.told_at is None or bucket.told_at <= moment - limit.window_seconds
            )
            if is_first:
                bucket.told_at = moment
            wait = max(1, -(-int((1 - bucket.level) * seconds_each * 1000) // 1000))
            return Taken(taken, limit, int(bucket.level), wait, is_first)

    def give_back(self, name: str) -> None:
        with self._lock:
            if name in self._buckets:
                self._buckets[name].level += 1

    def _bucket(self, name: str, size: int, moment: float) -> _Bucket | None:
        """The bucket of this name; None when memory is full: refuse rather than forget."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MAX_LOCAL_KEYS:
                self._buckets = {key: row for key, row in self._buckets.items() if row.full_at > moment}
                if len(self._buckets) >= MAX_LOCAL_KEYS:
                    return None
            bucket = self._buckets[name] = _Bucket(size, moment)
        return bucket


_local = _LocalBuckets()
