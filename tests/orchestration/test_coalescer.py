"""Group commit against a real function in the database, whose calls are counted and can be made to fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
import uvloop
from django.db import connection
from psycopg import sql
from psycopg.rows import dict_row
from structlog.testing import capture_logs

from orchestration import coalescer as coalescing
from orchestration import database_connection
from orchestration.coalescer import CROWD, MAX_BATCH, Coalescer
from orchestration.engine import conninfo

# A step does what `act` says; `fails` is how many of the first calls with it fail. The counters are
# sequences: what they count stays counted when a call is rolled back.
PROBE = """
CREATE TABLE coalescer_kept (key text PRIMARY KEY, steps int NOT NULL, times int NOT NULL DEFAULT 1);
CREATE SEQUENCE coalescer_calls;
CREATE SEQUENCE coalescer_faults;
CREATE FUNCTION coalescer_terminate(pid int) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
    SELECT pg_terminate_backend(pid, 5000)
$$;
CREATE FUNCTION coalescer_probe(steps jsonb) RETURNS TABLE (given_key text, place int) LANGUAGE plpgsql AS $$
DECLARE
    step jsonb;
BEGIN
    PERFORM nextval('coalescer_calls');
    FOR step IN SELECT * FROM jsonb_array_elements(steps) LOOP
        IF step ->> 'act' = 'sleep' THEN
            PERFORM pg_sleep(0.3);
        ELSIF step ->> 'act' = 'wait' THEN
            PERFORM pg_advisory_xact_lock_shared(4711);
        ELSIF step ->> 'act' = 'poison' THEN
            RAISE EXCEPTION 'poison';
        ELSIF step ? 'fails' AND nextval('coalescer_faults') <= (step ->> 'fails')::int THEN
            IF step ->> 'act' = 'terminate' THEN
                PERFORM coalescer_terminate(pg_backend_pid());
            END IF;
            RAISE EXCEPTION 'fault' USING ERRCODE = step ->> 'act';
        END IF;
        CONTINUE WHEN step ->> 'act' = 'silent';
        INSERT INTO coalescer_kept (key, steps) VALUES (step ->> 'key', jsonb_array_length(steps))
            ON CONFLICT (key) DO UPDATE SET times = coalescer_kept.times + 1;
    END LOOP;
    RETURN QUERY SELECT s.value ->> 'key', s.ordinality::int
        FROM jsonb_array_elements(steps) WITH ORDINALITY s
        WHERE s.value ->> 'act' IS DISTINCT FROM 'silent' ORDER BY s.ordinality DESC;
END $$;
CREATE FUNCTION coalescer_probe(steps jsonb, texts text[])
RETURNS TABLE (given_key text, told text, in_step text) LANGUAGE sql AS $$
    SELECT s.step ->> 'key', s.told, s.step ->> 'story'
      FROM ROWS FROM (jsonb_array_elements(steps), unnest(texts)) AS s (step, told)
$$;
CREATE FUNCTION coalescer_probe_one(key text, act text, number int, inner_id uuid, is_set boolean, list jsonb)
RETURNS TABLE (given_key text, place int) LANGUAGE plpgsql AS $$
BEGIN
    IF act = 'poison' THEN
        RAISE EXCEPTION 'poison';
    END IF;
    INSERT INTO coalescer_kept (key, steps) VALUES (concat_ws('/', key, number, inner_id, is_set, list), 0);
    RETURN QUERY SELECT coalescer_probe_one.key, 0;
