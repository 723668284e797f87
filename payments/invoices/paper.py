"""Printed documents as PDF: invoice, closing document, reconciliation act. Text that can be selected, A4.

Made anew from the frozen rows each time it is asked for, always the same bytes. Russian, whatever the
language of the site. Knows no tables of money: what stands on paper comes from the row or from `closing`.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from payments.invoices import in_words, qr
from payments.invoices.models import ClosingDocument, Document, Invoice
from payments.invoices.requisites import Party
from payments.invoices.shapes import Reconciliation

FONTS = Path(__file__).resolve().parent / "fonts"
for _name in ("regular", "semibold"):
    pdfmetrics.registerFont(TTFont(f"onest-{_name}", FONTS / f"onest-{_name}.ttf"))
pdfmetrics.registerFontFamily("onest", normal="onest-regular", bold="onest-semibold")

INK, FAINT, RULE, MALACHITE, PAPER, WHITE = (
    HexColor(colour) for colour in ("#17211F", "#5F6965", "#D9D6CC", "#0B6B5C", "#F6F5F1", "#FFFFFF")
)
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
QR_SIZE = 40 * mm
HAIRLINE = mm / 5
PADDING = 6  # points that the library keeps between its frame and the text

TEXT = ParagraphStyle("text", fontName="onest-regular", fontSize=9, leading=13, textColor=INK)
SMALL = ParagraphStyle("small", TEXT, fontSize=8, leading=10, textColor=FAINT)
NUMBER = ParagraphStyle("number", TEXT, alignment=2)
BOLD = ParagraphStyle("bold", TEXT, fontName="onest-semibold")
BOLD_NUMBER = ParagraphStyle("bold_number", BOLD, alignment=2)
TITLE = ParagraphStyle("title", BOLD, fontSize=16, leading=20, spaceAfter=mm)
BIG = ParagraphStyle("big", BOLD, fontSize=10, leading=14)

Rows = Sequence[Sequence[Any]]


def invoice(document: Invoice) -> bytes:
    """The PDF of an invoice, with its QR."""
    seller, buyer = Party.of(document.seller), Party.of(document.buyer)
    title = f"Счёт на оплату № {document.title} от {in_words.long_date(document.document_date)}"
    parts = [
        _bank(seller, document),
        Spacer(0, 7 * mm),
        Paragraph(escape(title), TITLE),
        Paragraph(f"Действует по {document.valid_until:%d.%m.%Y} включительно", SMALL),
        Spacer(0, 4 * mm),
        _parties(("Поставщик", seller), ("Покупатель", buyer)),
        Spacer(0, 5 * mm),
        _lines(document),
        Spacer(0, 3 * mm),
        *_totals(document, "Всего к оплате"),
        Spacer(0, 5 * mm),
        _purpose(document.purpose),
        Spacer(0, 8 * mm),
        _signatures(("Руководитель", seller.signatory), ("Бухгалтер", "")),
    ]
    return _pdf(title, parts)


def closing_document(document: ClosingDocument) -> bytes:
    """The PDF of an act for a month, or of one that corrects it."""
    seller, buyer = Party.of(document.seller), Party.of(document.buyer)
    month = in_words.month(document.month)
    title = f"Акт об оказанных услугах № {document.title} от {in_words.long_date(document.document_date)}"
    about = f"За {month}"
    if document.corrects is not None:
        about += f". Исправляет акт № {document.corrects.title} от {document.corrects.document_date:%d.%m.%Y}"
    parts = [
        Paragraph(escape(title), TITLE),
        Paragraph(escape(about), SMALL),
        Spacer(0, 4 * mm),
        _parties(("Исполнитель", seller), ("Заказчик", buyer)),
        Spacer(0, 5 * mm),
        _lines(document),
        Spacer(0, 3 * mm),
        *_totals(document, "Всего оказано услуг"),
        Spacer(0, 4 * mm),
        Paragraph("Услуги оказаны полностью и в срок. Стороны друг к другу претензий не имеют.", TEXT),
        Spacer(0, 8 * mm),
        _signatures(("Исполнитель", seller.signatory), ("Заказчик", buyer.signatory)),
    ]
    return _pdf(title, parts)


def reconciliation(act: Reconciliation) -> bytes:
    """The PDF of a reconciliation act: what was there, what came, what was used, what is left."""
    title = f"Акт сверки с {act.first_day:%d.%m.%Y} по {act.last_day:%d.%m.%Y}"
    head = [Paragraph(escape(text), BOLD) for text in ("Дата", "Операция")]
    rows: list[list[Any]] = [[*head, Paragraph("Дебет", BOLD_NUMBER), Paragraph("Кредит", BOLD_NUMBER)]]
    rows.append(_balance_row(f"Остаток аванса на {act.first_day:%d.%m.%Y}", act.opening_micro_rub))
    for row in act.rows:
        sum_ = act_sum(abs(row.amount_micro_rub))
        debit, credit = (sum_, "") if row.amount_micro_rub < 0 else ("", sum_)
        texts = (f"{row.day:%d.%m.%Y}", row.name)
        rows.append([*(Paragraph(escape(text), TEXT) for text in texts), *_numbers(debit, credit)])
    totals = [Paragraph("Обороты", BOLD), Paragraph("", TEXT)]
    rows.append([*totals, *_numbers(act_sum(act.out_micro_rub), act_sum(act.in_micro_rub), bold=True)])
    rows.append(_balance_row(f"Остаток аванса на конец {act.last_day:%d.%m.%Y}", act.closing_micro_rub))
    table = Table(rows, colWidths=[24 * mm, WIDTH - 84 * mm, 30 * mm, 30 * mm], repeatRows=1)
    table.setStyle([*_GRID, ("BACKGROUND", (0, 0), (-1, 0), PAPER)])
    parts = [
        Paragraph(escape(title), TITLE),
        Paragraph("Дебет — оказанные услуги и возвраты, кредит — поступления. В рублях.", SMALL),
        Spacer(0, 4 * mm),
        _parties(("Исполнитель", act.seller), ("Заказчик", act.buyer)),
        Spacer(0, 5 * mm),
        table,
        Spacer(0, 8 * mm),
        _signatures(("Исполнитель", act.seller.signatory), ("Заказчик", act.buyer.signatory)),
    ]
    return _pdf(title, parts)


def act_sum(micro_rub: int) -> str:
    """To the last micro-rouble where there is one: a reconciliation act equals the ledger exactly."""
    whole, rest = divmod(micro_rub, 10_000)
    text = in_words.figures(whole * 10_000)
    return text + f"{rest:04d}".rstrip("0") if rest else text


class _Symbol(Flowable):  # type: ignore[misc]
    """The QR with its quiet zone, drawn as one path of squares: sharp at any size."""

    def __init__(self, modules: qr.Matrix) -> None:
        super().__init__()
        self.modules = modules
        self.width = self.height = QR_SIZE

    def draw(self) -> None:
        canvas: Canvas = self.canv
        size = QR_SIZE / (len(self.modules) + 8)
        path = canvas.beginPath()
        for y, row in enumerate(self.modules):
            for x, is_dark in enumerate(row):
                if is_dark:
                    path.rect((x + 4) * size, QR_SIZE - (y + 5) * size, size, size)
        canvas.setFillColor(WHITE)
        canvas.roundRect(0, 0, QR_SIZE, QR_SIZE, 4, stroke=0, fill=1)
        canvas.setFillColor(INK)
        canvas.drawPath(path, stroke=0, fill=1)


_GRID: list[tuple[Any, ...]] = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, -1), HAIRLINE, RULE),
    ("LINEABOVE", (0, 0), (-1, 0), HAIRLINE, RULE),
    ("TOPPADDING", (0, 0), (-1, -1), 4),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
    ("LEFTPADDING", (0, 0), (-1, -1), 5),
    ("RIGHTPADDING", (0, 0), (-1, -1), 5),
]


def _bank(seller: Party, document: Invoice) -> Table:
    """What a payer copies into the bank order, and the same as a QR."""
    facts = [
        ("Получатель", seller.name),
        ("ИНН / КПП", seller.inn + (f" / {seller.kpp}" if seller.kpp else "")),
        ("Расчётный счёт", seller.account),
        ("Банк получателя", seller.bank_name),
        ("БИК", seller.bic),
        ("Корр. счёт", seller.correspondent_account),
    ]
    left = Table(
        [[Paragraph(name, SMALL), Paragraph(escape(value), BOLD)] for name, value in facts],
        colWidths=[29 * mm, WIDTH - QR_SIZE - 39 * mm],
    )
    left.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (-1, -1), 2), *_TIGHT])
    caption = ParagraphStyle("caption", SMALL, alignment=1)
    right = [_Symbol(qr.matrix(qr.text(document))), Paragraph("Оплата по QR в приложении банка", caption)]
    box = Table([[left, right]], colWidths=[WIDTH - QR_SIZE - 8 * mm, QR_SIZE + 8 * mm])
    box.setStyle(
        [
            ("BOX", (0, 0), (-1, -1), HAIRLINE, RULE),
            ("BACKGROUND", (0, 0), (-1, -1), PAPER),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("ALIGN", (1, 0), (1, 0), "CENTER"),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
            ("LEFTPADDING", (0, 0), (0, 0), 10),
        ]
    )
    return box


_TIGHT: list[tuple[Any, ...]] = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]


def _parties(*named: tuple[str, Party]) -> Table:
    rows = []
    for name, party in named:
        numbers = f"ИНН {party.inn}" + (f", КПП {party.kpp}" if party.kpp else "")
        if party.ogrn:
            numbers += f", {'ОГРНИП' if party.is_trader else 'ОГРН'} {party.ogrn}"
        text = f"<b>{escape(party.name)}</b><br/>{escape(f'{numbers}, {party.address}')}"
        rows.append([Paragraph(name, SMALL), Paragraph(text, TEXT)])
    table = Table(rows, colWidths=[29 * mm, WIDTH - 29 * mm])
    table.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (-1, -1), 2), *_TIGHT])
    return table


def _lines(document: Document) -> Table:
    head = ("№", "Наименование", "Ед.", "Кол-во", "Цена", "Сумма")
    rows: list[list[Any]] = [
        [Paragraph(text, BOLD if place < 3 else BOLD_NUMBER) for place, text in enumerate(head)]
    ]
    for place, line in enumerate(document.lines, start=1):
        texts = [Paragraph(escape(text), TEXT) for text in (str(place), line["name"], line["unit"])]
        sums = (in_words.figures(line[name]) for name in ("price_micro_rub", "amount_micro_rub"))
        rows.append([*texts, *_numbers(str(line["quantity"]), *sums)])
    widths = [9 * mm, WIDTH - 107 * mm, 14 * mm, 18 * mm, 33 * mm, 33 * mm]
    table = Table(rows, colWidths=widths, repeatRows=1)
    table.setStyle([*_GRID, ("BACKGROUND", (0, 0), (-1, 0), PAPER)])
    return table


def _totals(document: Document, name: str) -> list[Flowable]:
    if document.vat_rate_bp:
        tax = (
            f"В том числе НДС {in_words.percent(document.vat_rate_bp)} %",
            in_words.figures(document.vat_micro_rub),
        )
    else:
        tax = "Без НДС", "—"
    amount = in_words.figures(document.amount_micro_rub)
    table = Table(
        [
            [Paragraph(tax[0], NUMBER), Paragraph(tax[1], NUMBER)],
            [Paragraph(f"{name}, руб.", BOLD_NUMBER), Paragraph(amount, BOLD_NUMBER)],
        ],
        colWidths=[WIDTH - 40 * mm, 40 * mm],
    )
    table.setStyle([("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)])
    return [table, Spacer(0, 2 * mm), Paragraph(in_words.words(document.amount_micro_rub), BIG)]


def _purpose(text: str) -> Table:
    hint = "Назначение платежа. Перенесите без изменений: по номеру счёта и ИНН деньги зачислятся сами."
    table = Table([[Paragraph(hint, SMALL)], [Paragraph(escape(text), BOLD)]], colWidths=[WIDTH])
    table.setStyle(
        [
            ("LINEBEFORE", (0, 0), (0, -1), 2, MALACHITE),
            ("LEFTPADDING", (0, 0), (-1, -1), 9),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
    )
    return table


def _signatures(*people: tuple[str, str]) -> KeepTogether:
    """A line for each, with a gap between them."""
    gap = 10 * mm
    rows: list[list[Any]] = [[], [], []]
    for role, name in people:
        signed = escape(name) or "расшифровка"
        rows[0] += [Paragraph(role, SMALL), ""]
        rows[1] += [Spacer(0, 8 * mm), ""]
        rows[2] += [Paragraph(f"подпись / {signed}", SMALL), ""]
    widths = [(WIDTH - gap * (len(people) - 1)) / len(people), gap] * len(people)
    table = Table([row[:-1] for row in rows], colWidths=widths[:-1])
    lines = [("LINEABOVE", (place * 2, 2), (place * 2, 2), HAIRLINE, INK) for place in range(len(people))]
    table.setStyle([*lines, *_TIGHT])
    return KeepTogether([table])


def _balance_row(name: str, micro_rub: int) -> list[Paragraph]:
    cells = [Paragraph("", TEXT), Paragraph(escape(name), BOLD)]
    return [*cells, *_numbers("", act_sum(micro_rub), bold=True)]


def _numbers(*texts: str, bold: bool = False) -> list[Paragraph]:
    return [Paragraph(escape(text), BOLD_NUMBER if bold else NUMBER) for text in texts]


def _pdf(title: str, parts: list[Flowable]) -> bytes:
    file = BytesIO()
    template = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=MARGIN - PADDING,
        rightMargin=MARGIN - PADDING,
        topMargin=27 * mm,
        bottomMargin=18 * mm,
        title=title,
        author="Plyrum",
        lang="ru-RU",
        invariant=1,
    )
    template.build(parts, onFirstPage=_frame, onLaterPages=_frame)
    return file.getvalue()


def _frame(canvas: Canvas, template: SimpleDocTemplate) -> None:
    """The head with the route, and the number of the page."""
    canvas.saveState()
    y = A4[1] - 15 * mm
    canvas.setFillColor(INK)
    canvas.setFont("onest-semibold", 12)
    canvas.drawString(MARGIN, y - 4, "Plyrum")
    canvas.setStrokeColor(MALACHITE)
    canvas.setLineWidth(2)
    canvas.setLineCap(1)
    start, end = MARGIN + 19 * mm, A4[0] - MARGIN
    canvas.line(start, y, end, y)
    canvas.setFillColor(WHITE)
    for x in (start, start + 22 * mm, end):
        canvas.circle(x, y, 3, stroke=1, fill=1)
    canvas.setFillColor(FAINT)
    canvas.setFont("onest-regular", 7)
    canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"{template.title}, стр. {canvas.getPageNumber()}")
    canvas.restoreState()
