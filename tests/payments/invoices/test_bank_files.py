"""Bank files: what a bank writes is read, the rest is refused by its line, nothing crashes."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.invoices import bank_files
from payments.invoices.errors import WrongBankFile
from payments.invoices.seller import MADE_UP
from payments.invoices.shapes import BankFile
from tests.payments.invoices.firm import PAYER_ACCOUNT, Paid, exchange
from tests.payments.shop import RUB

OWN = MADE_UP["account"]
PAID = Paid("1500.50", "Оплата по счёту 26-000123", number="77", day="20.11.2026")
CSV_HEAD = "number;date;amount;payer_account;payer_inn;payer_name;payee_account;purpose;payer_bic;booked_on"
CSV_ROW = f'77;2026-11-20;1 500,50;{PAYER_ACCOUNT};7700000009;"ООО ""Ромашка""";{OWN};"по счёту; 26-000123";;'


def parse(content: bytes) -> BankFile:
    return bank_files.parse(content, own_account=OWN)


def edited(old: str, new: str) -> bytes:
    text = exchange(PAID, encoding="utf-8").decode()
    assert old in text
    return text.replace(old, new).encode()


@pytest.mark.parametrize("encoding", ["cp1251", "utf-8", "utf-8-sig", "cp866"])
def test_the_exchange_format_is_read_in_every_encoding(encoding: str) -> None:
    paid = Paid(PAID.amount, "Оплата по счету 26-000123", number="77", day="20.11.2026")

    file = parse(exchange(paid, encoding=encoding))

    (transfer,) = file.transfers
    assert (file.format, file.outgoing, file.foreign) == ("1c", 0, 0)
    assert (transfer.number, transfer.document_date) == ("77", date(2026, 11, 20))
    assert transfer.booked_on == date(2026, 11, 20)
    assert transfer.amount_micro_rub == 1_500_500_000
    assert (transfer.payer_account, transfer.payer_inn) == (PAYER_ACCOUNT, "7700000009")
    assert (transfer.payer_bic, transfer.purpose) == ("044525000", paid.purpose)


def test_csv_is_read_by_the_names_of_its_columns() -> None:
    for encoding in ("utf-8-sig", "cp1251"):
        (transfer,) = parse(f"{CSV_HEAD}\r\n{CSV_ROW}\r\n".encode(encoding)).transfers

        assert (transfer.number, transfer.amount_micro_rub) == ("77", 1_500_500_000)
        assert (transfer.payer_name, transfer.purpose) == ('ООО "Ромашка"', "по счёту; 26-000123")
        assert (transfer.payer_bic, transfer.booked_on) == ("", date(2026, 11, 20))


def test_outgoing_and_foreign_lines_are_counted_and_forgotten() -> None:
    outgoing = Paid("9.00", "зарплата Иванову", account=OWN, payee=PAYER_ACCOUNT)
    foreign = Paid("9.00", "26-000123", payee=PAYER_ACCOUNT)

    file = parse(exchange(outgoing, PAID, foreign, foreign))

    assert (len(file.transfers), file.outgoing, file.foreign) == (1, 1, 2)


def test_fields_come_in_any_order_and_purposes_in_parts() -> None:
    text = exchange(PAID, encoding="utf-8").decode()
    begin, rest = text.split("СекцияДокумент=Платежное поручение\r\n")
    document, end = rest.split("КонецДокумента")
    parts = "НазначениеПлатежа1=Оплата по счёту\r\nНазначениеПлатежа2=26-000123"
    lines = [line for line in reversed(document.split("\r\n")) if line]
    lines = [parts if line.startswith("НазначениеПлатежа=") else line for line in lines]
    mixed = begin + "СекцияДокумент=Платежное поручение\r\n" + "\r\n".join(lines) + "\r\nКонецДокумента" + end

    assert parse(mixed.encode()).transfers == parse(exchange(PAID)).transfers


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 0), (b"\xff\xfe\x00", 0), (b"PK\x03\x04", 0), (b"1CClientBankExchange\r\n", 0),
        (edited("КонецФайла", "")[:-2], 22), (edited("КонецДокумента\r\n", ""), 22),
        (edited("ВерсияФормата=1.03", "ВерсияФормата=9"), 2),
        (edited("Сумма=1500.50", "Сумма=1500.505"), 10),
        (edited("Сумма=1500.50", "Сумма=0"), 10), (edited("Сумма=1500.50", "Сумма=-1"), 10),
        (edited("Сумма=1500.50", "Сумма=1e9"), 10), (edited("Сумма=1500.50", "Сумма=٣"), 10),
        (edited("Дата=20.11.2026", "Дата=31.02.2026"), 10),
        (edited("Дата=20.11.2026", "Дата=20.11.0026"), 10),
        (edited("Номер=77", "Номер="), 10), (edited("Номер=77", "Номер=77\r\nНомер=78"), 12),
        (edited("Номер=77", "Номер=" + "7" * 21), 10), (edited("Номер=77", "просто слова"), 11),
        (edited("Номер=77", "СекцияДокумент=Платежное поручение"), 11),
        (edited("Номер=77", "Номер=\x00"), 11),
        (edited("КонецФайла", "КонецФайла\r\nХвост=1"), 23),
        (edited("ПлательщикИНН=7", "ПлательщикИНН=x"), 10),
        (edited(f"ПлательщикСчет={PAYER_ACCOUNT}", "ПлательщикСчет="), 10),
        (CSV_HEAD.replace("purpose;", "").encode(), 1), (f"{CSV_HEAD}\n1;2;3\n".encode(), 2),
        (f'{CSV_HEAD}\n"1;2'.encode(), 2), (f"{CSV_HEAD}\n{CSV_ROW};;\n".encode(), 2),
        (f"{CSV_HEAD}\n{CSV_ROW.replace('1 500,50', 'много')}\n".encode(), 2),
        (b"x" * (bank_files.MAX_BYTES + 1), 0),
        (edited("КонецДокумента", "КонецДокумента\r\nКонецДокумента"), 22),
    ],
    ids=range(30),
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_line(content: bytes, line: int) -> None:
    with pytest.raises(WrongBankFile) as refused:
        parse(content)

    assert refused.value.extra["line"] == line


def test_a_file_of_too_many_documents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_files, "MAX_DOCUMENTS", 2)

    assert len(parse(exchange(PAID, PAID)).transfers) == 2
    with pytest.raises(WrongBankFile, match="at most 2"):
        parse(exchange(PAID, PAID, PAID))


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    for content in (noise, exchange(PAID)[:150] + noise, CSV_HEAD.encode() + b"\n" + noise):
        try:
            parse(content)
        except WrongBankFile:
            continue


@given(st.integers(0, 700), st.integers(0, 255))
def test_a_file_with_one_broken_byte_is_read_or_refused(place: int, byte: int) -> None:
    content = bytearray(exchange(PAID))
    content[place % len(content)] = byte

    try:
        file = parse(bytes(content))
    except WrongBankFile:
        return
    assert all(transfer.amount_micro_rub > 0 for transfer in file.transfers)


@given(st.integers(1, 10**12 * 100 - 1))
def test_every_sum_is_read_to_the_kopeck(kopecks: int) -> None:
    paid = Paid(f"{kopecks // 100}.{kopecks % 100:02d}", "x")

    (transfer,) = parse(exchange(paid)).transfers

    assert transfer.amount_micro_rub == kopecks * RUB // 100
