"""Paths of the operator's audit API; the frame hangs them at `api/audit`."""

from django.urls import path

from auditlog.operator_api import AuditView

urlpatterns = [path("", AuditView.as_view(), name="operator_audit")]
