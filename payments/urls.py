"""Paths of the payment pages; the frame hangs them at the root of the site."""

from django.urls import include, path

from payments import views

urlpatterns = [
    path("app/topup", views.topup, name="topup"),
    path("app/topup/<uuid:payment_id>", views.payment, name="payment"),
    path("app/topup/<uuid:payment_id>/state", views.payment_state, name="payment_state"),
    path("app/topup/<uuid:payment_id>/check", views.payment_check, name="payment_check"),
    path("app/payments", views.payments, name="payments"),
    path("", include("payments.invoices.urls")),
]
