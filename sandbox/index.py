"""The first page of the sandbox: where everything is, with which keys, and the test cards.

Routes for `app`.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandbox.html import fill, page
from sandbox.mail.messages import Mailbox
from sandbox.openai.calls import Calls
from sandbox.openai.door import KEYS
from sandbox.yookassa import pages
from sandbox.yookassa.requests import ListQuery
from sandbox.yookassa.shapes import SECRET_KEY, SHOP_ID
from sandbox.yookassa.shop import Shop

EVERYTHING = ListQuery(conditions=(), values=(), limit=100, before_seq=None)
BODY = """<h1>Внешний мир на этом компьютере</h1>
<p class="lead">Приложение обращается сюда вместо ЮKassa, поставщиков моделей, Банка России и почтового
сервера и не знает, что это песочница.</p>
<ul class="tiles">
<li><a href="/yookassa/payments"><b>Платежи</b><span>{payments}</span></a></li>
<li><a href="/mailbox"><b>Почта</b><span>{letters}</span></a></li>
<li><a href="/openai/calls"><b>Вызовы моделей</b><span>{calls}</span></a></li>
<li><a href="/cbr"><b>Курсы</b><span>как у Банка России</span></a></li>
</ul>
<section class="card"><h2>Адреса и ключи</h2>
<dl class="facts wide">
<div><dt>ЮKassa</dt><dd class="mono">{base}/yookassa/v3</dd></div>
<div><dt>Магазин и секрет</dt><dd class="mono">{shop} / {secret}</dd></div>
<div><dt>Модели</dt><dd class="mono">{base}/openai/v1</dd></div>
<div><dt>Ключи моделей</dt><dd class="mono">{keys}</dd></div>
<div><dt>Курсы</dt><dd class="mono">{base}/cbr/scripts</dd></div>
<div><dt>Управление для тестов</dt><dd class="mono">{base}/control/…</dd></div>
</dl></section>
<section class="card"><h2>Тестовые карты</h2>
<p class="note">Срок — любой будущий, код — любой. Остальные номера с верной контрольной цифрой получают
<span class="mono">general_decline</span>.</p>
{cards}</section>
"""


class IndexPage:
    """`/`."""

    def __init__(self, shop: Shop, calls: Calls, mailbox: Mailbox) -> None:
        self._shop = shop
        self._calls = calls
        self._mailbox = mailbox

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/", self._page, methods=["GET"])]

    async def _page(self, _request: Request) -> Response:
        payments, more = self._shop.payments(EVERYTHING)
        body = fill(
            BODY,
            payments=f"всего {len(payments)}{' и больше' if more else ''}",
            letters=f"всего {len(self._mailbox.letters())}",
            calls=f"всего {self._calls.total}",
            base=self._shop.base_url,
            shop=SHOP_ID,
            secret=SECRET_KEY,
            keys=", ".join(KEYS.values()),
            cards=pages.card_table(),
        )
        return page("Песочница Plyrum", body)
