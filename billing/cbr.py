"""The adapter of the Bank of Russia: the official rates of a day.

Called by `rates.refresh`, never inside a transaction. Knows no tables. Source: the bank's list in XML
(`XML_daily.asp`, November 2026): windows-1251, decimals behind a comma, a price for `Nominal` units.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from xml.etree import ElementTree

import httpx
from django.conf import settings

from billing.shapes import MICRO_PER_RUB, DailyRates
from plyrum import outbound
from plyrum.errors import AdapterError

NAME = "cbr"
ENCODING = "windows-1251"
READ_TIMEOUT_SECONDS = 15.0
MOST_BYTES = 256 * 1024  # the list takes about twelve thousand
_CODE = re.compile(r"[A-Z]{3}")
_NOMINAL = re.compile(r"[1-9][0-9]{0,6}")
_VALUE = re.compile(r"[0-9]{1,9}(,[0-9]{1,6})?")


def fetch(day: date) -> DailyRates:
    """Read the list that is in force on `day`. Raises AdapterError for no answer or one that is no list."""
    try:
        return parse(_download(day))
    except ValueError as error:
        raise AdapterError(NAME, f"broken answer: {error}", retryable=True) from error


def parse(raw: bytes) -> DailyRates:
    """Read the bank's XML strictly. Raises ValueError for anything that the bank does not write."""
    text = raw.decode(ENCODING)  # whatever the document says of itself
    if "<!" in text:  # the bank's list declares nothing, so nothing is ever expanded
        raise ValueError("a declaration where the list should be")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - see above
    except ElementTree.ParseError as error:
        raise ValueError("not XML") from error
    if root.tag != "ValCurs":
        raise ValueError("not a list of rates")
    found: dict[str, int] = {}
    for row in root.findall("Valute"):
        code = _text(row, "CharCode", _CODE)
        if code in found:
            raise ValueError(f"{code} stands there twice")
        found[code] = _micro_rub(_text(row, "Value", _VALUE), int(_text(row, "Nominal", _NOMINAL)))
    return DailyRates(_date(root.get("Date", "")), found)


def _download(day: date) -> bytes:
    """One GET: any status but 200, and a body above the bound, is no answer; redirects are not followed."""
    query = {"date_req": day.strftime("%d/%m/%Y")}
    body = b""
    try:
        with (
            outbound.client(
                base_url=settings.PLYRUM_FX_BASE_URL, read_timeout_seconds=READ_TIMEOUT_SECONDS
            ) as client,
            # Read as it comes: a packed body could be small on the way and very large afterwards.
            client.stream(
                "GET", "/XML_daily.asp", params=query, headers={"Accept-Encoding": "identity"}
            ) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise AdapterError(NAME, f"status {response.status_code}", retryable=True)
            for piece in response.iter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise AdapterError(NAME, f"more than {MOST_BYTES} bytes", retryable=True)
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise AdapterError(NAME, type(error).__name__, retryable=True) from error
    return body


def _text(row: ElementTree.Element, name: str, form: re.Pattern[str]) -> str:
    text = row.findtext(name, "")
    if not form.fullmatch(text):
        raise ValueError(f"a wrong {name}")
    return text


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%d.%m.%Y").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise ValueError("a wrong Date") from error


def _micro_rub(value: str, nominal: int) -> int:
    """Micro-RUB for one unit, rounded up: in favour of the house by less than one micro (ledger guide 2)."""
    return -(-int(Decimal(value.replace(",", ".")) * MICRO_PER_RUB) // nominal)
