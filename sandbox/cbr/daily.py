"""The bank's door, `/cbr/scripts/XML_daily.asp?date_req=dd/mm/yyyy`, and a page with the same rates.

Routes for `app`. The list is XML in windows-1251, as the bank publishes it.
"""

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.cbr.rates import FAULTS, Rate, Rates, set_on
from sandbox.clock import Clock
from sandbox.html import fill, join, page

ENCODING = "windows-1251"
HUGE_BYTES = 2 * 1024 * 1024
BODY = """<h1>Курсы Банка России</h1>
<p class="lead">Приложение читает их раз в день. В песочнице курс один на все дни.</p>
<section class="card"><h2>Курсы</h2><dl class="facts wide">{rates}</dl></section>
<section class="card"><h2>Сбои</h2>
<p class="note">Для тестов: POST <span class="mono">/control/cbr</span>.</p>
<dl class="facts wide">{faults}</dl></section>
"""
FACT = '<div><dt class="mono">{name}</dt><dd>{text}</dd></div>'


class DailyRates:
    """`/cbr` and the XML."""

    def __init__(self, rates: Rates, clock: Clock) -> None:
        self._rates = rates
        self._clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/cbr", self._page, methods=["GET"]),
            Route("/cbr/scripts/XML_daily.asp", self._list, methods=["GET"]),
        ]

    async def _page(self, _request: Request) -> Response:
        rates = (
            fill(FACT, name=code, text=f"{rate.value} ₽ за {rate.nominal}, {rate.name}")
            for code, rate in self._rates.by_code.items()
        )
        faults = (fill(FACT, name=name, text=text) for name, text in FAULTS.items())
        return page("Курсы", fill(BODY, rates=join(rates), faults=join(faults)), path="/cbr")

    async def _list(self, request: Request) -> Response:
        try:
            day = self._day(request.query_params.get("date_req"))
        except ValueError:
            return _xml("<ValCurs>Error in parameters</ValCurs>")
        fault = self._rates.faults.pop(0) if self._rates.faults else ""
        if fault == "down":
            return Response("<html>Service Unavailable</html>", status_code=503, media_type="text/html")
        if fault == "redirect":
            return RedirectResponse("/cbr")
        if fault == "garbage":
            return await self._page(request)
        if fault == "huge":
            return _xml(f"<ValCurs>{' ' * HUGE_BYTES}</ValCurs>")
        return _xml(_document(day, self._rates.by_code, fault))

    def _day(self, text: str | None) -> date:
        """The day asked for, or today. Raises ValueError."""
        if text is None:
            return datetime.fromtimestamp(self._clock.now(), UTC).date()
        return datetime.strptime(text, "%d/%m/%Y").replace(tzinfo=UTC).date()


def _document(day: date, rates: Mapping[str, Rate], fault: str) -> str:
    shift = {"old-date": -30, "future-date": 2}.get(fault, 0)
    shown = (set_on(day) if not shift else day + timedelta(days=shift)).strftime("%d.%m.%Y")
    rows = "" if fault == "missing" else "".join(_row(code, rate, fault) for code, rate in rates.items())
    return f'<ValCurs Date="{shown}" name="Foreign Currency Market">{rows}</ValCurs>'


def _row(code: str, rate: Rate, fault: str) -> str:
    whole, _, decimals = rate.value.partition(",")
    if fault == "zero":
        whole, decimals = "0", "0000"
    if fault == "jump":
        whole = str(int(whole) * 2 + 1)
    return (
        f'<Valute ID="{code}"><NumCode>000</NumCode><CharCode>{code}</CharCode>'
        f"<Nominal>{rate.nominal}</Nominal><Name>{html.escape(rate.name)}</Name>"
        f"<Value>{whole},{decimals}</Value></Valute>"
    )


def _xml(content: str) -> Response:
    text = f'<?xml version="1.0" encoding="{ENCODING}"?>{content}'
    return Response(text.encode(ENCODING), media_type="application/xml")
