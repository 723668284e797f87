"""The operator behind a request of the back office or of the operator API, for the doors of all apps."""

from django.http import HttpRequest
from rest_framework.request import Request

from auditlog.actors import Actor


def operator_of(request: HttpRequest | Request) -> Actor:
    return Actor.operator(
        str(request.user.pk),
        ip=getattr(request, "client_ip", ""),
        request_id=getattr(request, "request_id", ""),
    )
