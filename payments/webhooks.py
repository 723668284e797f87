"""The doors for providers' notifications: read strictly, store, answer. They credit nothing and ask nobody.

Open to everybody on purpose: YooKassa signs nothing, the object is read again before anything moves.
"""

import structlog
from django.conf import settings
from django.http import HttpRequest
from ninja import Router
from ninja.security import APIKeyHeader

from payments import inbox, mock, yookassa
from payments.schemas import MockEventIn, MockEventOut
from payments.shapes import MockEvent
from plyrum import clock
from plyrum.errors import BodyTooLarge

log = structlog.get_logger(__name__)

router = Router(tags=["webhooks"], auth=None)

_NOTIFICATION = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "event", "object"],
                    "properties": {
                        "type": {"const": "notification"},
                        "event": {"type": "string"},
                        "object": {
                            "type": "object",
                            "required": ["id"],
                            "properties": {"id": {"type": "string"}},
                        },
                    },
                }
            }
        },
    }
}


class MockSecret(APIKeyHeader):
    """Raises before the body is looked at: 503 while the mock is not in use, 401 for a wrong secret."""

    param_name = "x-plyrum-mock-webhook-secret"

    def authenticate(self, request: HttpRequest, key: str | None) -> bool:
        mock.require_secret(key or "")
        return True


@router.post("/yookassa", summary="Notification of YooKassa", openapi_extra=_NOTIFICATION)
def receive_yookassa(request: HttpRequest) -> dict[str, str]:
    """200 once stored, whatever the object is; 400 for what is not a notification, 413 above 64 KiB."""
    body = _body(request)
    notification = yookassa.notification(body)
    source_ip = getattr(request, "client_ip", "")
    if settings.PAYMENTS_LIVE and not yookassa.is_known_source(source_ip):
        log.warning("notification_from_unknown_address", object_id=notification.object_id, ip=source_ip)
    inbox.store(notification=notification, raw_body=body, source_ip=source_ip, now=clock.now())
    return {}


@router.post("/mock", response=MockEventOut, auth=MockSecret(), summary="Event of the mock provider")
def receive_mock(request: HttpRequest, data: MockEventIn) -> MockEventOut:
    """409 `webhook_payload_mismatch` for a known event with other content, 409 `amount_mismatch`, 404."""
    event = MockEvent(data.event_id, data.payment_id, data.status, data.amount_micro_rub)
    done = mock.receive(
        event=event, raw_body=request.body, source_ip=getattr(request, "client_ip", ""), now=clock.now()
    )
    return MockEventOut(status=done)  # type: ignore[arg-type]


def _body(request: HttpRequest) -> bytes:
    """The raw body, refused by its announced length before it is read."""
    limit = settings.MAX_JSON_BODY_BYTES
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if int(announced) > limit or len(request.body) > limit:
        raise BodyTooLarge(f"The body may have {limit} bytes.")
    return request.body
