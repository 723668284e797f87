"""The wallet's page and its statement as a file."""

from django.urls import path

from billing import views

urlpatterns = [
    path("app/wallet", views.wallet, name="wallet"),
    path("app/wallet/limits", views.set_limits, name="wallet_limits"),
    path("app/wallet/alert", views.set_alert, name="set_alert"),
    path("app/wallet/export", views.export_wallet, name="export_wallet"),
]
