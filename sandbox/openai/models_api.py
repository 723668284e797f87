"""GET /models of the provider and the page that lists the last calls.

Routes for `app`; the chat call itself is in `door`.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.clock import iso
from sandbox.html import Markup, fill, join, page
from sandbox.openai import door, models
from sandbox.openai.calls import Call, Calls
from sandbox.openai.errors import bad_key

CREATED = 1_790_000_000
SHOWN_CALLS = 100

CALLS = """<h1>Вызовы моделей</h1>
<p class="note">Последние {shown} из {total}. Тексты запросов здесь не показаны: их видно через
<a href="/control/provider/calls">управляющий API</a>.</p>
{table}
<section class="card"><h2>Модели-неисправности</h2>
<p class="note">Имя модели выбирает, что сломается.
<span class="mono">bench-20</span> отвечает ровно двадцатью частями.</p>
<dl class="facts wide">{faults}</dl></section>
"""


class ModelsApi:
    """The calm half of the provider."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/openai/v1/models", self._models, methods=["GET"]),
            Route("/openai/calls", self._page, methods=["GET"]),
        ]

    async def _models(self, request: Request) -> Response:
        if door.key_of(request.scope["headers"]) is None:
            error = bad_key()
            return Response(error.body(), status_code=error.status, media_type="application/json")
        data = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "sandbox"}
            for name in models.names()
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _page(self, _request: Request) -> Response:
        calls = list(self._calls.find(model=None, contains=None))[:SHOWN_CALLS]
        faults = join(
            fill('<div><dt class="mono">{name}</dt><dd>{what}</dd></div>', name=name, what=what)
            for name, what in models.FAULTS.items()
        )
        rows = join(_row(call) for call in calls)
        table = fill(
            '<div class="scroll">'
            '<table class="stack"><thead><tr>'
            "<th>Время</th><th>Модель</th><th>Вид</th><th>Ключ</th><th>Конец</th></tr></thead>"
            "<tbody>{rows}</tbody></table></div>",
            rows=rows,
        )
        empty = fill(
            '<p class="card empty" data-test="empty">{text}</p>', text="Моделей ещё никто не спрашивал."
        )
        body = fill(
            CALLS, shown=len(calls), total=self._calls.total, table=table if calls else empty, faults=faults
        )
        return page("Вызовы моделей", body, path="/openai/calls")


def _row(call: Call) -> Markup:
    tone = {"finished": "ok", "running": "wait"}.get(call.state, "bad")
    return fill(
        '<tr><td class="nowrap" data-label="Время">{at}</td><td class="mono" data-label="Модель">{model}</td>'
        '<td data-label="Вид">{kind}</td><td class="mono" data-label="Ключ">{key}</td>'
        '<td data-label="Конец"><span class="pill {tone}">{state}</span></td></tr>',
        at=iso(call.at)[:19].replace("T", " "),
        model=call.model,
        kind="поток" if call.is_streamed else "целиком",
        key=call.key,
        tone=tone,
        state=STATES.get(call.state, call.state),
    )


STATES = {
    "running": "идёт",
    "finished": "отвечено",
    "refused": "отказ",
    "cut": "обрыв",
    "disconnected": "клиент ушёл",
}
