"""The hosted payment page: what a payer sees and presses instead of YooKassa's own page.

Served at `/yookassa/pay/{payment_id}`; works without script. It only calls the acts of `shop`; card numbers
are never stored or logged, only their first six and last four digits as YooKassa keeps them.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox.html import Markup, page
from sandbox.yookassa import cards, pages
from sandbox.yookassa.cards import Card, CardError
from sandbox.yookassa.errors import ApiError
from sandbox.yookassa.shapes import Json, Payment
from sandbox.yookassa.shop import Shop

PLAIN_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+", re.ASCII)


class HostedPage:
    """The payment page of one shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/yookassa/pay/{payment_id}", self._show, methods=["GET"]),
            Route("/yookassa/pay/{payment_id}/card", self._pay_by_card, methods=["POST"]),
            Route("/yookassa/pay/{payment_id}/sbp", self._pay_by_sbp, methods=["POST"]),
            Route("/yookassa/payments", self._list, methods=["GET"]),
        ]

    async def _show(self, request: Request) -> Response:
        payment = self._find(request)
        if payment is None:
            return page("Платёж не найден", pages.missing(), kind="narrow", status_code=404)
        return self._page(payment, typed=_filled_in(request.query_params.get("card", "")))

    async def _pay_by_card(self, request: Request) -> Response:
        payment = self._find(request)
        if payment is None:
            return page("Платёж не найден", pages.missing(), kind="narrow", status_code=404)
        if payment.status != "pending":
            return self._page(payment)
        typed = await _form(request)
        today = datetime.fromtimestamp(self._shop.clock.now(), UTC)
        try:
            card = cards.read(
                typed.get("number", ""),
                typed.get("expiry", ""),
                typed.get("csc", ""),
                year=today.year,
                month=today.month,
            )
        except CardError as error:
            typed.pop("csc", None)
            return self._page(payment, typed=typed, problems=error.problems)
        if card.is_accepted:
            payment = self._shop.pay(
                payment.id,
                method=card_method(payment.id, card),
                authorization=authorization(payment.id, card),
            )
        else:
            reason, party = card.decline
            method = card_method(payment.id, card)
            payment = self._shop.decline(payment.id, reason=reason, party=party, method=method)
        return RedirectResponse(payment.return_url, status_code=303)

    async def _pay_by_sbp(self, request: Request) -> Response:
        payment = self._find(request)
        if payment is None:
            return page("Платёж не найден", pages.missing(), kind="narrow", status_code=404)
        if payment.status != "pending" or not payment.capture:
            return self._page(payment)
        typed = await _form(request)
        method = sbp_method(payment.id)
        if typed.get("answer") == "confirm":
            payment = self._shop.pay(payment.id, method=method, authorization=None)
        else:
            payment = self._shop.decline(
                payment.id, reason="general_decline", party="payment_network", method=method
            )
        return RedirectResponse(payment.return_url, status_code=303)

    async def _list(self, _request: Request) -> Response:
        return page("Платежи песочницы", pages.payments(self._shop), path="/yookassa/payments")

    def _find(self, request: Request) -> Payment | None:
        try:
            return self._shop.payment(request.path_params["payment_id"])
        except ApiError:
            return None

    def _page(
        self, payment: Payment, *, typed: dict[str, str] | None = None, problems: dict[str, str] | None = None
    ) -> Response:
        body: Markup
        if payment.status == "pending":
            body = pages.payment_form(payment, typed=typed or {}, problems=problems or {})
        else:
            body = pages.finished(payment)
        status = 422 if problems else 200
        target = _origin(payment.return_url)
        return page("Оплата заказа", body, kind="narrow", status_code=status, form_target=target)


def card_method(payment_id: str, card: Card) -> Json:
    """Build `payment_method` of a card payment."""
    return {
        "type": "bank_card",
        "id": payment_id,
        "saved": False,
        "status": "inactive",
        "title": f"Bank card *{card.number[-4:]}",
        "card": {
            "first6": card.number[:6],
            "last4": card.number[-4:],
            "expiry_month": card.expiry_month,
            "expiry_year": card.expiry_year,
            "card_type": card.network,
            "issuer_country": "RU",
            "issuer_name": "Банк песочницы",
        },
    }


def sbp_method(payment_id: str) -> Json:
    """Build `payment_method` of a payment through the faster payments system."""
    return {
        "type": "sbp",
        "id": payment_id,
        "saved": False,
        "status": "inactive",
        "title": "СБП",
        "sbp_operation_id": sha256(payment_id.encode()).hexdigest()[:32].upper(),
        "payer_bank_details": {"bank_id": "100000000111", "bic": "044525225"},
    }


def authorization(payment_id: str, card: Card) -> Json:
    """Build `authorization_details`: numbers derived from the id, so that they are stable."""
    digits = str(int(sha256(payment_id.encode()).hexdigest(), 16))
    return {
        "rrn": digits[:12],
        "auth_code": digits[12:18],
        "three_d_secure": {"applied": card.has_3d_secure},
    }


def _origin(url: str) -> str:
    """Answer the origin that the form may end at; nothing for one that cannot stand in a header."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if PLAIN_HOST.fullmatch(parts.netloc) else ""


def _filled_in(number: str) -> dict[str, str]:
    """Fill the form for a chosen test card."""
    if number not in cards.SUCCESS and number not in cards.DECLINED_CARDS:
        return {}
    return {"number": pages.spaced(number), "expiry": "12 / 30", "csc": "123"}


async def _form(request: Request) -> dict[str, str]:
    raw = (await request.body()).decode("utf-8", errors="replace")
    return {name: values[0] for name, values in parse_qs(raw, keep_blank_values=True).items()}
