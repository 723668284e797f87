from collections import Counter
from collections.abc import Iterator
from threading import Barrier

import pytest
from django.core.cache import caches
from django.test import override_settings
from django_redis import get_redis_connection  # type: ignore[import-untyped]

from accounts import throttling
from accounts.throttling import Limit
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.accounts.conftest import Post
from tests.threads import at_once

LIMIT = Limit("tests", 20, 3600)  # a token in three minutes: no pause of the machine fills it


@pytest.fixture
def key() -> str:
    return uuid7().hex


@pytest.fixture
def _no_redis() -> Iterator[None]:
    """Every connection is refused: nothing listens on port 1."""
    dead = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=dead):
        yield
    caches.close_all()


def test_two_hundred_parallel_attempts_pass_exactly_to_the_limit(key: str) -> None:
    def ten() -> list[bool]:
        return [throttling.take(LIMIT, key).is_allowed for _ in range(10)]

    outcomes = Counter(passed for batch in at_once(20, ten) for passed in batch)

    assert outcomes == {True: 20, False: 180}


def test_control_reading_first_and_writing_later_lets_more_pass(key: str) -> None:
    """Without the atomic counter everybody reads the same count."""
    redis = get_redis_connection()

    def careless() -> bool:
        count = int(redis.get(f"control:{key}") or 0)
        at_the_same_time.wait()
        redis.set(f"control:{key}", count + 1, ex=60)
        return count < 1

    at_the_same_time = Barrier(2)

    assert at_once(2, careless) == [True, True]


def test_refusal_says_when_to_come_back(key: str) -> None:
    throttles.drain(LIMIT, key)

    refused = throttling.take(LIMIT, key)

    assert not refused.is_allowed
    assert 0 < refused.retry_after_seconds <= 3600


def test_bucket_fills_evenly(key: str) -> None:
    throttles.drain(LIMIT, key)
    assert not throttling.take(LIMIT, key).is_allowed

    name = throttling._name(LIMIT, key)
    seconds, _ = get_redis_connection().time()
    get_redis_connection().hset(name, mapping={"level": 0, "at": (seconds - 400) * 1000})

    assert throttling.take_of((LIMIT,), key, wanted=20).count == 2  # one in 180 s


def test_refusal_is_told_once_in_a_window(key: str) -> None:
    throttles.drain(LIMIT, key)

    assert [throttling.take(LIMIT, key).is_first_refusal for _ in range(3)] == [True, False, False]


def test_bucket_never_holds_more_than_its_size(key: str) -> None:
    throttling.take(LIMIT, key)
    name = throttling._name(LIMIT, key)
    get_redis_connection().hset(name, "at", 0)  # fifty years ago

    assert throttling.take_of((LIMIT,), key, wanted=100).count == 20


def test_tightest_of_several_buckets_decides(key: str) -> None:
    day = Limit("tests-day", 30, 24 * 3600)

    first = throttling.take_of((LIMIT, day), key, wanted=20)
    second = throttling.take_of((LIMIT, day), key)
    throttles.refill(LIMIT, key)
    third = throttling.take_of((LIMIT, day), key, wanted=20)
    throttles.refill(LIMIT, key)
    fourth = throttling.take_of((LIMIT, day), key)

    assert (first.count, first.remaining) == (20, 0)
    assert (second.is_allowed, second.limit) == (False, LIMIT)
    assert (third.count, third.limit) == (10, day)
    assert (fourth.is_allowed, fourth.limit) == (False, day)
    assert fourth.retry_after_seconds > second.retry_after_seconds


def test_attempt_given_back_does_not_count(key: str) -> None:
    limit = Limit("tests-slow", 1, 24 * 3600)
    throttling.take(limit, key)

    throttling.give_back(limit, key)

    assert throttling.take(limit, key).is_allowed
    assert not throttling.take(limit, key).is_allowed


def test_giving_back_what_was_never_taken_changes_nothing(key: str) -> None:
    throttling.give_back(LIMIT, key)

    assert throttling.take_of((LIMIT,), key, wanted=21).count == 20


def test_keys_are_stored_as_digests(key: str) -> None:
    throttling.take(LIMIT, f"{key}@example.test")

    stored = list(get_redis_connection().scan_iter("throttle:tests:*"))

    assert stored
    assert not any(key.encode() in name for name in stored)


@pytest.mark.usefixtures("_no_redis")
def test_without_redis_a_fifth_passes_and_no_more(key: str) -> None:
    outcomes = [throttling.take(LIMIT, key) for _ in range(6)]

    assert [taken.is_allowed for taken in outcomes] == [True] * 4 + [False] * 2
    assert 0 < outcomes[-1].retry_after_seconds <= 3600


@pytest.mark.usefixtures("_no_redis")
def test_without_redis_the_limits_still_give_back(key: str) -> None:
    for _ in range(4):
        throttling.take(LIMIT, key)

    throttling.give_back(LIMIT, key)
    throttling.give_back(LIMIT, uuid7().hex)

    assert throttling.take(LIMIT, key).is_allowed


@pytest.mark.usefixtures("_no_redis")
def test_without_redis_guessing_a_password_stays_limited(post: Post) -> None:
    user = factories.customer()

    codes = [
        post("/api/auth/login", {"email": user.email, "password": "wrong password"}).status_code
        for _ in range(3)
    ]

    assert codes == [401, 429, 429]


@pytest.mark.usefixtures("_no_redis")
def test_limiter_does_not_open_when_its_store_is_down(key: str) -> None:
    """Several buckets without Redis: the smaller local ones decide, and none is never the answer."""
    day = Limit("tests-day", 10, 3600)

    assert throttling.take_of((LIMIT, day), key, wanted=20).count == 2
    assert not throttling.take_of((LIMIT, day), key).is_allowed


def test_local_buckets_fill_evenly(key: str) -> None:
    buckets = throttling._LocalBuckets()
    limit = Limit("tests", 5, 3600)
    assert buckets.take((limit,), key, 1).is_allowed
    assert [buckets.take((limit,), key, 1).is_first_refusal for _ in range(2)] == [True, False]

    buckets._buckets[throttling._name(limit, key)].at -= 3600

    assert buckets.take((limit,), key, 1).is_allowed


def test_full_local_memory_refuses_rather_than_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "MAX_LOCAL_KEYS", 3)
    buckets = throttling._LocalBuckets()
    for name in ("full again", "a", "b"):
        buckets.take((LIMIT,), name, 1)
    buckets._buckets[throttling._name(LIMIT, "full again")].full_at = 0

    assert buckets.take((LIMIT,), "c", 1).is_allowed  # the full bucket made room
    assert not buckets.take((LIMIT,), "d", 1).is_allowed  # nothing made room: refused
