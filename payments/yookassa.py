"""The adapter of YooKassa's API v3: makes, reads and lists payments, reads notifications.

Called by `checkout`, `refresh`, `sweep` and `inbox`, never inside a transaction. Knows no tables, credits
nothing, logs neither bodies nor credentials. Source: payments guide 1 and 2 (YooKassa's manual, August 2026).
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
from django.conf import settings

from billing import money
from payments.errors import MalformedNotification, RemoteNotFoundError
from payments.shapes import NewPayment, Notification, RemotePage, RemotePayment
from plyrum import outbound
from plyrum.clock import rfc3339
from plyrum.errors import AdapterError

NAME = "yookassa"
# The provider answers within 30 s or says 500; a shorter wait would turn answers into unknown outcomes.
READ_TIMEOUT_SECONDS = 35.0
PAGE_ITEMS = 100  # the provider's highest
# The payer's time on the hosted page for every method we offer.
PAYER_TIME = timedelta(hours=1)
# For so long the provider answers a repeated key with the first result; one hour of 24 is our margin.
KEY_LIFETIME = timedelta(hours=23)
METHODS = ("bank_card", "sbp", "sberbank", "tinkoff_bank", "yoo_money")
RECEIPT_LINE = "Аванс за услуги Plyrum"
OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
NOTIFICATION_DEPTH = 10
NAME_CHARS = 100
INCOME_CHARS = 100
# Where notifications come from. A hint for the log only: what is believed is the object that we read.
NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "185.71.76.0/27",
        "185.71.77.0/27",
        "77.75.153.0/25",
        "77.75.154.128/25",
        "77.75.156.11/32",
        "77.75.156.35/32",
        "2a02:5180::/32",
    )
)


def request_body(new: NewPayment) -> str:
    """The body of the create call, to be stored and sent as it is, so that every repeat is byte-equal."""
    amount = {"value": money.to_provider(new.amount_micro_rub), "currency": "RUB"}
    receipt: dict[str, Any] = {
        "customer": {"email": new.receipt_email},
        "items": [
            {
                "description": RECEIPT_LINE,
                "quantity": 1,
                "measure": "piece",
                "amount": amount,
                "vat_code": settings.YOOKASSA_VAT_CODE,
                "payment_subject": "service",
                "payment_mode": "full_prepayment",
            }
        ],
    }
    if settings.YOOKASSA_TAX_SYSTEM_CODE:
        receipt["tax_system_code"] = settings.YOOKASSA_TAX_SYSTEM_CODE
    body: dict[str, Any] = {
        "amount": amount,
        "capture": True,
        "confirmation": {
            "type": "redirect",
            "return_url": new.return_url,
            "locale": "en_US" if new.locale.startswith("en") else "ru_RU",
        },
        "description": f"Пополнение баланса Plyrum, заказ {new.payment_id}",
        "merchant_customer_id": str(new.customer_id),
        "metadata": {"payment_id": str(new.payment_id)},
        "receipt": receipt,
    }
    if new.method:
        body["payment_method_data"] = {"type": new.method}
    return orjson.dumps(body).decode()


def create(*, key: UUID, body: str) -> RemotePayment:
    """Make the payment, or get the one that this key has made. Raises AdapterError."""
    headers = {"Idempotence-Key": str(key), "Content-Type": "application/json"}
    return _payment(_call("POST", "/payments", content=body.encode(), headers=headers))


def get(object_id: str) -> RemotePayment:
    """Read one payment as it is now. Raises AdapterError; RemoteNotFoundError for an unknown id."""
    if not OBJECT_ID.fullmatch(object_id):
        raise RemoteNotFoundError(NAME, "not an id of the provider", retryable=False)
    return _payment(_call("GET", f"/payments/{object_id}"))


def listed(*, since: datetime, until: datetime, cursor: str = "") -> RemotePage:
    """A page of the payments made within [since, until). Raises AdapterError."""
    query = {
        "created_at.gte": rfc3339(since),
        "created_at.lt": rfc3339(until),
        "limit": str(PAGE_ITEMS),
        **({"cursor": cursor} if cursor else {}),
    }
    answer = _call("GET", "/payments", params=query)
    items = answer.get("items")
    if not isinstance(items, list):
        raise _broken("a list without items")
    return RemotePage([_payment(item) for item in items], _text(answer.get("next_cursor")))


def notification(raw: bytes) -> Notification:
    """Read a notification strictly. Raises MalformedNotification for anything that YooKassa does not send."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refuse_constant)
        is_too_deep = _depth(value) > NOTIFICATION_DEPTH
    except (ValueError, RecursionError) as error:
        raise MalformedNotification("The body is not the JSON of a notification.") from error
    if not isinstance(value, dict) or is_too_deep or value.get("type") != "notification":
        raise MalformedNotification("The body is not a notification.")
    return Notification(_name(value.get("event")), _name(_member(value, "object").get("id")))


