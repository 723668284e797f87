"""The payment pages of the site: choose a sum, see how it goes, see them all.

Every page shows our own state only. Coming back from the provider's page proves nothing and moves nothing.
"""

from typing import Any, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.requests import actor_of, origin_of
from billing import request_rates
from legal import documents
from legal.errors import DocumentNotPublished, TermsOutdated
from legal.models import LegalDocument
from payments import checkout, presets, queries, refresh, words
from payments.errors import (
    CheckedTooOften,
    OutcomeUnknown,
    PaymentNotFound,
    PaymentsNotConfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from payments.forms import TopUpForm
from payments.models import Payment
from payments.shapes import Order
from plyrum import clock, paging
from plyrum.errors import InvalidRequest, TooManyRequests
from plyrum.paging import PageQuery

# Source: UX guide 7.2. Then every 30 s for ten minutes, then not at all.
POLL_SECONDS = (2, 2, 3, 5, 8, 13, 20)
LATE_POLL_SECONDS = 30
LATE_POLLS = 20


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def topup(request: HttpRequest) -> HttpResponse:
    """The form; a correct POST leads to the provider's page, or to the payment's own while it is not open."""
    if not checkout.is_configured():
        return render(request, "payments/topup.html", {"configured": False})
    try:
        if request.method == "POST":
            return _topup_posted(request)
        return _form_page(request)
    except DocumentNotPublished:
        return render(request, "503.html", status=503)


@never_cache
@login_required
@require_safe
def payment(request: HttpRequest, payment_id: UUID) -> HttpResponse:
    """The payment's page, also where the provider sends the payer back to."""
    found = _own(request, payment_id)
    return render(request, "payments/payment_detail.html", _state(found, attempt=0))


@never_cache
@login_required
@require_safe
def payment_state(request: HttpRequest, payment_id: UUID) -> HttpResponse:
    """The living part of that page."""
    found = _own(request, payment_id)
    context = _state(found, attempt=_attempt(request)) | {"is_fragment": True}
    return render(request, "payments/_payment_state.html", context)


@login_required
@require_POST
def payment_check(request: HttpRequest, payment_id: UUID) -> HttpResponse:
    """Ask the provider now, at most once in ten seconds; the answer is the payment's page."""
    try:
        refresh.check(
            customer_id=_customer(request).id, payment_id=payment_id, now=clock.now(), actor=actor_of(request)
        )
    except PaymentNotFound as error:
        raise Http404 from error
    except CheckedTooOften:
        pass  # the page says when the next check is possible
    except (OutcomeUnknown, ProviderUnavailable, ProviderRefused):
        messages.warning(request, _("ЮKassa сейчас не отвечает. Проверим ещё раз сами: деньги не теряются."))
    return redirect("payment", payment_id)


@never_cache
@login_required
@require_safe
def payments(request: HttpRequest) -> HttpResponse:
    """All payments of the customer, newest first."""
    cursor = request.GET.get("cursor") or None
    rows = queries.of_customer(_customer(request).id)
    try:
        page = paging.paginate(rows, PageQuery.model_construct(page=1, page_size=20, cursor=cursor), key="id")
    except InvalidRequest:
        return redirect("payments")
    here = reverse("payments")
    context = {
        "payments": [_shown(row) | {"method": words.method(row.method)} for row in page.rows],
        "first_url": here if cursor else "",
        "next_url": f"{here}?cursor={page.next_cursor}" if page.next_cursor else "",
    }
    return render(request, "payments/payment_list.html", context)


def _topup_posted(request: HttpRequest) -> HttpResponse:
    form = TopUpForm(request.POST)
    if not form.is_valid():
        return _form_page(request, form, status=422)
    order = Order(
        amount_rub=form.cleaned_data["rub"],
        receipt_email=form.cleaned_data["receipt_email"],
        offer_version=form.cleaned_data["offer_version"],
    )
    # The order is part of the key: the same form sent twice is one payment, a changed one is another.
    key = f"site:{form.cleaned_data['idempotency_key']}:{checkout.fingerprint(order)[:16]}"
    try:
        request_rates.admit(_customer(request).id, now=clock.now())
        done = checkout.checkout(
            customer_id=_customer(request).id,
            order=order,
            key=key,
            origin=origin_of(request, "site"),
            now=clock.now(),
        )
    except TermsOutdated:
        return _form_page(request, form, status=409, replaced_offer=True, accepted=False)
    except TooManyRequests as error:
        shown = {
            "title": _("Слишком много запросов подряд."),
            "text": _("Подождите немного и повторите. Деньги не тронуты."),
            "code": error.code,
        }
        return _form_page(request, form, status=error.status, error=shown)
    except (OutcomeUnknown, ProviderUnavailable) as error:
        return redirect("payment", error.extra["payment_id"])
    except (ProviderRefused, PaymentsNotConfigured) as error:
        shown = {
            "title": _("Оплата не открылась"),
            "text": _("Деньги не списаны. Попробуйте позже или напишите нам: мы уже знаем."),
            "code": error.code,
        }
        return _form_page(request, form, status=503, error=shown)
    if done.payment.status == Payment.Status.PENDING and done.payment.confirmation_url:
        return HttpResponseRedirect(done.payment.confirmation_url)
    return redirect("payment", done.payment.id)


def _form_page(
    request: HttpRequest, form: TopUpForm | None = None, *, status: int = 200, **more: Any
) -> HttpResponse:
    offer = documents.current(LegalDocument.Kind.OFFER, get_language() or "ru", at=clock.now())
    data = form.data if form else {}
    errors = {name: str(rows[0]) for name, rows in form.errors.items()} if form else {}
    hidden = {"offer_version", "idempotency_key"} & errors.keys()
    context = {
        "configured": True,
        "presets": presets.presets(),
        "preset": data.get("preset") or ("own" if form else presets.CHOSEN_RUB),
        "amount_rub": data.get("amount_rub", ""),
        "receipt_email": data.get("receipt_email") if form else _customer(request).email,
        "min_rub": settings.PAYMENTS_MIN_TOPUP_RUB,
        "max_rub": settings.PAYMENTS_MAX_TOPUP_RUB,
        "offer": {"version": offer.number, "url": reverse("legal_document", args=[LegalDocument.Kind.OFFER])},
        "refund_rules_url": reverse("legal_document", args=[LegalDocument.Kind.REFUND_RULES]),
        # A form whose payment was tried keeps its key; a broken key is replaced.
        "idempotency_key": uuid4() if not form or hidden else form.cleaned_data["idempotency_key"],
        "vat_note": words.vat(settings.YOOKASSA_VAT_CODE),
        "accepted": bool(data.get("accept_offer")),
        "errors": {name: text for name, text in errors.items() if name not in hidden},
        "error": {"title": _("Страница устарела"), "text": _("Отправьте форму ещё раз."), "code": ""}
        if hidden
        else None,
        "replaced_offer": False,
    }
    return render(request, "payments/topup.html", context | more, status=status)


def _state(found: Payment, *, attempt: int) -> dict[str, Any]:
    """Context of the state fragment; `attempt` is how many times the page has asked by itself."""
    now = clock.now()
    poll_seconds = _poll_seconds(attempt) if found.is_open else None
    address = reverse("payment_state", args=[found.id])
    return {
        "payment": _shown(found),
        "timeline": words.timeline(found),
        "poll_seconds": poll_seconds,
        "poll_url": f"{address}?attempt={attempt + 1}",
        "checked_recently": found.checked_at is not None and now - found.checked_at < refresh.CHECK_EVERY,
    }


def _poll_seconds(attempt: int) -> int | None:
    if attempt < len(POLL_SECONDS):
        return POLL_SECONDS[attempt]
    return LATE_POLL_SECONDS if attempt < len(POLL_SECONDS) + LATE_POLLS else None


def _attempt(request: HttpRequest) -> int:
    text = request.GET.get("attempt", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def _shown(found: Payment) -> dict[str, Any]:
    """A payment as the templates know it."""
    status = Payment.Status.CREATED if found.status == Payment.Status.UNKNOWN else found.status
    return {
        "id": found.id,
        "status": str(status),
        "amount_micro_rub": found.amount_micro_rub,
        "created_at": found.created_at,
        "expires_at": found.expires_at if found.is_open else None,
        "confirmation_url": found.confirmation_url if found.is_open else "",
        "cancellation_reason": found.cancellation_reason,
        "cancellation_text": words.cancellation(found.cancellation_reason),
        "receipt_url": "",
        "receipt_email": found.receipt_email,
    }


def _own(request: HttpRequest, payment_id: UUID) -> Payment:
    try:
        return queries.own(_customer(request).id, payment_id)
    except PaymentNotFound as error:
        raise Http404 from error


def _customer(request: HttpRequest) -> User:
    return cast(User, request.user)  # every view here asks for a sign-in first
