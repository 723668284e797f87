"""The documents' pages: organisation, invoices with QR and PDF, closing documents, reconciliation act."""

from typing import Any, cast
from uuid import UUID, uuid4

import orjson
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.requests import actor_of, origin_of
from billing import request_rates
from legal import documents as legal_documents
from legal.errors import DocumentNotPublished, TermsOutdated
from legal.models import LegalDocument
from payments.invoices import closing, issuing, numbers, organisations, paper, qr, queries, seller
from payments.invoices.api import pdf
from payments.invoices.errors import ClosingDocumentNotFound, InvoiceNotFound
from payments.invoices.forms import InvoiceForm, OrganisationForm, PeriodForm
from payments.invoices.issuing import Wish
from payments.invoices.models import Invoice
from payments.invoices.requisites import Party
from payments.invoices.schemas import closing_document_out
from plyrum import clock, paging
from plyrum.errors import InvalidRequest, TooManyRequests
from plyrum.paging import PageQuery

INVOICES_ON_PAGE = 10
CLOSING_DOCUMENTS_ON_PAGE = 24
QUIET_MODULES = 4  # around the symbol, as its standard wants
# How the state of an invoice is coloured: a state of the status pill.
PILLS = {
    Invoice.Status.ISSUED: "pending",
    Invoice.Status.PAID: "succeeded",
    Invoice.Status.EXPIRED: "canceled",
    Invoice.Status.VOID: "canceled",
}


