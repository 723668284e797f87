"""The story of a run: numbering, readers who come, go and come back, another process, Redis gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from django.conf import settings
from redis.asyncio import Redis
from structlog.testing import capture_logs

from orchestration.frames import KEEP_SECONDS, FrameLog, Groups, Story, is_terminal, lines, stream_key
from plyrum.ids import uuid7
from tests.orchestration.redis_process import RedisProcess


class Ended:
    """Counts how often stories say that they are over."""

    def __init__(self) -> None:
        self.stories: list[Story] = []

    def __call__(self, story: Story) -> None:
        self.stories.append(story)


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def log(redis: Redis) -> AsyncIterator[FrameLog]:
    opened = FrameLog(redis)
    yield opened
    await opened.close()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


def tell(story: Story, count: int, *, ends: bool = True) -> None:
    for number in range(count):
        story.append("delta", {"text": f"часть {number}"})
    if ends:
        story.end(story.drafted([("run.finished", {"finish_reason": "stop"})]))


async def all_of(groups: Groups) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [orjson.loads(frame) async for group in groups for frame in group or ()]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_frames_are_numbered_from_one_without_gaps(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    tell(story, 20)

    frames = await all_of(story.follow())

    assert [frame["seq"] for frame in frames] == list(range(1, 22))
    assert {frame["run_id"] for frame in frames} == {str(story.run_id)}
    assert frames[0] | {"ts": ""} == {
        "run_id": str(story.run_id), "seq": 1, "ts": "", "type": "delta", "text": "часть 0",
    }  # fmt: skip
    assert [frame["ts"] for frame in frames] == sorted(frame["ts"] for frame in frames)
    assert ended.stories == [story]


async def test_frame_without_facts_is_json_too(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    story.append("ping", {})
    tell(story, 0)

    frames = await all_of(story.follow())

    assert [frame["type"] for frame in frames] == ["ping", "run.finished"]


@pytest.mark.parametrize("after", [0, 1, 5, 10, 11, 1000])
async def test_reader_may_begin_anywhere(log: FrameLog, ended: Ended, after: int) -> None:
    story = Story(uuid7(), log, ended)
    tell(story, 10)

    frames = await all_of(story.follow(after))

    assert [frame["seq"] for frame in frames] == list(range(after + 1, 12))


async def test_frame_is_shown_only_once_it_is_written(log: FrameLog, redis: Redis, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    story.append("delta", {"text": "раз"})
    assert (story.shown, len(story.pending)) == ([], 1)

    first = await anext(story.follow())

    assert first == story.shown
    assert await log.stored(story.run_id) == first
    assert 0 < await redis.ttl(stream_key(story.run_id)) <= KEEP_SECONDS
    tell(story, 0)
    await all_of(story.follow())


async def test_several_readers_read_the_same_at_their_own_pace(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    readers = [asyncio.create_task(all_of(story.follow(after))) for after in (0, 0, 7)]
    for number in range(10):
        story.append("delta", {"text": str(number)})
        await asyncio.sleep(0.003)
    tell(story, 0)

    whole, twin, late = await asyncio.gather(*readers)

    assert whole == twin
    assert late == whole[7:]
    assert len(whole) == 11


async def test_reader_that_leaves_neither_stops_nor_slows_the_others(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    stays = asyncio.create_task(all_of(story.follow()))
    leaves = asyncio.create_task(all_of(story.follow()))
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)

    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    tell(story, 3)

    assert len(await stays) == 7
    assert len(await all_of(story.follow(2))) == 5  # and comes back


async def test_stories_do_not_mix(log: FrameLog, ended: Ended) -> None:
    stories = [Story(uuid7(), log, ended) for _ in range(30)]
    for number in range(5):
        for story in stories:
            story.append("delta", {"text": str(number)})
        await asyncio.sleep(0)
    for story in stories:
        tell(story, 0)

    told = await asyncio.gather(*[all_of(story.follow()) for story in stories])

    for story, frames in zip(stories, told, strict=True):
        assert {frame["run_id"] for frame in frames} == {str(story.run_id)}
        assert [frame["seq"] for frame in frames] == list(range(1, 7))
        assert await log.stored(story.run_id) == story.shown
    assert len(ended.stories) == 30


async def test_abandoned_story_lets_its_readers_go(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    reader = asyncio.create_task(all_of(story.follow()))
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)

    story.abandon()

    assert len(await reader) == 3
    assert ended.stories == [story]


async def test_story_abandoned_with_unwritten_frames_shows_them_first(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended)
    tell(story, 3, ends=False)

    story.abandon()

    assert len(await all_of(story.follow())) == 3
    assert ended.stories == [story]


async def test_plain_story_is_shown_whole_at_its_end_and_never_written(log: FrameLog, ended: Ended) -> None:
    story = Story(uuid7(), log, ended, is_live=False)
    tell(story, 3, ends=False)
    await asyncio.sleep(0.05)
    assert story.shown == []

    tell(story, 0)
    frames = await all_of(story.follow())

    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4]
    assert await log.stored(story.run_id) == []
    assert ended.stories == [story]


async def test_plain_story_that_is_abandoned_unwritten_is_written_for_the_sweep(
    log: FrameLog, redis: Redis, ended: Ended
) -> None:
    story = Story(uuid7(), log, ended, is_live=False)
    tell(story, 3, ends=False)

    story.abandon()

    assert len(await all_of(story.follow())) == 3
    assert len(await log.stored(story.run_id)) == 3
    assert ended.stories == [story]


async def test_another_process_follows_from_any_place(log: FrameLog, redis: Redis, ended: Ended) -> None:
    elsewhere = FrameLog(redis)
    story = Story(uuid7(), log, ended)
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)
    readers = [asyncio.create_task(all_of(elsewhere.follow(story.run_id, after))) for after in (0, 2, 5)]
    for number in range(4):
        await asyncio.sleep(0.02)
        story.append("delta", {"text": str(number)})
    tell(story, 0)

    whole, some, few = await asyncio.gather(*readers)
    await elsewhere.close()

    assert [frame["seq"] for frame in whole] == list(range(1, 9))
    assert some == whole[2:]
    assert few == whole[5:]


async def test_another_process_hears_of_silence(log: FrameLog, redis: Redis, ended: Ended) -> None:
    """An empty group each second, so that the follower can look whether the run has ended."""
    groups = log.follow(uuid7(), 0)
    async with asyncio.timeout(10):
        assert await anext(groups) == []
        assert await anext(groups) == []


async def test_readers_of_this_process_go_on_without_redis(own_redis: RedisProcess, ended: Ended) -> None:
    client = Redis.from_url(own_redis.url)
    log = FrameLog(client)
    story = Story(uuid7(), log, ended)
    reader = asyncio.create_task(all_of(story.follow()))
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)

    with capture_logs() as said:
        own_redis.stop()
        tell(story, 3, ends=False)
        await eventually(lambda: len(story.shown) == 6)
    own_redis.start()
    tell(story, 2)

    assert [frame["seq"] for frame in await reader] == list(range(1, 10))
    assert {line["event"] for line in said} == {"frames_not_kept"}
    assert ended.stories == [story]
    kept = [orjson.loads(frame)["seq"] for frame in await log.stored(story.run_id)]
    assert kept == [7, 8, 9]  # what was told while Redis was away is in the archive only
    assert await client.ttl(stream_key(story.run_id)) > 0  # and what it keeps it forgets again
    await log.close()
    await client.aclose()


async def test_reader_elsewhere_hears_that_redis_is_away_and_goes_on(
    own_redis: RedisProcess, ended: Ended
) -> None:
    clients = [Redis.from_url(own_redis.url) for _ in range(2)]
    here, elsewhere = map(FrameLog, clients)
    story = Story(uuid7(), here, ended)
    groups = aiter(elsewhere.follow(story.run_id, 0))
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)
    async with asyncio.timeout(30):
        begun = await anext(groups)

        own_redis.stop()
        with capture_logs() as said:
            away = [await anext(groups), await anext(groups)]
        own_redis.start()
    tell(story, 2)

    assert begun == story.shown[:3]
    assert away == [None, None]
    assert [frame["seq"] for frame in await all_of(groups)] == [4, 5, 6]
    assert [line["event"] for line in said] == ["frames_not_read"]
    for log, client in zip((here, elsewhere), clients, strict=True):
        await log.close()
        await client.aclose()


async def test_redis_restarted_between_two_trips_is_written_to_again(
    own_redis: RedisProcess, ended: Ended
) -> None:
    client = Redis.from_url(own_redis.url)
    log = FrameLog(client)
    story = Story(uuid7(), log, ended)
    tell(story, 3, ends=False)
    await eventually(lambda: len(story.shown) == 3)
    own_redis.stop()
    own_redis.start()

    with capture_logs() as said:
        tell(story, 2)
        await all_of(story.follow())

    assert said == []
    assert [orjson.loads(frame)["seq"] for frame in await log.stored(story.run_id)] == [4, 5, 6]
    assert await client.ttl(stream_key(story.run_id)) > 0
    await log.close()
    await client.aclose()


async def test_closing_writes_what_was_told(redis: Redis, ended: Ended) -> None:
    log = FrameLog(redis)
    stories = [Story(uuid7(), log, ended) for _ in range(20)]
    for story in stories:
        tell(story, 5)
    await asyncio.sleep(0)  # the writer is in the middle of its trip

    await log.close()

    assert len(ended.stories) == 20
    assert {len(story.shown) for story in stories} == {6}


def test_blob_of_frames_is_cut_at_line_ends_only() -> None:
    blob = orjson.dumps({"text": "раз\nдва\r\u2028три"}) + b"\n" + b'{"a":1}\n'

    assert lines(blob) == [orjson.dumps({"text": "раз\nдва\r\u2028три"}) + b"\n", b'{"a":1}\n']
    assert lines(b"") == []


@pytest.mark.parametrize(
    ("type_", "facts", "terminal"),
    [
        ("run.finished", {}, True),
        ("error", {"code": "worker_lost"}, True),
        ("delta", {"text": '"type":"error"'}, False),
        ("settled", {"note": "run.finished"}, False),
    ],
)
async def test_terminal_frame_is_known_by_its_type(
    log: FrameLog, ended: Ended, type_: str, facts: dict[str, Any], terminal: bool
) -> None:
    story = Story(uuid7(), log, ended)

    (frame,) = story.drafted([(type_, facts)])

    assert is_terminal(frame) is terminal
