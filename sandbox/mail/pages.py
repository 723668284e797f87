"""The mailbox as pages and as JSON.

Routes for `app`. Letters are shown as text only: no HTML of a letter ever reaches the browser.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.clock import iso, parse_iso
from sandbox.html import Markup, escape, fill, join, page
from sandbox.mail.messages import Letter, Mailbox
from sandbox.options import LOOPBACK_HOSTS

MAX_DIGITS = 18
LINK = re.compile(r"https?://[^\s<>\"']+")

LIST = """<h1>Почта</h1>
<form class="filter" method="get" action="/mailbox" role="search">
<label for="to">Кому</label>
<input id="to" name="to" type="email" value="{to}" placeholder="имя@пример.рф" data-test="filter-to">
<button class="secondary" data-test="filter">Показать</button>{reset}
</form>
{letters}
"""

LETTER = """<p class="back"><a href="/mailbox">← Вся почта</a></p>
<article class="card letter" data-test="letter" data-id="{id}">
<h1>{subject}</h1>
<dl class="facts"><div><dt>Кому</dt><dd>{to}</dd></div><div><dt>От кого</dt><dd>{sender}</dd></div>
<div><dt>Получено</dt><dd><time datetime="{moment}">{shown}</time></dd></div></dl>
{code}
<div class="text" data-test="text">{text}</div>
</article>
"""


class MailboxPages:
    """The reading side of the mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/mailbox", self._list, methods=["GET"]),
            Route("/mailbox/api/messages", self._json_list, methods=["GET"]),
            Route("/mailbox/api/messages/{number:int}", self._json_letter, methods=["GET"]),
            Route("/mailbox/{number:int}", self._letter, methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        to = request.query_params.get("to", "").strip()
        letters = self._mailbox.letters(to=to or None)
        reset = Markup('<a href="/mailbox">Сбросить</a>') if to else Markup()
        shown = join(_row(letter) for letter in letters)
        if letters:
            listed = fill('<ul class="letters">{shown}</ul>', shown=shown)
        else:
            text = "Для этого адреса писем нет." if to else "Писем ещё нет. Приложение шлёт их сюда по SMTP."
            listed = fill('<p class="card empty" data-test="empty">{text}</p>', text=text)
        return page("Почта песочницы", fill(LIST, to=to, reset=reset, letters=listed), path="/mailbox")

    async def _letter(self, request: Request) -> Response:
        letter = self._mailbox.letter(request.path_params["number"])
        if letter is None:
            body = Markup('<h1>Письма нет</h1><p><a href="/mailbox">Вся почта</a></p>')
            return page("Письма нет", body, path="/mailbox", status_code=404)
        code = Markup()
        if letter.code is not None:
            code = fill(
                '<p class="code"><span>Код</span> <b class="mono" data-test="code">{code}</b></p>',
                code=letter.code,
            )
        body = fill(
            LETTER,
            id=letter.id,
            subject=letter.subject or "Без темы",
            to=", ".join(letter.recipients),
            sender=letter.sender,
            moment=iso(letter.received_at),
            shown=_moment(letter),
            code=code,
            text=_linked(letter.text),
        )
        return page(letter.subject or "Письмо", body, path="/mailbox")

    async def _json_list(self, request: Request) -> Response:
        query = request.query_params
        since, after = query.get("since"), 0
        moment: float | None = None
        try:
            if since is not None and since.isdecimal():
                after = int(since[:MAX_DIGITS])
            elif since is not None:
                moment = parse_iso(since.replace(" ", "+"))
        except (ValueError, OverflowError):
            return JSONResponse({"error": "since is a message id or an ISO 8601 moment"}, status_code=400)
        letters = self._mailbox.letters(to=query.get("to"), since=moment, after=after)
        return JSONResponse({"items": [_json(letter) for letter in letters]})

    async def _json_letter(self, request: Request) -> Response:
        letter = self._mailbox.letter(request.path_params["number"])
        if letter is None:
            return JSONResponse({"error": "no such message"}, status_code=404)
        return JSONResponse(_json(letter))


def _json(letter: Letter) -> dict[str, object]:
    return {
        "id": letter.id,
        "received_at": iso(letter.received_at),
        "from": letter.sender,
        "to": list(letter.recipients),
        "subject": letter.subject,
        "text": letter.text,
        "code": letter.code,
        "links": LINK.findall(letter.text),
    }


def _row(letter: Letter) -> Markup:
    first_words = " ".join(letter.text.split())[:140]
    return fill(
        '<li data-test="letter-row"><a href="/mailbox/{id}"><span class="to">{to}</span>'
        '<time datetime="{moment}">{shown}</time><b>{subject}</b><span class="first">{words}</span></a></li>',
        id=letter.id,
        to=", ".join(letter.recipients),
        moment=iso(letter.received_at),
        shown=_moment(letter),
        subject=letter.subject or "Без темы",
        words=first_words,
    )


def _moment(letter: Letter) -> str:
    return iso(letter.received_at)[:19].replace("T", " ") + " UTC"


def _linked(text: str) -> Markup:
    """Escape the text; addresses of this machine become links, so that a letter's button can be pressed."""
    parts: list[Markup] = []
    end = 0
    for match in LINK.finditer(text):
        parts.append(escape(text[end : match.start()]))
        url = match[0].rstrip(".,;)")
        is_local = urlsplit(url).hostname in LOOPBACK_HOSTS
        parts.append(fill('<a href="{url}">{url}</a>', url=url) if is_local else escape(url))
        end = match.start() + len(url)
    parts.append(escape(text[end:]))
    return join(parts)