@never_cache
@login_required
@require_safe
def documents(request: HttpRequest) -> HttpResponse:
    """Everything a firm's accountant looks for."""
    return _documents_page(request)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def organisation(request: HttpRequest) -> HttpResponse:
    """The requisites, made or changed."""
    known = organisations.of_owner(_customer(request).id)
    initial = organisations.party_of(known).as_dict() if known else None
    form = OrganisationForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        organisations.save(
            owner_id=_customer(request).id, party=form.party(), now=clock.now(), actor=actor_of(request)
        )
        messages.success(request, _("Реквизиты сохранены. В новых документах будут они."))
        return redirect("documents")
    context = {"form": form, "is_known": known is not None}
    return render(request, "payments/organisation.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def new_invoice(request: HttpRequest) -> HttpResponse:
    """A correct form leads to the invoice's page; sent twice, it is one invoice."""
    if organisations.of_owner(_customer(request).id) is None or not seller.is_configured():
        return redirect("documents")
    form = InvoiceForm(request.POST)
    if not form.is_valid():
        return _documents_page(request, form, status=422)
    wish = Wish(form.cleaned_data["rub"], form.cleaned_data["offer_version"])
    try:
        request_rates.admit(_customer(request).id, now=clock.now())
        done = issuing.issue(
            customer_id=_customer(request).id,
            wish=wish,
            key=f"site:{form.cleaned_data['idempotency_key']}:{wish.amount_rub}:{wish.offer_version}",
            origin=origin_of(request, "site"),
            now=clock.now(),
        )
    except TermsOutdated:
        return _documents_page(request, form, status=409, replaced_offer=True)
    except TooManyRequests as error:
        form.add_error("amount_rub", _("Слишком много запросов подряд."))
        return _documents_page(request, form, status=error.status)
    return redirect("invoice", done.invoice.id)


@never_cache
@login_required
@require_safe
def invoice(request: HttpRequest, invoice_id: UUID) -> HttpResponse:
    """One invoice with what the bank order needs."""
    found = _own_invoice(request, invoice_id)
    modules = qr.matrix(qr.text(found))
    size = len(modules) + 2 * QUIET_MODULES
    context = {
        "invoice": found,
        "pill": PILLS[Invoice.Status(found.status)],
        "seller_party": Party.of(found.seller),
        "buyer": Party.of(found.buyer),
        "qr_path": qr.svg_path(modules),
        "qr_box": f"{-QUIET_MODULES} {-QUIET_MODULES} {size} {size}",
        "is_payable": found.status in Invoice.PAYABLE,
    }
    return render(request, "payments/invoice.html", context)


@never_cache
@login_required
@require_safe
def invoice_pdf(request: HttpRequest, invoice_id: UUID) -> HttpResponse:
    found = _own_invoice(request, invoice_id)
    return pdf(paper.invoice(found), f"invoice-{found.title}")


@never_cache
@login_required
@require_safe
def closing_pdf(request: HttpRequest, document_id: UUID) -> HttpResponse:
    try:
        found = queries.own_closing_document(_customer(request).id, document_id)
    except ClosingDocumentNotFound as error:
        raise Http404 from error
    return pdf(paper.closing_document(found), f"act-{found.title}")


@never_cache
@login_required
@require_safe
def closing_json(request: HttpRequest, document_id: UUID) -> HttpResponse:
    """The data of the document, for an accountant's program."""
    try:
        found = queries.own_closing_document(_customer(request).id, document_id)
    except ClosingDocumentNotFound as error:
        raise Http404 from error
    name = f'attachment; filename="act-{found.title}.json"'
    return HttpResponse(
        orjson.dumps(closing_document_out(found).dict(), option=orjson.OPT_INDENT_2),
        content_type="application/json",
        headers={"Content-Disposition": name},
    )


@never_cache
@login_required
@require_safe
def reconciliation(request: HttpRequest) -> HttpResponse:
    """The act of the chosen period as PDF; a wrong period brings the page back."""
    known = organisations.of_owner(_customer(request).id)
    if known is None or not seller.is_configured():
        return redirect("documents")
    form = PeriodForm(request.GET)
    if not form.is_valid():
        return _documents_page(request, period=form, status=422)
    try:
        act = closing.reconcile(
            organisation=known,
            first_day=form.cleaned_data["first_day"],
            last_day=form.cleaned_data["last_day"],
            now=clock.now(),
        )
    except InvalidRequest:
        form.add_error("last_day", _("Период не больше года и не дальше сегодняшнего дня."))
        return _documents_page(request, period=form, status=422)
    return pdf(paper.reconciliation(act), f"reconciliation-{act.first_day}-{act.last_day}")


def _documents_page(
    request: HttpRequest,
    form: InvoiceForm | None = None,
    *,
    period: PeriodForm | None = None,
    status: int = 200,
    replaced_offer: bool = False,
) -> HttpResponse:
    customer_id, now = _customer(request).id, clock.now()
    known = organisations.of_owner(customer_id)
    cursor = request.GET.get("cursor") or None
    query = PageQuery.model_construct(page=1, page_size=INVOICES_ON_PAGE, cursor=cursor)
    try:
        page = paging.paginate(queries.invoices_of(customer_id), query, key="id")
        offer = legal_documents.current(LegalDocument.Kind.OFFER, get_language(), at=now)
    except InvalidRequest:
        return redirect("documents")
    except DocumentNotPublished:
        return render(request, "503.html", status=503)
    here = reverse("documents")
    acts = queries.closing_documents_of(customer_id).order_by("-month", "-id")[:CLOSING_DOCUMENTS_ON_PAGE]
    context: dict[str, Any] = {
        "organisation": known,
        "configured": seller.is_configured(),
        "invoices": [
            {"row": row, "pill": PILLS[Invoice.Status(row.status)], "label": row.get_status_display()}
            for row in page.rows
        ],
        "first_url": here if cursor else "",
        "next_url": f"{here}?cursor={page.next_cursor}" if page.next_cursor else "",
        "acts": acts,
        "form": form,
        "period": period or PeriodForm.of_last_month(numbers.day_of(now)),
        "offer": {"version": offer.number, "url": reverse("legal_document", args=[LegalDocument.Kind.OFFER])},
        "replaced_offer": replaced_offer,
        "idempotency_key": uuid4(),
        "min_rub": settings.PAYMENTS_MIN_TOPUP_RUB,
        "max_rub": settings.PAYMENTS_MAX_INVOICE_RUB,
    }
    return render(request, "payments/documents.html", context, status=status)


def _own_invoice(request: HttpRequest, invoice_id: UUID) -> Invoice:
    try:
        return queries.own_invoice(_customer(request).id, invoice_id)
    except InvoiceNotFound as error:
        raise Http404 from error


def _customer(request: HttpRequest) -> User:
    return cast(User, request.user)
