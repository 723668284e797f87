"""The central bank's list: its form, its days, its faults."""

from xml.etree import ElementTree

import httpx
import pytest

from tests import web
from tests.sandbox_process import SandboxProcess

PATH = "/cbr/scripts/XML_daily.asp"


def asked(browser: httpx.Client, day: str = "20/11/2026") -> ElementTree.Element:
    answer = browser.get(PATH, params={"date_req": day})
    assert answer.status_code == 200
    return _read(answer)


def _read(answer: httpx.Response) -> ElementTree.Element:
    return ElementTree.fromstring(answer.content)  # noqa: S314 - our own sandbox


def test_list_is_written_as_the_bank_writes_it(browser: httpx.Client) -> None:
    answer = browser.get(PATH, params={"date_req": "20/11/2026"})

    assert answer.content.startswith(
        b'<?xml version="1.0" encoding="windows-1251"?><ValCurs Date="20.11.2026"'
    )
    assert "Доллар США".encode("windows-1251") in answer.content
    rows = {row.findtext("CharCode"): row for row in _read(answer)}
    assert (rows["USD"].findtext("Nominal"), rows["USD"].findtext("Value")) == ("1", "95,1234")
    assert rows["JPY"].findtext("Nominal") == "100"


@pytest.mark.parametrize(
    ("day", "set_on"),
    [("21/11/2026", "21.11.2026"), ("22/11/2026", "21.11.2026"), ("23/11/2026", "21.11.2026")],
)
def test_no_list_is_set_for_sunday_and_monday(browser: httpx.Client, day: str, set_on: str) -> None:
    assert asked(browser, day).get("Date") == set_on


def test_day_that_is_none_is_told(browser: httpx.Client) -> None:
    assert asked(browser, "2026-11-20").text == "Error in parameters"


def test_list_without_a_day_is_todays(browser: httpx.Client) -> None:
    assert len(list(_read(browser.get(PATH)))) >= 4


def test_rates_are_set_by_control_and_shown(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    sandbox.control("cbr", {"rates": {"XTS": "1,5000"}, "nominal": 10})

    rows = {row.findtext("CharCode"): row for row in asked(browser)}
    assert (rows["XTS"].findtext("Nominal"), rows["XTS"].findtext("Value")) == ("10", "1,5000")
    assert "1,5000 ₽ за 10" in browser.get("/cbr").text


def test_fault_spoils_as_many_answers_as_asked(sandbox: SandboxProcess, browser: httpx.Client) -> None:
    sandbox.control("cbr", {"fault": "down", "times": 2})

    statuses = [browser.get(PATH).status_code for _ in range(3)]

    assert statuses == [503, 503, 200]


@pytest.mark.parametrize(
    "body", [{"fault": "none-such"}, {"rates": {"USD": "95.1"}}, {"rates": {"usd": "1,0000"}}]
)
def test_control_refuses_what_the_bank_would_not_write(
    sandbox: SandboxProcess, body: dict[str, object]
) -> None:
    assert web.post(f"{sandbox.url}/control/cbr", json=body).status_code == 400
