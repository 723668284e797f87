"""The frames of a run as events of the chat page. The contract stands on top of `static/plyrum/js/chat.js`.

What is told depends on the frames alone, so a reader who comes back with `after_seq` gets exactly the events
it has not seen. Reads nothing and writes nothing: frames come in, text for the wire goes out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from django.utils import translation
from django.utils.translation import gettext as _

from orchestration.frames import Groups
from playground import words
from playground.markdown import BlockStream

TAIL_EVERY_SECONDS = 0.05
RETRY_MS = 1000

Facts = dict[str, Any]


class Event(NamedTuple):
    """`id` is the number of the frame; None for an event that must come again if the last one of its frame
    did not arrive."""

    name: str
    data: Facts
    id: int | None

    def wire(self) -> str:
        number = "" if self.id is None else f"id: {self.id}\n"
        return f"event: {self.name}\n{number}data: {orjson.dumps(self.data).decode()}\n\n"


class Retelling:
    """Turns frames, in order from the first, into events."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.blocks = BlockStream()
        self._labels = labels
        self.seq = 0
        self.ended = False
        self._is_thinking = False

    def tell(self, frames: Sequence[bytes], after_seq: int, language: str) -> list[Event]:
        """Events of `frames` for a reader who has seen everything up to `after_seq`."""
        told: list[Event] = []
        with translation.override(language):
            for line in frames:
                frame = orjson.loads(line)
                events = list(self._events(frame))
                self.seq = frame["seq"]
                if self.seq > after_seq:
                    told += events
        return told

    def _events(self, frame: Facts) -> Iterator[Event]:
        seq = frame["seq"]
        was_thinking, self._is_thinking = self._is_thinking, frame["type"] == "reasoning"
        match frame["type"]:
            case "delta":
                html = self.blocks.feed(frame["text"])
                if html:
                    yield Event("html.block", {"html": html}, seq)
            case "reasoning":
                if not was_thinking:
                    yield Event("status", {"text": _("Думает…")}, seq)
            case "run.accepted":
                yield Event("status", {"text": words.held(frame["hold_micro_rub"])}, seq)
            case "route":
                facts = {name: frame[name] for name in ("provider", "country", "reasons")}
                model = self._labels.get(frame["model"], frame["model"])
                yield Event("route", {"model": model, **facts}, seq)
            case "fallback":
                yield Event("status", {"text": _("Модель не ответила, спрашиваем запасную")}, seq)
            case "settled":
                yield Event("price", _price(frame), seq)
            case "ping":
                yield Event("ping", {}, seq)
            case "run.finished" | "error":
                yield from self._end(frame)

    def _end(self, frame: Facts) -> Iterator[Event]:
        self.ended = True
        html = self.blocks.finish()
        if html:
            yield Event("html.block", {"html": html}, None)
        if frame["type"] == "run.finished":
            yield Event("finished", {"finish_reason": frame["finish_reason"]}, frame["seq"])
            return
        charged = frame["charged_micro_rub"]
        facts = {"code": frame["code"], "text": words.failure(frame["code"], charged)}
        yield Event("failed", facts | {"charged_micro_rub": charged}, frame["seq"])


async def stream(
    groups: Groups,
    *,
    after_seq: int,
    language: str,
    labels: Mapping[str, str],
    ending: Callable[[], Awaitable[Facts | None]],
) -> AsyncIterator[str]:
    """Text of the event stream for `groups`, which must begin with the first frame.

    `labels` are the models' names by id. `ending` answers what the last event says besides: {message_url,
    thread_cost_text}, or None while the run is not settled. A story that is no longer kept ends with
    `finished`, so that the page asks for the whole message; one that its process has abandoned just stops,
    and the page comes back until the sweep ends it.
    """
    yield f"retry: {RETRY_MS}\n\n"
    story = Retelling(labels)
    shown, next_tail_at = "", 0.0
    loop = asyncio.get_running_loop()
    async for group in groups:
        if group is None:
            continue
        # In a thread: a long block of code takes longer to colour than other requests should wait.
        events = await asyncio.to_thread(story.tell, group, after_seq, language)
        if story.ended and events:
            events[-1] = events[-1]._replace(data=events[-1].data | (await ending() or {}))
        if events:
            yield "".join(event.wire() for event in events)
        if story.ended:
            return
        if story.blocks.tail != shown:
            # The pause is the rhythm: what arrives meanwhile is waiting in the next group.
            await asyncio.sleep(max(0.0, next_tail_at - loop.time()))
            shown, next_tail_at = story.blocks.tail, loop.time() + TAIL_EVERY_SECONDS
            yield Event("html.tail", {"text": shown}, story.seq).wire()
    last = await ending()
    if last is not None:
        yield Event("finished", {"finish_reason": "unknown"} | last, None).wire()


def _price(frame: Facts) -> Facts:
    cost, released = frame["cost_micro_rub"], frame["released_micro_rub"]
    return {
        "cost_micro_rub": cost,
        "released_micro_rub": released,
        "balance_micro_rub": frame["balance_micro_rub"],
        "text": words.price(cost, released),
    }
