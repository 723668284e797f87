"""Paths of the operator's API of money; the frame hangs them at `api/billing/admin`."""

from django.urls import path

from billing.operator_api import AdjustmentView, CreditView

urlpatterns = [
    path("/credit", CreditView.as_view(), name="operator_credit"),
    path("/adjustment", AdjustmentView.as_view(), name="operator_adjustment"),
]
