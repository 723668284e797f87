"""Puts the parts together into one ASGI application and starts and stops what runs in the background.

Called by `server`. The chat completions call is answered before any routing; everything else is ordinary
Starlette.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from sandbox.cbr.daily import DailyRates
from sandbox.cbr.rates import Rates
from sandbox.clock import Clock
from sandbox.control import Control
from sandbox.html import Markup, page
from sandbox.index import IndexPage
from sandbox.mail.messages import Mailbox
from sandbox.mail.pages import MailboxPages
from sandbox.openai.calls import Calls
from sandbox.openai.door import ChatDoor
from sandbox.openai.errors import ProviderError
from sandbox.openai.models_api import ModelsApi
from sandbox.options import Options
from sandbox.store import open_store
from sandbox.yookassa.api import YooKassaApi
from sandbox.yookassa.hosted import HostedPage
from sandbox.yookassa.keys import Keys
from sandbox.yookassa.notifications import Notifier
from sandbox.yookassa.scripts import Scripts
from sandbox.yookassa.shop import Shop

CHAT_PATH = "/openai/v1/chat/completions"
STATIC = Path(__file__).parent / "static"
EXPIRY_SECONDS = 30


class Application:
    """Sends the chat call to its door and everything else to Starlette."""

    def __init__(self, chat: ChatDoor, rest: Starlette) -> None:
        self._chat = chat
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CHAT_PATH:
            await self._chat(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The application with the parts that the process itself needs."""

    app: Application
    clock: Clock
    mailbox: Mailbox
    store: sqlite3.Connection


def build(options: Options, *, base_url: str) -> Sandbox:
    """Open the state and wire every part; `base_url` is what pages and payments call this process."""
    store = open_store(options.data_path)
    clock, scripts, calls, rates = Clock(), Scripts(), Calls(), Rates()
    notifier = Notifier(store, clock, scripts, options.webhook_url)
    shop = Shop(store, clock, notifier, base_url)
    mailbox = Mailbox(store, clock)
    control = Control(
        shop=shop, scripts=scripts, notifier=notifier, calls=calls, mailbox=mailbox, rates=rates
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        notifier.start()
        expiry = asyncio.create_task(_expire(shop))
        yield
        expiry.cancel()
        await notifier.stop()
        store.close()

    rest = Starlette(
        routes=[
            *IndexPage(shop, calls, mailbox).routes(),
            *HostedPage(shop).routes(),
            Mount("/yookassa/v3", YooKassaApi(shop, Keys(store, clock), scripts).app()),
            *ModelsApi(calls).routes(),
            *MailboxPages(mailbox).routes(),
            *DailyRates(rates, clock).routes(),
            *control.routes(),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
        exception_handlers={404: _not_found},
    )
    return Sandbox(app=Application(ChatDoor(calls, clock), rest), clock=clock, mailbox=mailbox, store=store)


async def _not_found(request: Request, _error: Exception) -> Response:
    """Answer an unknown path: in OpenAI's shape under its prefix, else with a page."""
    if request.url.path.startswith("/openai/v1"):
        error = ProviderError(404, "unknown_url", f"Unknown request URL: {request.method}.")
        return Response(error.body(), status_code=error.status, media_type="application/json")
    body = Markup('<h1>Страницы нет</h1><p><a href="/">На главную песочницы</a></p>')
    return page("Страницы нет", body, status_code=404)


async def _expire(shop: Shop) -> None:
    """End payments whose time is over even when nobody looks at them."""
    while await shop.clock.sleep(EXPIRY_SECONDS):
        shop.expire_due()
