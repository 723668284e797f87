"""The day's rates: read strictly, checked, added all or none, once a day. The bank is the sandbox's."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import product
from string import ascii_uppercase

import pytest
import structlog
from pytest_django import Settings

from auditlog.models import JobRun
from billing import cbr, queries, rates, tasks
from billing.models import FxRate
from plyrum.errors import AdapterError
from plyrum.ids import uuid7
from tests.sandbox_process import SandboxProcess

# Currencies that nobody sells in, one for each test: rates are never taken back.
CODES = (f"Z{first}{second}" for first, second in product(ascii_uppercase, repeat=2))
FRIDAY = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
LIST = """<?xml version="1.0" encoding="windows-1251"?>
<ValCurs Date="20.11.2026" name="Foreign Currency Market">
<Valute ID="R01235"><NumCode>840</NumCode><CharCode>USD</CharCode><Nominal>1</Nominal>
<Name>Доллар США</Name><Value>95,1234</Value><VunitRate>95,1234</VunitRate></Valute>
<Valute ID="R01820"><NumCode>392</NumCode><CharCode>JPY</CharCode><Nominal>100</Nominal>
<Name>Иен</Name><Value>63,0512</Value><VunitRate>0,630512</VunitRate></Valute>
<Valute ID="R01150"><NumCode>704</NumCode><CharCode>VND</CharCode><Nominal>10000</Nominal>
<Name>Донгов</Name><Value>37,4821</Value><VunitRate>0,00374821</VunitRate></Valute>
</ValCurs>"""


class Bank:
    """The sandbox's bank as one test sees it: a currency of its own, and faults."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self._sandbox = sandbox
        self.currency = next(CODES)
        self.set("80,0000")

    def set(self, value: str, nominal: int = 1) -> None:
        self._sandbox.control("cbr", {"rates": {self.currency: value}, "nominal": nominal})

    def spoil(self, fault: str) -> None:
        self._sandbox.control("cbr", {"fault": fault})

    def rows(self) -> list[tuple[date, int]]:
        found = FxRate.objects.filter(currency=self.currency).order_by("rate_date", "id")
        return list(found.values_list("rate_date", "micro_rub"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def bank(sandbox: SandboxProcess, settings: Settings) -> Bank:
    bank = Bank(sandbox)
    settings.PLYRUM_FX_BASE_URL = f"{sandbox.url}/cbr/scripts"
    settings.PLYRUM_FX_CURRENCIES = [bank.currency]
    return bank


def test_list_is_read_to_the_micro_for_one_unit_rounded_up() -> None:
    listed = cbr.parse(LIST.encode("windows-1251"))

    assert listed.set_on == date(2026, 11, 20)
    assert listed.micro_rub == {"USD": 95_123_400, "JPY": 630_512, "VND": 3_749}


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("95,1234<", "95.1234<"),
        ("95,1234<", "1 095,1234<"),
        ("95,1234<", "-95,1234<"),
        ("95,1234<", "95,12345678<"),
        ("95,1234<", "<"),
        ("<Nominal>1<", "<Nominal>0<"),
        ("<Nominal>1<", "<Nominal>1,5<"),
        ("<Nominal>1</Nominal>", ""),
        ("USD", "usd"),
        ("USD", "JPY"),
        ("20.11.2026", "2026-11-20"),
        ("20.11.2026", "31.02.2026"),
        (' Date="20.11.2026"', ""),
        ("ValCurs", "html"),
        ("</ValCurs>", ""),
        ("<ValCurs", '<!DOCTYPE a [<!ENTITY b "b">]><ValCurs'),
        ("<ValCurs", "<!-- a --><ValCurs"),
    ],
)
def test_list_that_the_bank_would_not_write_is_refused(was: str, becomes: str) -> None:
    assert was in LIST

    with pytest.raises(ValueError):
        cbr.parse(LIST.replace(was, becomes).encode("windows-1251"))


@pytest.mark.parametrize("raw", [b"", b"\x98", LIST.encode("utf-16"), b"<html><body>"])
def test_bytes_that_are_no_list_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        cbr.parse(raw)


def test_rate_of_the_day_is_added_once(bank: Bank) -> None:
    assert [rates.refresh(now=FRIDAY), rates.refresh(now=FRIDAY)] == [{"added": 1}, {"added": 0}]

    assert bank.rows() == [(date(2026, 11, 20), 80_000_000)]
    row = queries.current_rates()[bank.currency]
    assert (row.source, row.micro_rub) == ("cbr", 80_000_000)


