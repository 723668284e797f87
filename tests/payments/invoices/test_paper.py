"""Printed documents: every field is there as text, and the QR says exactly its string."""

from datetime import date
from io import BytesIO

import pytest
import zxingcpp
from PIL import Image
from pypdf import PdfReader

from payments.invoices import paper, qr
from payments.invoices.models import ClosingDocument, Invoice
from payments.invoices.requisites import Party
from payments.invoices.shapes import ActRow, Reconciliation
from tests.payments.invoices.firm import BUYER, firm, invoice

PIXELS = 4  # a module


@pytest.fixture
def row() -> Invoice:
    return invoice(firm().owner_id, 25_000)


def text_of(pdf: bytes) -> str:
    pages = [page.extract_text() for page in PdfReader(BytesIO(pdf)).pages]
    return " ".join(" ".join(pages).replace("\u00a0", " ").split())


def read(modules: qr.Matrix) -> str:
    """What a scanner sees in the symbol."""
    size = (len(modules) + 8) * PIXELS
    picture = Image.new("L", (size, size), 255)
    for y, line in enumerate(modules, start=4):
        for x, is_dark in enumerate(line, start=4):
            if is_dark:
                picture.paste(0, (x * PIXELS, y * PIXELS, (x + 1) * PIXELS, (y + 1) * PIXELS))
    (found,) = zxingcpp.read_barcodes(picture)
    return bytes(found.bytes).decode()


def test_the_pdf_of_an_invoice_holds_every_field(row: Invoice) -> None:
    printed = paper.invoice(row)

    text = text_of(printed)
    seller = Party.of(row.seller)
    for wanted in (
        f"Счёт на оплату № {row.title}", seller.name, seller.inn, seller.kpp, seller.account, seller.bic,
        seller.bank_name, seller.correspondent_account, seller.address, BUYER.name, BUYER.inn, BUYER.kpp,
        BUYER.ogrn, BUYER.address, "Аванс за услуги сервиса Plyrum", "усл.", "25 000,00",
        "В том числе НДС 22 %", "4 508,20", "Двадцать пять тысяч рублей 00 копеек", row.purpose,
        f"Действует по {row.valid_until:%d.%m.%Y}", "Руководитель", "Бухгалтер", seller.signatory,
    ):  # fmt: skip
        assert wanted in text, wanted
    assert len(PdfReader(BytesIO(printed)).pages) == 1
    assert printed == paper.invoice(row)
    assert len(printed) < 60_000


def test_the_qr_says_the_payment_order_and_nothing_else(row: Invoice) -> None:
    wanted = (
        "ST00012|Name=ООО «Выдуманный продавец»|PersonalAcc=40702810600000000001"
        "|BankName=АО «Выдуманный банк»|BIC=049999999|CorrespAcc=30101810300000000999|Sum=2500000"
        f"|Purpose={row.purpose}|PayeeINN=9900000000|KPP=990001001|PayerINN=7700000009"
    )

    assert qr.text(row) == wanted
    assert read(qr.matrix(qr.text(row))) == wanted


def test_a_value_with_the_separator_takes_another_one(row: Invoice) -> None:
    row.seller = row.seller | {"name": "ООО «A|B»", "correspondent_account": ""}

    text = qr.text(row)

    assert text.startswith("ST00012~Name=ООО «A|B»~")
    assert "~CorrespAcc=0~" in text
    row.seller = row.seller | {"name": qr.SEPARATORS}
    with pytest.raises(ValueError, match="separator"):
        qr.text(row)


def test_the_mandatory_block_has_at_most_300_bytes(row: Invoice) -> None:
    row.seller = row.seller | {"name": "Ж" * 160, "bank_name": "Щ" * 45}

    fields = qr.text(row).split("|")

    assert len("|".join(fields[1:6]).encode()) in (299, 300)
    assert fields[1].startswith("Name=ЖЖЖ")
    assert read(qr.matrix(qr.text(row))) == qr.text(row)


def test_the_path_of_the_symbol_covers_its_dark_modules() -> None:
    assert qr.svg_path(((True, True, False), (False, False, True))) == "M0 0h2v1h-2zM2 1h1v1h-1z"


def test_names_are_text_and_never_markup(row: Invoice) -> None:
    row.buyer = row.buyer | {"name": "ООО «<b>Рога & копыта</b>»"}

    assert "ООО «<b>Рога & копыта</b>»" in text_of(paper.invoice(row))


def test_act_and_its_correction_say_what_they_are(row: Invoice) -> None:
    facts = {name: getattr(row, name) for name in ("seller", "buyer", "lines", "amount_micro_rub")}
    act = ClosingDocument(
        year=2026, number=7, document_date=date(2026, 10, 31), month=date(2026, 10, 1), vat_rate_bp=0,
        vat_micro_rub=0, **facts,
    )  # fmt: skip
    again = ClosingDocument(
        year=2026, number=8, document_date=date(2026, 11, 5), month=date(2026, 10, 1), vat_rate_bp=2200,
        vat_micro_rub=row.vat_micro_rub, corrects=act, **facts,
    )  # fmt: skip

    first, second = text_of(paper.closing_document(act)), text_of(paper.closing_document(again))

    assert "Акт об оказанных услугах № 26-000007 от 31 октября 2026 г." in first
    assert "За октябрь 2026 г." in first
    assert "Без НДС" in first
    assert "Исправляет акт № 26-000007 от 31.10.2026" in second
    assert "В том числе НДС 22 %" in second


def test_a_long_reconciliation_act_takes_pages_and_shows_micro_roubles() -> None:
    rows = tuple(ActRow(date(2026, 1, 1), "Оказаны услуги", -1_000_001) for _ in range(60))
    act = Reconciliation(BUYER, BUYER, date(2026, 1, 1), date(2026, 1, 31), 70_000_000, rows)

    text = text_of(paper.reconciliation(act))

    assert act.closing_micro_rub == 70_000_000 - 60 * 1_000_001
    for wanted in ("Акт сверки с 01.01.2026 по 31.01.2026", "1,000001", "60,00006", "9,99994", "стр. 2"):
        assert wanted in text, wanted
