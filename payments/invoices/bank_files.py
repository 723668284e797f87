"""Bank statements as files: 1CClientBankExchange 1.03 and CSV. Pure: bytes in, incoming transfers out.

Strict: a file with one wrong document is refused as a whole, by the number of its line, so that nothing is
half imported. Outgoing documents (salaries among them) are counted and forgotten. Source: payments guide
5.2; the published description of the exchange format 1.03.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime

from billing import money
from payments.invoices.errors import WrongBankFile
from payments.invoices.models import BankStatement
from payments.invoices.shapes import BankFile, Transfer

MAX_BYTES = 5 * 1024 * 1024
MAX_DOCUMENTS = 10_000
MAX_VALUE_CHARS = 1_000
EXCHANGE_MARK = "1CClientBankExchange"
END_OF_FILE, END_OF_DOCUMENT, END_OF_ACCOUNT = "КонецФайла", "КонецДокумента", "КонецРасчСчет"
ENCODINGS = ("utf-8-sig", "cp1251", "cp866")
VERSIONS = ("1.01", "1.02", "1.03")
# The columns of our CSV, `;` between them, in any order; the last two may be missing.
COLUMNS = ("date", "number", "amount", "payer_account", "payer_inn", "payer_name", "payee_account", "purpose")
OPTIONAL_COLUMNS = ("payer_bic", "booked_on")
PURPOSE_LINES = ("НазначениеПлатежа", *(f"НазначениеПлатежа{place}" for place in range(1, 7)))
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DATE_FORMS = ("%d.%m.%Y", "%Y-%m-%d")

Fields = dict[str, str]


def parse(content: bytes, *, own_account: str) -> BankFile:
    """The incoming transfers to `own_account`. Raises WrongBankFile."""
    if len(content) > MAX_BYTES:
        raise WrongBankFile(f"A file has at most {MAX_BYTES // 1024 // 1024} MB.", line=0)
    is_exchange = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].startswith(EXCHANGE_MARK.encode())
    text = _decoded(content, "Кодировка" if is_exchange else "payer_account")
    if found := _CONTROL.search(text):
        raise WrongBankFile("The file has control characters.", line=text.count("\n", 0, found.start()) + 1)
    read: Callable[[str], Iterator[tuple[int, Fields]]] = _exchange if is_exchange else _table
    transfers, outgoing, foreign = [], 0, 0
    for place, (line, fields) in enumerate(read(text)):
        if place >= MAX_DOCUMENTS:
            raise WrongBankFile(f"A file has at most {MAX_DOCUMENTS} documents.", line=line)
        if fields.get("payee_account") == own_account:
            transfers.append(_transfer(fields, line))
        elif fields.get("payer_account") == own_account:
            outgoing += 1
        else:
            foreign += 1
    kind = BankStatement.Format.ONE_C if is_exchange else BankStatement.Format.CSV
    return BankFile(kind.value, tuple(transfers), outgoing, foreign)


def _decoded(content: bytes, mark: str) -> str:
    """In the first encoding in which the file has a word that every such file has."""
    for encoding in ENCODINGS:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if mark in text:
            return text
    raise WrongBankFile("Neither a 1CClientBankExchange file nor a CSV with our columns.", line=0)


def _exchange(text: str) -> Iterator[tuple[int, Fields]]:
    """Documents of the exchange format, each with the number of its first line."""
    document: Fields = {}
    started, in_account, is_ended = 0, False, False  # `started`: the line of the open document
    for line, raw in enumerate(text.splitlines(), start=1):
        name, has_value, value = raw.strip().partition("=")
        name, value = name.strip(), value.strip()
        if not name or (line == 1 and name == EXCHANGE_MARK):
            continue
        if is_ended:
            raise WrongBankFile("Something stands behind the end of the file.", line=line)
        if name == END_OF_FILE:
            is_ended = True
        elif name.startswith("Секция"):
            if started or in_account:
                raise WrongBankFile("A section begins within a section.", line=line)
            in_account = name == "СекцияРасчСчет"
            started, document = (0 if in_account else line), {}
        elif name == END_OF_DOCUMENT:
            if not started:
                raise WrongBankFile("A document ends that did not begin.", line=line)
            yield started, _named(document)
            started = 0
        elif name == END_OF_ACCOUNT:
            in_account = False
        elif not has_value or len(value) > MAX_VALUE_CHARS:
            raise WrongBankFile("A line is neither Name=Value nor a section.", line=line)
        elif started:
            if document.setdefault(name, value) != value:
                raise WrongBankFile("A field of a document stands there twice.", line=line)
        elif name == "ВерсияФормата" and value not in VERSIONS:
            raise WrongBankFile(f"Version {value} of the format is not known.", line=line)
    if started or in_account or not is_ended:
        raise WrongBankFile("The file breaks off before its end.", line=text.count("\n") + 1)


def _named(document: Fields) -> Fields:
    """Fields of the exchange format by our names. Some banks fill one of two fields for the same thing."""

    def first(*names: str) -> str:
        return next((document[name] for name in names if document.get(name)), "")

    purpose = [document[name] for name in PURPOSE_LINES if document.get(name)]
    return {
        "number": first("Номер"),
        "date": first("Дата"),
        "booked_on": first("ДатаПоступило"),
        "amount": first("Сумма"),
        "payer_account": first("ПлательщикСчет", "ПлательщикРасчСчет"),
        "payer_inn": first("ПлательщикИНН"),
        "payer_name": first("Плательщик1", "Плательщик"),
        "payer_bic": first("ПлательщикБИК"),
        "payee_account": first("ПолучательСчет", "ПолучательРасчСчет"),
        # The whole text, or its parts: a part that the whole repeats is left out.
        "purpose": " ".join(part for part in purpose[:1] + [p for p in purpose[1:] if p not in purpose[0]]),
    }


def _table(text: str) -> Iterator[tuple[int, Fields]]:
    """Rows of the CSV, each with the number of its last line."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";", strict=True)
    try:
        columns = set(reader.fieldnames or ())
        if missing := [name for name in COLUMNS if name not in columns]:
            raise WrongBankFile(f"Columns are missing: {', '.join(missing)}.", line=1)
        for row in reader:
            if None in row or None in row.values():
                raise WrongBankFile("The row has another number of columns.", line=reader.line_num)
            yield (
                reader.line_num,
                {name: str(row.get(name, "")).strip() for name in COLUMNS + OPTIONAL_COLUMNS},
            )
    except csv.Error as error:
        raise WrongBankFile("The file is not CSV.", line=reader.line_num + 1) from error