END $$
"""
REMOVAL = """
DROP FUNCTION coalescer_probe(jsonb), coalescer_probe(jsonb, text[]);
DROP FUNCTION coalescer_probe_one(text, text, int, uuid, boolean, jsonb);
DROP FUNCTION coalescer_terminate(int);
DROP TABLE coalescer_kept;
DROP SEQUENCE coalescer_calls;
DROP SEQUENCE coalescer_faults
"""


Database = psycopg.AsyncConnection[dict[str, Any]]


async def connect(address: str) -> Database:
    return await psycopg.AsyncConnection.connect(address, autocommit=True, row_factory=dict_row)


@pytest.fixture(scope="module")
def _probe(_database_for_all: None) -> Iterator[None]:
    owner = connection.copy()
    owner.settings_dict["OPTIONS"].pop("assume_role")
    role = sql.Identifier(connection.settings_dict["OPTIONS"]["assume_role"])
    with owner.cursor() as cursor:
        cursor.execute(PROBE)
        cursor.execute(sql.SQL("GRANT ALL ON coalescer_kept TO {}").format(role))
        cursor.execute(sql.SQL("GRANT ALL ON SEQUENCE coalescer_calls, coalescer_faults TO {}").format(role))
        yield
        cursor.execute(REMOVAL)
    owner.close()


@pytest_asyncio.fixture
async def database(_probe: None) -> AsyncIterator[psycopg.AsyncConnection[dict[str, Any]]]:
    """The test's own eyes; the counters begin anew."""
    async with await connect(conninfo()) as opened:
        for name in ("coalescer_calls", "coalescer_faults"):
            await opened.execute("SELECT setval(%s, 1, false)", [name])
        yield opened


Make = Callable[..., Coalescer]


@pytest_asyncio.fixture
async def coalescer() -> AsyncIterator[Make]:
    """Makes coalescers of the probe and closes them, however the test ends."""
    made: list[Coalescer] = []

    def make(address: str = "", patience_seconds: float = 30, **facts: Any) -> Coalescer:
        probe = Coalescer(
            address or conninfo(), "coalescer_probe", step_key="key", row_key="given_key",
            patience_seconds=patience_seconds, **facts,
        )  # fmt: skip
        made.append(probe)
        return probe

    yield make
    async with asyncio.timeout(60):  # one that lost a step would never be done
        for probe in made:
            await probe.close()


def step(act: str = "", **more: Any) -> dict[str, Any]:
    return {"key": str(uuid4()), "act": act, **more}


async def calls(database: Database) -> int:
    cursor = await database.execute("SELECT last_value, is_called FROM coalescer_calls")
    row = await cursor.fetchone()
    assert row is not None
    return int(row["last_value"]) if row["is_called"] else 0


async def kept(database: Database, *steps: dict[str, Any]) -> list[tuple[int, int]]:
    """(steps in the call, times done) of each step that was done."""
    keys = [each["key"] for each in steps]
    cursor = await database.execute(
        "SELECT steps, times FROM coalescer_kept WHERE key = ANY(%s) ORDER BY array_position(%s, key)",
        [keys, keys],
    )
    return [(row["steps"], row["times"]) for row in await cursor.fetchall()]


async def test_one_step_is_a_batch_of_one(coalescer: Make, database: Database) -> None:
    served, one = coalescer(), step()

    row = await served.submit(one)

    assert row["given_key"] == one["key"]
    assert await kept(database, one) == [(1, 1)]
    assert await calls(database) == 1


FIELDS = ("key", "act", "number", "part.id", "part.is_set", "list")


async def test_step_alone_goes_by_the_function_for_one(coalescer: Make, database: Database) -> None:
    """Each kind of value arrives as it is; of what is missing nothing does."""
    served, part = coalescer(fields=FIELDS), {"id": uuid4(), "is_set": True}
    full, bare = step("я\"'\\", number=2**31 - 1, part=part, list=[{"a": 1}]), step(number=-1, part=None)

    rows = [await served.submit(each) for each in (full, bare)]

    assert rows == [{"given_key": each["key"], "place": 0} for each in (full, bare)]
    told = [f'{full["key"]}/{full["number"]}/{part["id"]}/t/[{{"a": 1}}]', f"{bare['key']}/-1"]
    assert await kept(database, *({"key": key} for key in told)) == [(0, 1), (0, 1)]
    assert await calls(database) == 0


