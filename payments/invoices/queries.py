"""Reads of invoices, bank lines and closing documents. Foreign and missing rows look the same."""

from uuid import UUID

from django.db.models import Q, QuerySet

from payments.invoices.errors import ClosingDocumentNotFound, InvoiceNotFound
from payments.invoices.models import BankLine, ClosingDocument, Invoice
from payments.invoices.references import numbers_in
from payments.queries import as_id

MOST_SUGGESTIONS = 5


def invoices_of(customer_id: UUID) -> QuerySet[Invoice]:
    """The customer's invoices; order them by `id`."""
    return Invoice.objects.filter(customer_id=customer_id)


def own_invoice(customer_id: UUID, invoice_id: str | UUID) -> Invoice:
    """Raises InvoiceNotFound for a malformed, missing or foreign id alike."""
    wanted = as_id(str(invoice_id))
    found = invoices_of(customer_id).filter(pk=wanted).first() if wanted else None
    if found is None:
        raise InvoiceNotFound
    return found


def closing_documents_of(customer_id: UUID) -> QuerySet[ClosingDocument]:
    """The customer's closing documents; order them by `id`."""
    return ClosingDocument.objects.filter(customer_id=customer_id).select_related("corrects")


def own_closing_document(customer_id: UUID, document_id: str | UUID) -> ClosingDocument:
    """Raises ClosingDocumentNotFound for a malformed, missing or foreign id alike."""
    wanted = as_id(str(document_id))
    found = closing_documents_of(customer_id).filter(pk=wanted).first() if wanted else None
    if found is None:
        raise ClosingDocumentNotFound
    return found


def suggestions(line: BankLine) -> list[Invoice]:
    """Open invoices that a line in suspense may mean: by number, or by payer. Only shown to operators."""
    named = Q(pk__in=[])
    for year, number in numbers_in(line.purpose):
        named |= Q(year=year, number=number)
    if line.payer_inn:
        named |= Q(buyer__inn=line.payer_inn)
    open_rows = Invoice.objects.filter(named, status__in=Invoice.PAYABLE)
    return list(open_rows.order_by("-id")[:MOST_SUGGESTIONS])
