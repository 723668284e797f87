"""A way to the database on which the answer to one step is lost, after the step was done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from django.db import connection
from psycopg.conninfo import make_conninfo


@dataclass
class LossyWay:
    """Cuts the connection instead of handing on the answer to the first step that names `word`."""

    conninfo: str = ""
    word: bytes = b""
    is_cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        facts = connection.settings_dict
        port = facts["PORT"] or 5432
        answers, steps = await (
            asyncio.open_unix_connection(f"{facts['HOST']}/.s.PGSQL.{port}")
            if facts["HOST"].startswith("/")
            else asyncio.open_connection(facts["HOST"] or "127.0.0.1", port)
        )
        named = asyncio.Event()

        async def hand_on_steps() -> None:
            while step := await reader.read(2**16):
                if self.word and self.word in step and not self.is_cut.is_set():
                    named.set()
                steps.write(step)

        async def hand_on_answers() -> None:
            while answer := await answers.read(2**16):
                if named.is_set():
                    self.is_cut.set()
                    break
                writer.write(answer)

        both = {asyncio.create_task(hand_on_steps()), asyncio.create_task(hand_on_answers())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            for end in (writer, steps):
                end.close()
            await asyncio.gather(*both, writer.wait_closed(), steps.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def lossy_way(conninfo: str) -> AsyncIterator[LossyWay]:
    way = LossyWay()
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    way.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield way
    finally:
        server.close()