def _transfer(fields: Fields, line: int) -> Transfer:
    number, account, inn, bic = (
        fields[name] for name in ("number", "payer_account", "payer_inn", "payer_bic")
    )
    if not 1 <= len(number) <= 20:
        raise WrongBankFile("A document has no number, or one longer than 20 characters.", line=line)
    if not re.fullmatch(r"[0-9A-Za-z]{1,34}", account):
        raise WrongBankFile("The payer's account cannot be read.", line=line)
    if not re.fullmatch(r"[0-9]{0,12}", inn):
        raise WrongBankFile("The payer's INN cannot be read.", line=line)
    day = _day(fields["date"], line)
    return Transfer(
        number=number.lstrip("0") or number,  # banks fill numbers up with zeros, not always
        document_date=day,
        booked_on=_day(fields["booked_on"], line) if fields["booked_on"] else day,
        amount_micro_rub=_amount(fields["amount"], line),
        payer_account=account,
        payer_inn=inn.strip("0") and inn,  # banks write zeros for none
        payer_name=fields["payer_name"][:300],
        payer_bic=bic if re.fullmatch(r"[0-9]{9}", bic) else "",
        purpose=fields["purpose"][:MAX_VALUE_CHARS],
    )


def _day(text: str, line: int) -> date:
    for form in _DATE_FORMS:
        try:
            found = datetime.strptime(text, form).date()  # noqa: DTZ007 - a bank's day has no zone
        except ValueError:
            continue
        if 2000 <= found.year < 2100:
            return found
    raise WrongBankFile("A date cannot be read.", line=line)


def _amount(text: str, line: int) -> int:
    plain = re.sub(r"[\s\u00a0]", "", text).replace(",", ".")
    try:
        micro_rub = money.from_provider(plain)
    except ValueError as error:
        raise WrongBankFile("An amount cannot be read.", line=line) from error
    if micro_rub == 0:
        raise WrongBankFile("An amount is zero.", line=line)
    return micro_rub