def test_day_is_moscows(bank: Bank) -> None:
    rates.refresh(now=datetime(2026, 11, 20, 21, 30, tzinfo=UTC))

    assert bank.rows() == [(date(2026, 11, 21), 80_000_000)]


def test_day_without_a_list_of_its_own_has_the_last_one(bank: Bank) -> None:
    """On Monday the bank answers Saturday's list: it is in force, and the row says for which day."""
    rates.refresh(now=datetime(2026, 11, 23, 9, 0, tzinfo=UTC))

    assert bank.rows() == [(date(2026, 11, 23), 80_000_000)]


def test_price_of_many_units_becomes_that_of_one(bank: Bank) -> None:
    bank.set("63,0512", nominal=100)

    rates.refresh(now=FRIDAY)

    assert bank.rows() == [(date(2026, 11, 20), 630_512)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("down", "status 503"),
        ("redirect", "status 307"),
        ("garbage", "broken answer"),
        ("huge", "bytes"),
        ("old-date", "the list is of 2026-10-21"),
        ("future-date", "the list is of 2026-11-22"),
        ("zero", "has no rate"),
        ("missing", "has no rate"),
        ("jump", "jumps from 80000000 to 161000000"),
    ],
)
def test_answer_that_looks_wrong_adds_nothing_and_is_logged(bank: Bank, fault: str, words: str) -> None:
    rates.refresh(now=datetime(2026, 11, 19, 9, 0, tzinfo=UTC))
    known = bank.rows()
    bank.spoil(fault)

    with structlog.testing.capture_logs() as said, pytest.raises(rates.RatesRefusedError, match=words):
        rates.refresh(now=FRIDAY)

    assert bank.rows() == known
    assert [(line["event"], line["log_level"]) for line in said] == [("rates_refused", "error")]
    assert words in said[0]["reason"]


def test_bank_that_cannot_be_reached_adds_nothing(bank: Bank, settings: Settings) -> None:
    settings.PLYRUM_FX_BASE_URL = "http://127.0.0.1:9"

    with pytest.raises(rates.RatesRefusedError, match="cbr: ConnectError"):
        rates.refresh(now=FRIDAY)

    assert bank.rows() == []


@pytest.mark.parametrize(
    ("value", "is_taken"), [("88,0000", True), ("88,0001", False), ("72,0000", True), ("71,9999", False)]
)
def test_step_up_to_the_limit_is_taken(bank: Bank, value: str, is_taken: bool) -> None:
    rates.refresh(now=datetime(2026, 11, 19, 9, 0, tzinfo=UTC))
    bank.set(value)

    if is_taken:
        assert rates.refresh(now=FRIDAY) == {"added": 1}
    else:
        with pytest.raises(rates.RatesRefusedError, match="jumps"):
            rates.refresh(now=FRIDAY)


def test_one_currency_that_looks_wrong_keeps_all_out(bank: Bank, settings: Settings) -> None:
    settings.PLYRUM_FX_CURRENCIES = [bank.currency, next(CODES)]

    with pytest.raises(rates.RatesRefusedError, match="has no rate"):
        rates.refresh(now=FRIDAY)

    assert bank.rows() == []


def test_adapter_tells_a_wrong_list_as_its_failure(bank: Bank) -> None:
    bank.spoil("garbage")

    with pytest.raises(AdapterError, match="broken answer") as failure:
        cbr.fetch(FRIDAY.date())

    assert failure.value.retryable


def test_job_adds_the_rates_once_a_slot(bank: Bank) -> None:
    slot = str(uuid7())

    assert [tasks.refresh_rates(slot=slot), tasks.refresh_rates(slot=slot)] == ["done", "skipped"]

    assert len(bank.rows()) == 1
    assert JobRun.objects.get(name="billing.refresh_rates", slot=slot).counts == {"added": 1}


def test_job_that_failed_is_tried_again_in_its_slot(bank: Bank) -> None:
    slot = str(uuid7())
    bank.spoil("down")

    with pytest.raises(rates.RatesRefusedError):
        tasks.refresh_rates(slot=slot)
    run = JobRun.objects.get(name="billing.refresh_rates", slot=slot)
    assert (run.outcome, run.detail) == ("failed", "RatesRefusedError: cbr: status 503")

    assert tasks.refresh_rates(slot=slot) == "done"
    assert len(bank.rows()) == 1
