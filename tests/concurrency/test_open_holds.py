"""Open holds are found from a mark on: it moves with them, but past none that is open or being made."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from plyrum.ids import first_of, uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client

MARGIN = timedelta(minutes=10)


def made(ago: timedelta = timedelta(0)) -> UUID:
    """An id as it would have been made so long ago."""
    return UUID(int=uuid7().int - (int(ago.total_seconds() * 1000) << 80))


def funded(found: Client) -> UUID:
    customer = uuid7()
    call(found, "ledger_credit", [books.credit_step(customer, 1000)])
    return customer


def hold(found: Client, customer: UUID, *, ago: timedelta = timedelta(0), ttl_seconds: int = 0) -> UUID:
    step = books.hold_step(customer, 1, ttl_seconds=ttl_seconds) | {"id": made(ago)}
    (answer,) = call(found, "ledger_hold", [step])
    assert answer["outcome"] == "held"
    found_id: UUID = answer["hold_id"]
    return found_id


def value(found: Client, query: str, *parameters: object) -> object:
    row = found.execute(query, parameters).fetchone()
    assert row is not None
    return next(iter(row.values()))


def sweep(found: Client, *, past: int = 0) -> object:
    return value(found, "SELECT ledger_expire_holds(100, %s)", past)


def status(found: Client, hold_id: UUID) -> object:
    return value(found, "SELECT status FROM billing_hold WHERE id = %s", hold_id)


def test_ids_are_an_index_by_time_in_the_database_as_outside() -> None:
    moment = datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC)
    with client() as found:
        assert value(found, "SELECT ledger_first_id(%s)", moment) == first_of(moment)
        assert value(found, "SELECT ledger_made_at(%s)", first_of(moment)) == moment
        before_all = value(found, "SELECT ledger_first_id('1969-12-31T23:59:00Z')")
        assert before_all == UUID(int=0)
        low = value(found, "SELECT ledger_first_id(ledger_made_at(%s) - interval '1 day')", UUID(int=10**15))
        assert low == UUID(int=0)


def test_mark_follows_the_first_open_hold_and_stays_behind_the_last() -> None:
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as found:
        customer = funded(found)
        assert value(found, "SELECT ledger_first_open()") == UUID(int=0)
        sweep(found)
        assert value(found, "SELECT ledger_first_open()") == UUID(int=0)  # no hold was ever made

        long = hold(found, customer, ago=timedelta(hours=3), ttl_seconds=900)
        due = [hold(found, customer, ago=timedelta(hours=hours)) for hours in (4, 2, 1)]
        assert sweep(found) == 3
        assert {status(found, hold_id) for hold_id in due} == {"expired"}
        assert value(found, "SELECT ledger_first_open()") == long

        found.execute("UPDATE billing_hold SET expires_at = created_at WHERE id = %s", [long])
        last = hold(found, customer)
        assert sweep(found) == 2  # the one at the mark itself is found, too
        told = value(found, "SELECT ledger_made_at(ledger_first_open())")
        assert told == value(found, "SELECT ledger_made_at(%s)", last) - MARGIN  # type: ignore[operator]


def test_mark_is_never_nearer_to_now_than_the_margin_whatever_ids_say() -> None:
    """An id of a clock that is ahead, or none of a clock at all, hides no hold."""
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as found:
        customer = funded(found)
        hold(found, customer, ago=timedelta(days=-400))
        assert sweep(found) == 1
        late = hold(found, customer, ago=MARGIN - timedelta(seconds=30))
        assert sweep(found) == 1
        assert status(found, late) == "expired"


@pytest.mark.parametrize(
    ("without", "is_found"), [((copies.MARGIN,), False), ((), True)], ids=["control", "margin"]
)
def test_hold_that_is_being_made_while_the_mark_moves_is_swept(
    without: tuple[tuple[str, str], ...], is_found: bool
) -> None:
    with (
        copies.ledger_copy(*without) as schema,
        client(schema=schema, as_owner=True) as slow,
        client(schema=schema, as_owner=True) as quick,
    ):
        mine, others = funded(slow), funded(quick)
        with slow.transaction():
            made_first = hold(slow, mine)
            hold(quick, others, ago=timedelta(seconds=-1))
            assert sweep(quick) == 1

        assert sweep(quick) == int(is_found)
        assert status(quick, made_first) == ("expired" if is_found else "open")


def test_sweep_reads_what_lies_behind_the_mark() -> None:
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as found:
        customer = funded(found)
        for minutes in range(60):
            hold(found, customer, ago=timedelta(minutes=20 + minutes))
        hold(found, customer)
        assert sweep(found) == 61
        found.execute("ANALYZE billing_hold")
        found.execute("SELECT pg_stat_force_next_flush()")

        with found.transaction():
            sweep(found)
            read = value(
                found,
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE relid = 'billing_hold'::regclass",
            )

    assert isinstance(read, int)
    assert read < 20  # of 61, each of which three questions would read without the mark


def test_resolved_hold_is_written_in_its_place() -> None:
    """No index changes with it, neither by a step alone nor by many."""
    with copies.ledger_copy() as schema, client(schema=schema, as_owner=True) as found:
        customer = funded(found)
        holds = [hold(found, customer, ttl_seconds=900) for _ in range(3)]
        steps = [books.settle_step(customer, hold_id, 1, usage=[]) for hold_id in holds]
        with found.transaction():
            call(found, "ledger_settle", steps[:1])
            call(found, "ledger_settle", steps[1:])
            updates = value(
                found,
                "SELECT ARRAY [n_tup_upd, n_tup_hot_upd] FROM pg_stat_xact_user_tables"
                " WHERE relid = 'billing_hold'::regclass",
            )

    assert updates == [3, 3]
