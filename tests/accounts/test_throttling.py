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
from tests import factories
from tests.accounts.conftest import Post
from tests.threads import at_once

LIMIT = Limit("tests", 20, 60)


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
    for _ in range(20):
        throttling.take(LIMIT, key)

    refused = throttling.take(LIMIT, key)

    assert not refused.is_allowed
    assert 0 < refused.retry_after_seconds <= 60


def test_window_ends(key: str) -> None:
    short = Limit("tests-short", 1, 1)
    assert throttling.take(short, key).is_allowed
    assert not throttling.take(short, key).is_allowed

    get_redis_connection().delete(throttling._name(short, key))  # what Redis does by itself after a second

    assert throttling.take(short, key).is_allowed


def test_window_is_not_extended_by_attempts(key: str) -> None:
    throttling.take(LIMIT, key)
    name = throttling._name(LIMIT, key)
    get_redis_connection().pexpire(name, 5_000)

    assert throttling.take(LIMIT, key).retry_after_seconds <= 5


def test_attempt_given_back_does_not_count(key: str) -> None:
    for _ in range(20):
        throttling.take(LIMIT, key)

    throttling.give_back(LIMIT, key)

    assert throttling.take(LIMIT, key).is_allowed
    assert not throttling.take(LIMIT, key).is_allowed


def test_giving_back_what_was_never_taken_changes_nothing(key: str) -> None:
    throttling.give_back(LIMIT, key)

    assert throttling.take(LIMIT, key).count == 1


def test_keys_are_stored_as_digests(key: str) -> None:
    throttling.take(LIMIT, f"{key}@example.test")

    stored = list(get_redis_connection().scan_iter("throttle:tests:*"))

    assert stored
    assert not any(key.encode() in name for name in stored)


@pytest.mark.usefixtures("_no_redis")
def test_without_redis_a_fifth_passes_and_no_more(key: str) -> None:
    outcomes = [throttling.take(LIMIT, key) for _ in range(6)]

    assert [taken.is_allowed for taken in outcomes] == [True] * 4 + [False] * 2
    assert 0 < outcomes[-1].retry_after_seconds <= 60


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


def test_local_counters_start_again_after_their_window(key: str) -> None:
    counters = throttling._LocalCounters()

    assert counters.take(key, 0)[0] == 1
    assert counters.take(key, 0)[0] == 1


def test_full_local_memory_refuses_rather_than_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "MAX_LOCAL_KEYS", 3)
    counters = throttling._LocalCounters()
    for name in ("ended", "a", "b"):
        counters.take(name, 0 if name == "ended" else 60)

    assert counters.take("c", 60)[0] == 1  # the ended window made room
    assert counters.take("d", 60)[0] == 3  # nothing ended: counted as beyond every limit
