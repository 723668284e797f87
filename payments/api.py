"""The customer API of payments: checkout, own payments, a check on demand, and the providers' doors."""

from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Status

from accounts.credentials import Credential
from accounts.models import User
from accounts.requests import actor_of, origin_of
from billing import request_rates
from payments import checkout, queries, refresh, webhooks
from payments.schemas import (
    CheckoutIn,
    CheckoutOut,
    PaymentOut,
    PaymentsOut,
    first_answer,
    payment_out,
)
from payments.shapes import Order
from plyrum import bodies, clock, idempotency, paging
from plyrum.errors import InvalidRequest
from plyrum.paging import PageQuery

SCHEMA_VERSION = 1

router = Router(tags=["payments"])
router.add_router("/webhook", webhooks.router)


@router.post("/checkout", response={201: CheckoutOut}, summary="Open a top-up")
def open_checkout(request: HttpRequest, response: HttpResponse, data: CheckoutIn) -> Status[CheckoutOut]:
    """Opens a payment at the provider and answers where to pay. Never credits.

    `Idempotency-Key` (header or `idempotency_key`): a repeat answers the first payment with
    `Idempotent-Replayed: true`. 409 `terms_outdated` with the version of the offer in force, 503
    `payments_not_configured`, 503 `payment_outcome_unknown` with `payment_id` while the provider is asked.
    """
    customer_id = _caller(request).user_id
    request_rates.admit(customer_id, now=clock.now())
    done = checkout.checkout(
        customer_id=customer_id,
        order=_order(data, customer_id),
        key=idempotency.key_of(request, data.idempotency_key),
        origin=origin_of(request, "api"),
        now=clock.now(),
    )
    if done.is_replay:
        response["Idempotent-Replayed"] = "true"
        return Status(201, CheckoutOut(payment=first_answer(done.payment)))
    return Status(201, CheckoutOut(payment=payment_out(done.payment)))


@router.get("", response=PaymentsOut, summary="Own payments")
def list_payments(request: HttpRequest, response: HttpResponse, query: Query[PageQuery]) -> PaymentsOut:
    """Newest first."""
    found = paging.paginate(queries.of_customer(_caller(request).user_id), query, key="id")
    paging.mark(response, query, found, schema_version=SCHEMA_VERSION)
    return PaymentsOut(items=[payment_out(row) for row in found.rows], next_cursor=found.next_cursor)


@router.get("/{payment_id}", response=PaymentOut, summary="One payment")
def show_payment(request: HttpRequest, response: HttpResponse, payment_id: str) -> PaymentOut:
    """The state we know; nobody is asked."""
    response["X-Schema-Version"] = str(SCHEMA_VERSION)
    return payment_out(queries.own(_caller(request).user_id, payment_id))


@router.post("/{payment_id}/refresh", response=PaymentOut, summary="Ask the provider now")
def refresh_payment(request: HttpRequest, response: HttpResponse, payment_id: str) -> PaymentOut:
    """Once in 10 seconds for each payment, else 429. 503 while the provider does not answer."""
    response["X-Schema-Version"] = str(SCHEMA_VERSION)
    found = queries.own(_caller(request).user_id, payment_id)
    bodies.no_fields(request)
    payment = refresh.check(
        customer_id=found.customer_id,
        payment_id=found.pk,
        now=clock.now(),
        actor=actor_of(request),
    )
    return payment_out(payment)


def _caller(request: HttpRequest) -> Credential:
    found: Credential = request.credential  # type: ignore[attr-defined]
    return found


def _order(data: CheckoutIn, customer_id: UUID) -> Order:
    email = data.receipt_email or User.objects.values_list("email", flat=True).get(pk=customer_id)
    return Order(
        amount_rub=data.amount_rub,
        receipt_email=email,
        return_url=_own_address(data.return_url),
        method=data.method or "",
        offer_version=data.offer_version,
    )


def _own_address(url: str | None) -> str:
    """Only addresses of this site: a foreign one would make our payment page an open redirect."""
    if url is None:
        return ""
    try:
        wanted, own = urlsplit(url), urlsplit(settings.SITE_URL)
        is_own = (wanted.scheme, wanted.netloc) == (own.scheme, own.netloc)
    except ValueError:
        is_own = False
    if not is_own or "\\" in url:
        raise _wrong("return_url", "Only an address of this site is taken.")
    return url


def _wrong(name: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, errors=[{"loc": ["body", name], "msg": text, "type": "value_error"}])
