"""The customer API of organisations and invoices. Printed documents are the same rows as PDF."""

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from ninja import Query, Router, Status

from accounts.credentials import Credential
from accounts.requests import actor_of, origin_of
from billing import request_rates
from payments.invoices import closing, issuing, organisations, paper, queries
from payments.invoices.issuing import Wish
from payments.invoices.schemas import (
    ClosingDocumentOut,
    ClosingDocumentsOut,
    InvoiceAnswer,
    InvoiceIn,
    InvoiceOut,
    InvoicesOut,
    OrganisationIn,
    OrganisationOut,
    PeriodQuery,
    ReconciliationOut,
    closing_document_out,
    first_answer,
    invoice_out,
    organisation_out,
    reconciliation_out,
)
from plyrum import clock, idempotency, paging
from plyrum.errors import NotFound
from plyrum.paging import PageQuery

SCHEMA_VERSION = 1
# What OpenAPI says about an operation that answers with a PDF.
PDF = {
    "responses": {
        200: {
            "description": "The document",
            "content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}},
        }
    }
}

router = Router(tags=["invoices"])
organisation_router = Router(tags=["organisation"])


@organisation_router.get("", response=OrganisationOut, summary="Own organisation")
def show_organisation(request: HttpRequest) -> OrganisationOut:
    """404 before it was filled in."""
    found = organisations.of_owner(_caller(request).user_id)
    if found is None:
        raise NotFound
    return organisation_out(found)


@organisation_router.put("", response=OrganisationOut, summary="Fill in or change the own organisation")
def save_organisation(request: HttpRequest, data: OrganisationIn) -> OrganisationOut:
    """Check digits of INN, OGRN and accounts are verified. Documents that exist keep what it was."""
    with translation.override("en"):  # as all texts of the API
        saved = organisations.save(
            owner_id=_caller(request).user_id,
            party=data.party(),
            now=clock.now(),
            actor=actor_of(request),
        )
    return organisation_out(saved)


@organisation_router.get("/closing-documents", response=ClosingDocumentsOut, summary="Own closing documents")
def list_closing_documents(
    request: HttpRequest, response: HttpResponse, page: Query[PageQuery]
) -> ClosingDocumentsOut:
    """Acts with the data of the UPD, newest first. No operator of electronic documents is connected."""
    found = paging.paginate(queries.closing_documents_of(_caller(request).user_id), page, key="id")
    paging.mark(response, page, found, schema_version=SCHEMA_VERSION)
    items = [closing_document_out(row) for row in found.rows]
    return ClosingDocumentsOut(items=items, next_cursor=found.next_cursor)


@organisation_router.get(
    "/closing-documents/{document_id}.pdf", summary="One closing document as PDF", openapi_extra=PDF
)
def print_closing_document(request: HttpRequest, document_id: str) -> HttpResponse:
    """To be signed by both sides."""
    found = queries.own_closing_document(_caller(request).user_id, document_id)
    return pdf(paper.closing_document(found), f"act-{found.title}")


@organisation_router.get(
    "/closing-documents/{document_id}", response=ClosingDocumentOut, summary="One closing document"
)
def show_closing_document(request: HttpRequest, document_id: str) -> ClosingDocumentOut:
    """It is never changed; `corrects` names the one that it replaces."""
    return closing_document_out(queries.own_closing_document(_caller(request).user_id, document_id))


@organisation_router.get("/reconciliation", response=ReconciliationOut, summary="Reconciliation act")
def show_reconciliation(request: HttpRequest, period: Query[PeriodQuery]) -> ReconciliationOut:
    """Opening balance, movements by days of Moscow, closing balance, as in the ledger; at most a year."""
    act = closing.reconcile(
        organisation=organisations.required(_caller(request).user_id),
        first_day=period.from_,
        last_day=period.to,
        now=clock.now(),
    )
    return reconciliation_out(act)


@router.post("", response={201: InvoiceAnswer}, summary="Issue an invoice")
def issue_invoice(request: HttpRequest, response: HttpResponse, data: InvoiceIn) -> Status[InvoiceAnswer]:
    """An invoice to the own organisation, to be paid from its bank account. Never credits.

    `Idempotency-Key` (header or `idempotency_key`): a repeat answers the first invoice with
    `Idempotent-Replayed: true`. 409 `organisation_required` before the organisation is filled in, 409
    `terms_outdated`, 503 `invoices_not_configured`.
    """
    customer_id = _caller(request).user_id
    request_rates.admit(customer_id, now=clock.now())
    done = issuing.issue(
        customer_id=customer_id,
        wish=Wish(data.amount_rub, data.offer_version),
        key=idempotency.key_of(request, data.idempotency_key),
        origin=origin_of(request, "api"),
        now=clock.now(),
    )
    if done.is_replay:
        response["Idempotent-Replayed"] = "true"
    return Status(201, InvoiceAnswer(invoice=first_answer(done.invoice)))


@router.get("", response=InvoicesOut, summary="Own invoices")
def list_invoices(request: HttpRequest, response: HttpResponse, page: Query[PageQuery]) -> InvoicesOut:
    """Newest first."""
    found = paging.paginate(queries.invoices_of(_caller(request).user_id), page, key="id")
    paging.mark(response, page, found, schema_version=SCHEMA_VERSION)
    return InvoicesOut(items=[invoice_out(row) for row in found.rows], next_cursor=found.next_cursor)


@router.get("/{invoice_id}.pdf", summary="One invoice as PDF", openapi_extra=PDF)
def print_invoice(request: HttpRequest, invoice_id: str) -> HttpResponse:
    """With the QR of the payment order."""
    found = queries.own_invoice(_caller(request).user_id, invoice_id)
    return pdf(paper.invoice(found), f"invoice-{found.title}")


@router.get("/{invoice_id}", response=InvoiceOut, summary="One invoice")
def show_invoice(request: HttpRequest, response: HttpResponse, invoice_id: str) -> InvoiceOut:
    """Its snapshot and its state."""
    response["X-Schema-Version"] = str(SCHEMA_VERSION)
    return invoice_out(queries.own_invoice(_caller(request).user_id, invoice_id))


def pdf(content: bytes, name: str) -> HttpResponse:
    """A printed document, shown by the browser; the site's pages answer the same."""
    return HttpResponse(
        content,
        content_type="application/pdf",
        headers={"Content-Disposition": f'inline; filename="{name}.pdf"', "Cache-Control": "no-store"},
    )


def _caller(request: HttpRequest) -> Credential:
    found: Credential = request.credential  # type: ignore[attr-defined]
    return found
