"""Reads of usage: the customer's own rows, filtered and summed."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from billing import queries
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock

MIDNIGHT = datetime(2032, 6, 1, 21, 0, tzinfo=UTC)  # in Moscow


def test_usage_is_filtered_by_model_key_and_time(clock: LedgerClock) -> None:
    customer, key = books.funded(100), uuid7()
    clock.stand_at(MIDNIGHT)
    hold_id = books.held(customer, 30)
    usage = [books.usage_row(10, model="a"), books.usage_row(20, model="b") | {"api_key_id": key}]
    books.settle(customer, hold_id, 30, usage=usage)

    def models(**filters: object) -> list[str]:
        rows = queries.usage(customer, **filters)  # type: ignore[arg-type]
        return sorted(row.model for row in rows)

    assert models() == ["a", "b"]
    assert models(model="a") == ["a"]
    assert models(api_key_id=key) == ["b"]
    assert models(since=MIDNIGHT, until=MIDNIGHT + timedelta(microseconds=1)) == ["a", "b"]
    assert models(until=MIDNIGHT) == []
    assert list(queries.usage(uuid7())) == []


def test_usage_is_summed_by_day_of_moscow_by_model_and_by_key(clock: LedgerClock) -> None:
    customer, key = books.funded(100), uuid7()
    for moment, cost, model in (
        (MIDNIGHT - timedelta(seconds=1), 1, "b"),
        (MIDNIGHT, 2, "a"),
        (MIDNIGHT + timedelta(hours=1), 4, "b"),
    ):
        clock.stand_at(moment)
        usage = books.usage_row(cost, model=model) | {"api_key_id": key if model == "a" else None}
        books.settle(customer, books.held(customer, cost), cost, usage=[usage])

    def sums(group_by: str) -> list[tuple[object, object, object]]:
        rows = queries.usage_summary(customer, group_by=group_by)
        return [(row["key"], row["requests"], row["cost_micro_rub"]) for row in rows]

    assert sums("day") == [("2032-06-02", 2, 6), ("2032-06-01", 1, 1)]
    assert sums("model") == [("a", 1, 2), ("b", 2, 5)]
    assert sums("key") == [(str(key), 1, 2), (None, 2, 5)]


@pytest.mark.parametrize("group_by", ["day", "model", "key"])
def test_nothing_sums_to_nothing(group_by: str) -> None:
    assert queries.usage_summary(uuid7(), group_by=group_by) == []


def test_entries_are_found_by_their_keys_in_their_index() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = queries.by_key("topup:1", "topup:2").explain()

    assert "billing_entry_one_per_key" in plan
