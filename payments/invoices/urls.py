"""Paths of the documents' pages, below those of payments."""

from django.urls import path

from payments.invoices import views

urlpatterns = [
    path("app/documents", views.documents, name="documents"),
    path("app/documents/organisation", views.organisation, name="organisation"),
    path("app/documents/invoices", views.new_invoice, name="new_invoice"),
    path("app/documents/invoices/<uuid:invoice_id>", views.invoice, name="invoice"),
    path("app/documents/invoices/<uuid:invoice_id>.pdf", views.invoice_pdf, name="invoice_pdf"),
    path("app/documents/closing/<uuid:document_id>.pdf", views.closing_pdf, name="closing_pdf"),
    path("app/documents/closing/<uuid:document_id>.json", views.closing_json, name="closing_json"),
    path("app/documents/reconciliation", views.reconciliation, name="reconciliation"),
]
