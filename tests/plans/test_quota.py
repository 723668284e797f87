"""The image quota: taken once by each key, given back once, never above what the period has."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction

from accounts.models import User
from plans import queries, quota
from plans.errors import NoImageQuota, QuotaSpent
from plans.models import SubscriptionPeriod
from plyrum.ids import uuid7
from tests.plans import world

NOW = datetime(2032, 5, 1, tzinfo=UTC)


def take(user: User, key: str, now: datetime = NOW) -> bool:
    with transaction.atomic():
        return quota.take(customer_id=user.id, key=key, now=now)


def give_back(key: str) -> bool:
    with transaction.atomic():
        return quota.give_back(key=key)


def used(user_id: UUID) -> int:
    found = queries.current_period(user_id, at=NOW)
    assert found is not None
    return found.images_used


def test_request_is_taken_once_by_its_key_and_given_back_once() -> None:
    user = world.customer()
    world.activate(user, world.plan(images=2), NOW)
    first, second, third = (f"run:{uuid7()}" for _ in range(3))

    assert [take(user, first), take(user, first), take(user, second)] == [True, False, True]
    with pytest.raises(QuotaSpent) as spent:
        take(user, third)
    assert spent.value.extra["renews_at"].startswith("2032-06-01")
    assert not take(user, first)  # a repeat of what was taken is no new request
    assert [give_back(first), give_back(first), give_back(third)] == [True, False, False]

    assert used(user.id) == 1
    assert take(user, third)


def test_quota_belongs_to_its_period_and_ends_with_it() -> None:
    user = world.customer()
    subscription = world.activate(user, world.plan(images=1), NOW, world.AUTOMATIC)
    key = f"run:{uuid7()}"
    take(user, key)
    end = subscription.period_end

    with pytest.raises(NoImageQuota):
        take(user, f"run:{uuid7()}", end)
    world.advance(subscription, end)
    assert take(user, f"run:{uuid7()}", end)
    give_back(key)  # returns to the period it was taken from

    rows = SubscriptionPeriod.objects.filter(subscription=subscription).order_by("starts_at")
    assert [row.images_used for row in rows] == [0, 1]
    with pytest.raises(NoImageQuota):
        take(world.customer(), f"run:{uuid7()}")
    with pytest.raises(NoImageQuota):
        take(user, f"run:{uuid7()}", NOW - timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("quota_", "left", "bucket"),
    [
        (100, 100, 100), (100, 81, 100), (100, 80, 80), (100, 61, 80), (100, 60, 60), (100, 41, 60),
        (100, 40, 40), (100, 21, 40), (100, 20, 20), (100, 1, 20), (100, 0, 0),
        (3, 2, 80), (1_000_000, 1, 20), (0, 0, 0),
    ],
)  # fmt: skip
def test_bucket_is_the_table_of_the_contract(quota_: int, left: int, bucket: int) -> None:
    assert quota.bucket(SubscriptionPeriod(image_quota=quota_, images_used=quota_ - left)) == bucket


def test_without_a_period_nothing_is_left() -> None:
    assert quota.bucket(None) == 0