async def test_steps_together_go_by_the_function_for_many_and_alone_when_one_is_bad(
    coalescer: Make, database: Database
) -> None:
    served = coalescer(fields=FIELDS)
    good, unfit, bad = step(), step(number=2**40), step("poison")

    together = await asyncio.gather(served.submit(good), served.submit(unfit))
    apart = await asyncio.gather(*(served.submit(each) for each in (bad, step())), return_exceptions=True)
    with pytest.raises(psycopg.errors.DataError):
        await served.submit(step(number=2**40))
    with pytest.raises(KeyError):
        await served.submit(step(number=1.5))

    assert [row["place"] for row in together] == [1, 2]
    assert isinstance(apart[0], psycopg.errors.RaiseException)
    assert isinstance(apart[1], dict)
    assert apart[1]["place"] == 0
    assert (await served.submit(step()))["place"] == 0


async def test_text_of_a_step_goes_beside_it_as_it_is(coalescer: Make, database: Database) -> None:
    served = coalescer(text="story")
    told = [None, b"", 'я\u2028😀"\\{},NULL\n'.encode(), b"x" * 2**20, b"NULL"]
    steps = [step(story=text) for text in told[1:]]

    rows = await asyncio.gather(*[served.submit(each) for each in (step(), *steps)])

    assert [row["told"] for row in rows] == [text.decode() if text is not None else None for text in told]
    assert {row["in_step"] for row in rows} == {None}
    with pytest.raises(TypeError):
        await served.submit(step(number=object()))
    assert (await served.submit(steps[0]))["told"] == ""


async def test_steps_that_arrive_during_a_call_share_the_next_one(
    coalescer: Make, database: Database
) -> None:
    served = coalescer()
    slow, others = step("sleep"), [step() for _ in range(50)]
    first = served.submit(slow)
    await asyncio.sleep(0.1)

    rows = await asyncio.gather(*[served.submit(each) for each in others])
    await first

    assert [row["given_key"] for row in rows] == [
        each["key"] for each in others
    ]  # whatever order they came back in
    assert await calls(database) == 2
    assert await kept(database, slow, *others) == [(1, 1)] + [(50, 1)] * 50


async def test_batch_has_an_upper_limit(coalescer: Make, database: Database) -> None:
    served = coalescer()
    steps = [step() for _ in range(MAX_BATCH + 1)]

    await asyncio.gather(*[served.submit(each) for each in steps])

    assert {size for size, _ in await kept(database, *steps)} == {MAX_BATCH, 1}
    assert await calls(database) == 2


async def test_full_batch_does_not_wait_for_the_call_under_way(coalescer: Make, database: Database) -> None:
    served = coalescer()
    slow, others = step("wait"), [step() for _ in range(MAX_BATCH)]
    await database.execute("SELECT pg_advisory_lock(4711)")
    first = served.submit(slow)
    await asyncio.sleep(0)

    answers = [served.submit(each) for each in others]
    async with asyncio.timeout(10):
        while served._database is None or served._database.under_way < 2:
            await asyncio.sleep(0.01)
    await database.execute("SELECT pg_advisory_unlock(4711)")
    await asyncio.gather(first, *answers)

    assert await kept(database, slow, *others) == [(1, 1)] + [(MAX_BATCH, 1)] * MAX_BATCH


async def test_full_batches_of_one_moment_are_sent_together(coalescer: Make, database: Database) -> None:
    served = coalescer(max_batch=2)
    steps = [step("wait") for _ in range(5)]
    await database.execute("SELECT pg_advisory_lock(4711)")

    answers = [served.submit(each) for each in steps]
    async with asyncio.timeout(10):
        while served._database is None or served._database.under_way < 2:
            await asyncio.sleep(0.01)
    await database.execute("SELECT pg_advisory_unlock(4711)")
    await asyncio.gather(*answers)

    assert await kept(database, *steps) == [(2, 1)] * 4 + [(1, 1)]


async def test_connection_lost_with_two_calls_under_way_loses_no_step(
    coalescer: Make, database: Database
) -> None:
    served = coalescer()
    dying, others = step("terminate", fails=1), [step() for _ in range(MAX_BATCH)]
    first = served.submit(dying)
    await asyncio.sleep(0)

    answers = await asyncio.gather(first, *[served.submit(each) for each in others])

    assert [row["given_key"] for row in answers] == [each["key"] for each in (dying, *others)]
    assert [times for _, times in await kept(database, dying, *others)] == [1] * (MAX_BATCH + 1)


