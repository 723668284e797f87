"""Frames retold as events: complete, in order, and continued exactly where a reader left."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from orchestration.frames import Groups
from playground import chat_views, events
from playground.events import Event, Retelling
from plyrum.errors import Unavailable
from tests.playground.conftest import parsed

TEXT = ["# Ответ\n", "\nПервый ", "абзац.\n", "\n- раз\n- два\n", "\nконец"]


def _frames(*, error: str = "", charged: int = 0) -> list[bytes]:
    story: list[dict[str, Any]] = [
        {"type": "run.accepted", "mode": "single", "estimate_micro_rub": 1, "hold_micro_rub": 3_100_000},
        {"type": "route", "model": "m/a", "provider": "P", "country": "RU", "reasons": ["named"]},
        {"type": "stage.started", "stage": "final", "role": "answer", "index": 0, "model": "m/a"},
        {"type": "fallback", "stage": "final", "from": "m/a", "to": "m/b", "class": "overloaded"},
        {"type": "route", "model": "m/b", "provider": "P", "country": "RU", "reasons": ["score"]},
        {"type": "reasoning", "text": "думаю"},
        {"type": "reasoning", "text": "ещё"},
        *({"type": "delta", "text": part} for part in TEXT),
        {"type": "ping"},
        {"type": "usage", "usage": {}},
        {
            "type": "settled",
            "cost_micro_rub": charged,
            "released_micro_rub": 5,
            "balance_micro_rub": 7,
            "ledger_entry_id": None,
        },
        {"type": "error", "code": error, "retryable": True, "charged_micro_rub": charged}
        if error
        else {"type": "run.finished", "finish_reason": "stop"},
    ]
    return [orjson.dumps({"seq": number, **frame}) for number, frame in enumerate(story, start=1)]


def _told(frames: list[bytes], after_seq: int = 0) -> list[Event]:
    return Retelling({"m/a": "Модель А"}).tell(frames, after_seq, "ru")


def test_story_is_retold_in_order() -> None:
    told = _told(_frames(charged=310_000))

    assert [event.name for event in told] == [
        "status", "route", "status", "route", "status", "html.block", "html.block", "ping", "price",
        "html.block", "finished",
    ]  # fmt: skip
    assert told[0].data["text"] == "В резерве до 3,10\u00a0₽"
    assert told[1].data == {"model": "Модель А", "provider": "P", "country": "RU", "reasons": ["named"]}
    assert told[4].data["text"] == "Думает…"
    assert told[8].data["cost_micro_rub"] == 310_000
    assert told[8].data["text"].startswith("Списано 0,31\u00a0₽")
    blocks = "".join(event.data["html"] for event in told if event.name == "html.block")
    assert blocks.startswith("<h1>Ответ</h1>\n<p>Первый абзац.</p>")
    assert blocks.endswith("<p>конец</p>\n")


@pytest.mark.parametrize("after_seq", range(16))
def test_reader_who_comes_back_gets_exactly_the_rest(after_seq: int) -> None:
    whole, frames = _told(_frames()), _frames()

    rest = _told(frames, after_seq)

    seen = [event for event in whole if event.id is not None and event.id <= after_seq]
    assert whole == seen + rest


def test_last_event_comes_again_until_it_has_arrived() -> None:
    told = _told(_frames())

    assert [(event.name, event.id) for event in told[-2:]] == [("html.block", None), ("finished", 16)]


@pytest.mark.parametrize(
    ("code", "charged", "words"),
    [
        ("overloaded", 0, "Деньги не списаны"),
        ("context_too_long", 0, "не помещается"),
        ("content_blocked", 0, "отказалась"),
        ("request_invalid", 0, "не приняла"),
        ("empty_answer", 0, "пустотой"),
        ("stream_broken", 420_000, "Списано 0,42\u00a0₽ за полученную часть"),
    ],
)
def test_failure_says_what_was_charged(code: str, charged: int, words: str) -> None:
    last = _told(_frames(error=code, charged=charged))[-1]

    assert (last.name, last.data["code"], last.data["charged_micro_rub"]) == ("failed", code, charged)
    assert words in last.data["text"]


async def _groups(*groups: list[bytes] | None) -> Groups:
    for group in groups:
        yield group


async def _wire(groups: Groups, ending: dict[str, Any] | None, after_seq: int = 0) -> str:
    async def answer() -> dict[str, Any] | None:
        return ending

    return "".join(
        [
            part
            async for part in events.stream(
                groups, after_seq=after_seq, language="ru", labels={}, ending=answer
            )
        ]
    )


async def test_unfinished_block_is_shown_as_plain_text() -> None:
    frames = _frames()

    text = await _wire(_groups(frames[:9], None, frames[9:12], None, frames[12:]), {"message_url": "/m"})

    assert text.startswith("retry: ")
    told = parsed(text)
    tails = [event.data["text"] for event in told if event.name == "html.tail"]
    assert tails == ["# Ответ\n\nПервый ", "- раз\n- два\n\nконец"]
    assert told[-1].name == "finished"
    assert told[-1].data == {"finish_reason": "stop", "message_url": "/m"}


async def test_story_that_is_no_longer_kept_asks_for_the_whole_message() -> None:
    (last,) = parsed(await _wire(_groups(), {"message_url": "/m"}))

    assert (last.name, last.data["message_url"]) == ("finished", "/m")


async def test_story_that_cannot_be_read_now_just_stops_too() -> None:
    async def told() -> AsyncIterator[str]:
        yield "event"
        raise Unavailable("The frames of this run cannot be read now.")

    assert [part async for part in chat_views._unhurried(told())] == ["event"]


async def test_abandoned_story_just_stops_until_the_sweep_has_ended_it() -> None:
    told = parsed(await _wire(_groups(_frames()[:3]), None))

    assert [event.name for event in told] == ["status", "route"]
