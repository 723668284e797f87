"""Look-ups share a connection, do not wait for each other, and take what psycopg's cursor takes."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from orchestration.engine import conninfo
from orchestration.look_ups import Reader
from tests.concurrency.connections import client


async def test_reads_share_one_connection_and_survive_its_loss() -> None:
    reader = Reader(conninfo())
    query = "SELECT pg_backend_pid() AS pid"
    first, second = await asyncio.gather(reader.one(query, []), reader.one(query, []))
    assert first is not None
    assert first == second

    with client(as_owner=True) as owner:
        owner.execute("SELECT pg_terminate_backend(%s, 5000)", [first["pid"]])
    third = await reader.one(query, [])
    nothing = await reader.one("SELECT 1 AS one WHERE false", [])
    await reader.close()

    assert third is not None
    assert third != first
    assert nothing is None


async def test_look_ups_are_sent_without_waiting_for_each_other() -> None:
    reader = Reader(conninfo("-c lock_timeout=0"))  # the first waits however long the second takes
    query = "SELECT pg_advisory_xact_lock_shared(4712)::text || %s AS said"

    with client() as holder:
        holder.execute("SELECT pg_advisory_lock(4712)")
        both = asyncio.gather(*(reader.one(query, [text]) for text in ("я'", "b")))
        async with asyncio.timeout(20):
            while reader._database is None or reader._database.under_way < 2:
                await asyncio.sleep(0.01)
        holder.execute("SELECT pg_advisory_unlock(4712)")
    answers = await both
    await reader.close()

    assert answers == [{"said": "я'"}, {"said": "b"}]


async def test_look_up_takes_the_parameters_of_a_cursor() -> None:
    reader, ids, moment = Reader(conninfo()), [uuid4(), uuid4()], datetime(2026, 11, 21, 12, tzinfo=UTC)

    named = await reader.one(
        "SELECT %(id)s::uuid = ANY (%(ids)s::uuid[]) AS is_one, %(id)s::text AS id,"
        " %(at)s::timestamptz AS at, %(none)s::int AS none, %(is_set)s::boolean AS is_set,"
        " 'a%%' LIKE '_\\%%' AS percent",
        {"id": ids[0], "ids": ids, "at": moment, "none": None, "is_set": True, "unused": 1},
    )
    placed = await reader.one("SELECT %s::int - %s::int AS less", [3, 2])
    await reader.close()

    assert named == {
        "is_one": True, "id": str(ids[0]), "at": moment, "none": None, "is_set": True, "percent": True,
    }  # fmt: skip
    assert placed == {"less": 1}


async def test_look_up_refuses_a_text_that_would_be_cut() -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        await Reader(conninfo()).one("SELECT %s::text AS said", ["a\0b"])


@pytest.mark.parametrize(
    ("unreadable", "error"),
    [("('1' || repeat('0', 5000))::jsonb", ValueError), ("'infinity'::timestamptz", psycopg.DataError)],
)
async def test_value_that_cannot_be_read_is_its_askers_trouble_alone(
    unreadable: str, error: type[Exception]
) -> None:
    reader, good = Reader(conninfo()), "SELECT pg_backend_pid() AS pid"
    before = await reader.one(good, [])

    async with asyncio.timeout(10):
        found = await asyncio.gather(
            reader.one(f"SELECT {unreadable} AS value", []),
            *(reader.one(good, []) for _ in range(3)),
            return_exceptions=True,
        )
    await reader.close()

    assert isinstance(found[0], error)
    assert found[1:] == [before] * 3


async def test_look_up_that_was_wrong_once_may_be_right_later() -> None:
    reader, query = Reader(conninfo()), "SELECT current_setting('tests.later') AS said, * FROM later_table"

    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            await reader.one(query, [])
    await reader.one("SELECT set_config('tests.later', 'now', false) AS said", [])
    await reader.one("CREATE TEMPORARY TABLE later_table AS SELECT 1 AS one", [])
    found = await reader.one(query, [])
    await reader.close()

    assert found == {"said": "now", "one": 1}


async def test_reader_that_was_never_asked_closes() -> None:
    await Reader(conninfo()).close()
