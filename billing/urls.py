"""The wallet's page."""

from django.urls import path

from billing import views

urlpatterns = [path("app/wallet", views.wallet, name="wallet")]