@pytest.mark.usefixtures("_probe")
def test_connection_lost_with_two_calls_under_way_is_noticed_on_the_loop_of_production() -> None:
    """uvloop tells once of a socket that broke with our second call unread, and words lie before that."""

    async def work() -> list[dict[str, Any]]:
        async with await connect(conninfo()) as database:
            await database.execute("SELECT setval('coalescer_faults', 1, false)")
        served = Coalescer(
            conninfo(), "coalescer_probe", step_key="key", row_key="given_key", patience_seconds=30
        )
        steps = [step("terminate", fails=1), *[step(text="x" * 100) for _ in range(MAX_BATCH)]]
        first = served.submit(steps[0])
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(first, *[served.submit(each) for each in steps[1:]])
        await served.close()
        return answers

    assert len(uvloop.run(work())) == MAX_BATCH + 1


async def test_steps_of_a_busy_caller_are_all_served(coalescer: Make, database: Database) -> None:
    """A step that is handed in just when the work ends must not lie there for ever."""
    served = coalescer()

    async def caller(number: int) -> None:
        for _ in range(40):
            await served.submit(step())
            for _ in range(number % 4):
                await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await asyncio.gather(*[caller(number) for number in range(25)])

    assert served._waiting == []


@pytest.mark.parametrize(("steps", "sizes"), [(CROWD, [2, 2]), (CROWD - 1, [1, 1])])
async def test_after_a_crowd_those_who_were_answered_go_first(
    coalescer: Make, database: Database, monkeypatch: pytest.MonkeyPatch, steps: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(coalescing, "TURNS", 100)
    served = coalescer()
    await asyncio.gather(*[served.submit(step()) for _ in range(steps)])
    first, second = step(), step()

    early = served.submit(first)
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.gather(early, served.submit(second))

    assert [size for size, _ in await kept(database, first, second)] == sizes


async def test_large_batch_is_sent_in_parts_as_the_socket_takes_it(
    coalescer: Make, database: Database
) -> None:
    served = coalescer()
    steps = [step(text="x" * 40_000) for _ in range(MAX_BATCH)]

    await asyncio.gather(*[served.submit(each) for each in steps])

    assert {size for size, _ in await kept(database, *steps)} == {MAX_BATCH}


async def test_server_that_says_nothing_is_left(
    coalescer: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for it fails; what comes next goes over another connection."""
    await database.execute("SELECT pg_advisory_lock(4711)")
    served = coalescer(patience_seconds=0.1)

    with monkeypatch.context() as impatient:
        impatient.setattr(database_connection, "SILENCE_SECONDS", 0.2)
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            await served.submit(step("wait"))
    await database.execute("SELECT pg_advisory_unlock(4711)")
    after = await served.submit(step())

    assert after["given_key"]


async def test_poisoned_step_fails_alone(coalescer: Make, database: Database) -> None:
    served = coalescer()
    good, bad = [step() for _ in range(5)], step("poison")

    found = await asyncio.gather(
        *[served.submit(each) for each in (*good[:2], bad, *good[2:])], return_exceptions=True
    )
    after = await served.submit(step())

    assert isinstance(found.pop(2), psycopg.errors.RaiseException)
    assert [row["given_key"] for row in found if isinstance(row, dict)] == [each["key"] for each in good]
    assert await kept(database, *good, bad) == [(1, 1)] * 5
    assert after["given_key"]


async def test_step_that_cannot_be_written_fails_alone(coalescer: Make, database: Database) -> None:
    """A fault before the database is asked must not end the work either."""
    served = coalescer()
    good, bad = step(), step(amount=2**80)

    found = await asyncio.gather(served.submit(bad), served.submit(good), return_exceptions=True)
    after = await served.submit(step())

    assert isinstance(found[0], TypeError)
    assert isinstance(found[1], dict)
    assert after["given_key"]


async def test_step_without_an_answer_is_told_so(coalescer: Make, database: Database) -> None:
    served = coalescer()

    found = await asyncio.gather(served.submit(step("silent")), served.submit(step()), return_exceptions=True)

    assert isinstance(found[0], RuntimeError)
    assert isinstance(found[1], dict)


@pytest.mark.parametrize("code", ["40P01", "40001", "55P03", "57014"])
async def test_passing_failures_are_tried_again(coalescer: Make, database: Database, code: str) -> None:
    """Deadlock, serialization, lock and statement time limits."""
    served = coalescer()
    steps = [step(code, fails=2), step()]

    await asyncio.gather(*[served.submit(each) for each in steps])

    assert await calls(database) == 3
    assert await kept(database, *steps) == [(2, 1)] * 2


async def test_failure_that_does_not_pass_is_answered_at_last(coalescer: Make, database: Database) -> None:
    served = coalescer(patience_seconds=3)

    with pytest.raises(psycopg.errors.DeadlockDetected):
        await served.submit(step("40P01", fails=1000))
    await served.submit(step())

    assert await calls(database) > 2


async def test_connection_that_dies_during_a_call_is_made_again(coalescer: Make, database: Database) -> None:
    served = coalescer()
    steps = [step("terminate", fails=1), step(), step()]

    await asyncio.gather(*[served.submit(each) for each in steps])

    assert await calls(database) == 2
    assert await kept(database, *steps) == [(3, 1)] * 3


async def test_connection_that_dies_between_calls_is_made_again(coalescer: Make, database: Database) -> None:
    served = coalescer()
    await served.submit(step())
    assert served._database is not None
    pid = served._database.backend_pid
    await database.execute("SELECT coalescer_terminate(%s)", [pid])

    one = step()
    await served.submit(one)

    assert await kept(database, one) == [(1, 1)]


async def test_database_that_is_away_fails_the_whole_batch_once_after_patience(coalescer: Make) -> None:
    """Asking step by step would wait as often as there are steps."""
    served = coalescer(conninfo() + " port=1", patience_seconds=0.3)

    with capture_logs() as said:
        async with asyncio.timeout(20):
            found = await asyncio.gather(*[served.submit(step()) for _ in range(20)], return_exceptions=True)

    assert {type(error) for error in found} == {psycopg.OperationalError}
    assert [line["steps"] for line in said if line["event"] == "coalescer_call_failed"] == [20]


async def test_reader_that_leaves_harms_nobody(coalescer: Make, database: Database) -> None:
    served = coalescer()
    slow, left, stays = step("wait"), step(), step()
    await database.execute("SELECT pg_advisory_lock(4711)")
    tasks = [served.submit(each) for each in (slow, left, stays)]

    async with asyncio.timeout(20):
        while served._database is None or not served._database.under_way:
            await asyncio.sleep(0.01)
        tasks[1].cancel()
        await database.execute("SELECT pg_advisory_unlock(4711)")
        found = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(found[1], asyncio.CancelledError)
    assert len(await kept(database, slow, left, stays)) == 3  # what was handed in is done all the same


async def test_close_finishes_what_was_handed_in(coalescer: Make, database: Database) -> None:
    served = coalescer()
    steps = [step("sleep"), step("sleep"), *[step() for _ in range(5)]]
    served.post(steps[0])
    await asyncio.sleep(0.1)
    for each in steps[1:]:
        served.post(each)

    await served.close()

    assert [times for _, times in await kept(database, *steps)] == [1] * 7
    assert served._database is not None
    assert served._database.closed


async def test_close_waits_for_the_call_under_way(coalescer: Make, database: Database) -> None:
    served, one = coalescer(), step("sleep")
    served.post(one)
    await asyncio.sleep(0.1)

    await served.close()

    assert await kept(database, one) == [(1, 1)]


async def test_posted_step_may_fail_without_anybody_listening(coalescer: Make, database: Database) -> None:
    served = coalescer()
    served.post(step("poison"))
    served.post(step("silent"))

    row = await served.submit(step())

    assert row["given_key"]


async def test_unused_coalescer_opens_no_connection(coalescer: Make) -> None:
    served = coalescer()
    await served.close()

    assert served._database is None