def is_known_source(ip: str) -> bool:
    """Whether an address is one that YooKassa publishes as a source of notifications."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in NETWORKS if network.version == address.version)


def _call(method: str, path: str, **arguments: Any) -> Mapping[str, Any]:
    """One call. A POST that was sent and has no clear answer may have been executed."""
    is_post = method == "POST"
    try:
        with outbound.client(
            base_url=settings.YOOKASSA_API_BASE_URL,
            read_timeout_seconds=READ_TIMEOUT_SECONDS,
            auth=(settings.YOOKASSA_SHOP_ID, settings.YOOKASSA_SECRET_KEY),
        ) as client:
            response = client.request(method, path, **arguments)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise AdapterError(NAME, type(error).__name__, retryable=True) from error
    except httpx.TransportError as error:
        raise AdapterError(NAME, type(error).__name__, retryable=True, outcome_unknown=is_post) from error
    if response.status_code == httpx.codes.OK:
        return _object(response)
    raise _failure(response, is_post=is_post)


def _failure(response: httpx.Response, *, is_post: bool) -> AdapterError:
    status, detail = response.status_code, _detail(response)
    if status == httpx.codes.NOT_FOUND and not is_post:
        return RemoteNotFoundError(NAME, detail, retryable=False)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return AdapterError(NAME, detail, retryable=True)
    if 400 <= status < 500:
        return AdapterError(NAME, detail, retryable=False)
    return AdapterError(NAME, detail, retryable=True, outcome_unknown=is_post)


def _detail(response: httpx.Response) -> str:
    """Status, code, parameter and the error's id (support asks for it); never the description or our data."""
    parts = [str(response.status_code)]
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict):
        parts += [str(body[name])[:80] for name in ("code", "parameter", "id") if body.get(name)]
    return " ".join(parts)


def _object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise _broken("not JSON") from error
    if not isinstance(value, dict):
        raise _broken("not an object")
    return value


def _broken(what: str) -> AdapterError:
    return AdapterError(NAME, f"broken answer: {what}", retryable=True, outcome_unknown=True)


def _payment(value: Any) -> RemotePayment:
    """Only the id and the status must be there; the list of everything else grows without notice."""
    if not isinstance(value, dict) or not _text(value.get("id")) or not _text(value.get("status")):
        raise _broken("not a payment")
    amount, cancellation = _member(value, "amount"), _member(value, "cancellation_details")
    text, income = _text(amount.get("value")), _member(value, "income_amount")
    is_income_told = value.get("income_amount") is not None
    is_test = value.get("test")
    return RemotePayment(
        id=_text(value.get("id")),
        status=_text(value.get("status")),
        amount_text=text,
        amount_micro_rub=_micro(text),
        currency=_text(amount.get("currency")),
        account_id=_text(_member(value, "recipient").get("account_id")),
        is_test=is_test if isinstance(is_test, bool) else None,
        payment_id=_text(_member(value, "metadata").get("payment_id")),
        created_at=_moment(value.get("created_at")),
        captured_at=_moment(value.get("captured_at")),
        confirmation_url=_text(_member(value, "confirmation").get("confirmation_url")),
        method=_text(_member(value, "payment_method").get("type")),
        cancellation_party=_text(cancellation.get("party")),
        cancellation_reason=_text(cancellation.get("reason")),
        income_text=str(value["income_amount"])[:INCOME_CHARS] if is_income_told else "",
        income_micro_rub=_micro(_text(income.get("value"))) if income.get("currency") == "RUB" else None,
    )


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _name(value: Any) -> str:
    """A short printable text; lone surrogates and zero bytes, which no database takes, are not printable."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS or not value.isprintable():
        raise MalformedNotification("The notification names no event or no object.")
    return value


def _micro(text: str) -> int | None:
    try:
        return money.from_provider(text)
    except ValueError:
        return None


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    return 0
