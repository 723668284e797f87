"""The operator's doors to money: `POST /api/billing/admin/credit` and `/adjustment`."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.utils import translation
from pydantic import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import roles
from auditlog.requests import operator_of
from billing import acts, statement
from billing.acts import Asked, Asking
from billing.errors import IdempotencyKeyRequired, OperatorRequestClosed
from billing.models import LedgerEntry, OperatorRequest
from billing.schemas import AdjustmentIn, CreditIn, entry_out, request_out
from plyrum import clock, idempotency, problems
from plyrum.bodies import json_object


class AdjustmentView(APIView):
    """Correct a balance: 201 `{entry}`, or 202 `{request}` while a second operator has to approve it.

    Above zero gives, below zero takes what is free: 402 when it is not there.
    """

    http_method_names = ["post"]
    operator_roles: ClassVar[frozenset[str]] = roles.who_change("billing")
    body_schema: ClassVar[type[AdjustmentIn]] = AdjustmentIn
    act: ClassVar[Callable[..., Asked]] = staticmethod(acts.adjust)

    def post(self, request: Request) -> Response:
        """A repeat of key and body answers how it stands now, with `Idempotent-Replayed: true`."""
        data = _read(request, self.body_schema)
        asked = self.act(
            customer_id=data.user_id,
            amount_micro_rub=data.micro_rub(),
            asking=Asking(
                reason=data.reason,
                ticket=data.ticket,
                key=_key(request, data),
                now=clock.now(),
                actor=operator_of(request),
            ),
        )
        headers = {"Cache-Control": "no-store"}
        if asked.is_replay:
            headers["Idempotent-Replayed"] = "true"
        if asked.request.state == OperatorRequest.State.WAITING:
            return Response({"request": request_out(asked.request).model_dump()}, status=202, headers=headers)
        if asked.request.ledger_entry_id is None:
            raise OperatorRequestClosed(state=asked.request.state)
        return Response({"entry": _entry(asked.request.ledger_entry_id)}, status=201, headers=headers)


class CreditView(AdjustmentView):
    """Give a customer money, as an adjustment above zero."""

    body_schema = CreditIn
    act = staticmethod(acts.credit)


def _entry(entry_id: UUID) -> dict[str, Any]:
    with translation.override("en"):  # as all texts of the operators' API
        (line,) = statement.lines([LedgerEntry.objects.get(pk=entry_id)])
        return entry_out(line).model_dump()


def _read(request: Request, schema: type[AdjustmentIn]) -> AdjustmentIn:
    try:
        return schema.model_validate(json_object(request._request))
    except ValidationError as error:
        raise problems.body_errors(error) from error


def _key(request: Request, data: AdjustmentIn) -> str:
    """The key of the header, else of the body."""
    key = idempotency.key_of(request._request, data.idempotency_key)
    if not key:
        raise IdempotencyKeyRequired("Send idempotency_key or Idempotency-Key (1..255 characters).")
    return key
