"""Input and output of the customer API about organisations, invoices and closing documents."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import BeforeValidator, Field, StringConstraints

from payments.invoices import qr, requisites
from payments.invoices.models import ClosingDocument, Document, Invoice, Organisation
from payments.invoices.requisites import Party
from payments.invoices.shapes import Reconciliation
from payments.schemas import PRINTABLE, AcceptTerms, IdempotencyKey, Input, OfferVersion
from plyrum.clock import rfc3339
from plyrum.paging import KnownParameters


def _tidy(value: object) -> object:
    return requisites.tidy(value) if isinstance(value, str) else value


Text = Annotated[str, StringConstraints(max_length=250, pattern=PRINTABLE, strip_whitespace=True)]
OptionalText = Annotated[str, StringConstraints(max_length=160, strip_whitespace=True)]
Digits = Annotated[str, BeforeValidator(_tidy), StringConstraints(max_length=20)]


class OrganisationIn(Input):
    name: Text
    inn: Annotated[Digits, Field(description="10 digits of a firm, 12 of a sole trader.")]
    kpp: Annotated[Digits, Field(description="Of a firm; empty for a sole trader.")] = ""
    ogrn: Digits = ""
    address: Text
    bank_name: OptionalText = ""
    bic: Digits = ""
    account: Digits = ""
    correspondent_account: Digits = ""
    signatory: Annotated[OptionalText, Field(description="Who signs for the organisation.")] = ""

    def party(self) -> Party:
        return Party.of(self.dict())


class OrganisationOut(Schema):
    id: UUID
    name: str
    inn: str
    kpp: str
    ogrn: str
    address: str
    bank_name: str
    bic: str
    account: str
    correspondent_account: str
    signatory: str
    role: Literal["owner"] = "owner"
    created_at: str
    updated_at: str


class InvoiceIn(Input):
    amount_rub: Annotated[int, Field(strict=True, description="Whole roubles, VAT included.")]
    accept_terms: AcceptTerms
    offer_version: OfferVersion = None
    idempotency_key: IdempotencyKey | None = None


class LineOut(Schema):
    name: str
    unit: str
    quantity: int
    price_micro_rub: int
    amount_micro_rub: int


class DocumentOut(Schema):
    id: UUID
    number: Annotated[str, Field(description='As documents write it, for example "26-000123".')]
    document_date: Annotated[str, Field(description="Of Moscow.")]
    seller: dict[str, str]
    buyer: dict[str, str]
    lines: list[LineOut]
    amount_micro_rub: int
    currency: Literal["RUB"] = "RUB"
    vat_rate_bp: Annotated[int, Field(description="Basis points: 2200 is 22 %; 0 is without VAT.")]
    vat_micro_rub: Annotated[int, Field(description="Within the amount.")]
    issued_at: str
    pdf_url: str


class InvoiceOut(DocumentOut):
    status: Literal["issued", "paid", "expired", "void"]
    purpose: Annotated[str, Field(description="To be copied into the bank order unchanged.")]
    valid_until: str
    closed_at: str | None
    qr: Annotated[str, Field(description="The text of the QR, ГОСТ Р 56042-2014.")]


class InvoiceAnswer(Schema):
    invoice: InvoiceOut


class InvoicesOut(Schema):
    items: list[InvoiceOut]
    next_cursor: str | None


class ClosingDocumentOut(DocumentOut):
    """An act with the data of the UPD 5.03; it is not sent through an operator of electronic documents."""

    month: Annotated[str, Field(description="YYYY-MM")]
    corrects: Annotated[str | None, Field(description="Number of the document that this one replaces.")]
    net_micro_rub: Annotated[int, Field(description="The amount without VAT.")]
    upd_status: Annotated[Literal[1, 2], Field(description="1: invoice-factura and act, 2: act alone.")]
    upd_function: Annotated[Literal["СЧФДОП", "ДОП"], Field(description="As the format 5.03 names it.")]


class ClosingDocumentsOut(Schema):
    items: list[ClosingDocumentOut]
    next_cursor: str | None


class PeriodQuery(KnownParameters):
    from_: Annotated[date, Field(alias="from", description="The first day, of Moscow.")]
    to: Annotated[date, Field(description="The last day, of Moscow; included.")]


class ActRowOut(Schema):
    day: str
    name: str
    amount_micro_rub: Annotated[int, Field(description="Above zero it came in.")]


class ReconciliationOut(Schema):
    first_day: str
    last_day: str
    seller: dict[str, str]
    buyer: dict[str, str]
    opening_micro_rub: int
    in_micro_rub: int
    out_micro_rub: int
    closing_micro_rub: int
    rows: list[ActRowOut]


def organisation_out(row: Organisation) -> OrganisationOut:
    facts = {name: getattr(row, name) for name in Party.__dataclass_fields__}
    return OrganisationOut(
        id=row.id, created_at=rfc3339(row.created_at), updated_at=rfc3339(row.updated_at), **facts
    )


def invoice_out(row: Invoice) -> InvoiceOut:
    return InvoiceOut(
        **_document(row, f"/api/invoices/{row.id}.pdf"),
        status=row.status,  # type: ignore[arg-type]
        purpose=row.purpose,
        valid_until=row.valid_until.isoformat(),
        closed_at=rfc3339(row.closed_at) if row.closed_at else None,
        qr=qr.text(row),
    )


def first_answer(row: Invoice) -> InvoiceOut:
    """The answer that issuing gave, for a repeat of its key: what happened since is not part of it."""
    answer = invoice_out(row)
    answer.status, answer.closed_at = "issued", None
    return answer


def closing_document_out(row: ClosingDocument) -> ClosingDocumentOut:
    is_taxed = row.vat_rate_bp > 0
    return ClosingDocumentOut(
        **_document(row, f"/api/organisation/closing-documents/{row.id}.pdf"),
        month=f"{row.month:%Y-%m}",
        corrects=row.corrects.title if row.corrects else None,
        net_micro_rub=row.amount_micro_rub - row.vat_micro_rub,
        upd_status=1 if is_taxed else 2,
        upd_function="СЧФДОП" if is_taxed else "ДОП",
    )


def reconciliation_out(act: Reconciliation) -> ReconciliationOut:
    return ReconciliationOut(
        first_day=act.first_day.isoformat(),
        last_day=act.last_day.isoformat(),
        seller=act.seller.as_dict(),
        buyer=act.buyer.as_dict(),
        opening_micro_rub=act.opening_micro_rub,
        in_micro_rub=act.in_micro_rub,
        out_micro_rub=act.out_micro_rub,
        closing_micro_rub=act.closing_micro_rub,
        rows=[
            ActRowOut(day=row.day.isoformat(), name=row.name, amount_micro_rub=row.amount_micro_rub)
            for row in act.rows
        ],
    )


def _document(row: Document, pdf_url: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "number": row.title,
        "document_date": row.document_date.isoformat(),
        "seller": row.seller,
        "buyer": row.buyer,
        "lines": row.lines,
        "amount_micro_rub": row.amount_micro_rub,
        "vat_rate_bp": row.vat_rate_bp,
        "vat_micro_rub": row.vat_micro_rub,
        "issued_at": rfc3339(row.issued_at),
        "pdf_url": pdf_url,
    }
