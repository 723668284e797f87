"""Reads the bodies and queries of the API into frozen values, refusing whatever the published contract
refuses.

Called by `api`. Pure: no clock, no store. Source: the project's payments reference, 1.5, 1.8, 1.9.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from sandbox.clock import parse_iso
from sandbox.yookassa import fields, receipts
from sandbox.yookassa.errors import forbidden, invalid
from sandbox.yookassa.shapes import Json

PAYMENT_FIELDS = frozenset(
    {
        "amount",
        "capture",
        "confirmation",
        "description",
        "metadata",
        "merchant_customer_id",
        "payment_method_data",
        "payment_method_id",
        "payment_token",
        "save_payment_method",
        "receipt",
        "client_ip",
        "recipient",
        "statements",
        "airline",
        "transfers",
        "deal",
        "receiver",
        "payment_order",
    }
)
NOT_FOR_THIS_SHOP = ("airline", "transfers", "deal", "receiver", "payment_order", "statements")
CONFIRMATION_FIELDS = frozenset({"type", "return_url", "locale", "enforce"})
METHODS = frozenset(
    {
        "bank_card",
        "sbp",
        "sberbank",
        "tinkoff_bank",
        "yoo_money",
        "mobile_balance",
        "cash",
        "b2b_sberbank",
        "sber_loan",
        "sber_bnpl",
        "electronic_certificate",
    }
)
ENABLED_METHODS = frozenset({"bank_card", "sbp"})
REFUND_FIELDS = frozenset(
    {"payment_id", "amount", "description", "receipt", "metadata", "sources", "deal", "refund_method_data"}
)
MIN_KOPECKS = 1_00
MAX_KOPECKS = 350_000_00
PAYMENT_STATUSES = frozenset({"pending", "waiting_for_capture", "succeeded", "canceled"})
REFUND_STATUSES = frozenset({"pending", "succeeded", "canceled"})
COMPARISONS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}
DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_DIGITS = 18  # fits a 64-bit integer


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A checked POST /payments."""

    amount_kopecks: int
    capture: bool
    return_url: str
    description: str | None
    metadata: dict[str, str]
    merchant_customer_id: str | None
    wanted_method: str | None
    receipt: Json | None


@dataclass(frozen=True, slots=True)
class NewRefund:
    """A checked POST /refunds."""

    payment_id: str
    amount_kopecks: int
    description: str | None
    metadata: dict[str, str]
    receipt: Json | None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A checked list query: SQL conditions over our own columns with their values, page size and start."""

    conditions: tuple[str, ...]
    values: tuple[object, ...]
    limit: int
    before_seq: int | None


def new_payment(body: Json, *, is_receipt_required: bool) -> NewPayment:
    """Check the body of POST /payments. Raises ApiError with the dotted path of the first bad field."""
    fields.only(body, PAYMENT_FIELDS)
    amount = _payment_amount(fields.required(body, "amount"))
    _refuse_what_the_shop_has_not(body)
    if "client_ip" in body:
        _check_ip(body["client_ip"])
    if body.get("receipt") is None and is_receipt_required:
        raise invalid("Receipt is missing or illegal", "receipt")
    return NewPayment(
        amount_kopecks=amount,
        capture=fields.boolean(body.get("capture", False), "capture"),
        return_url=_return_url(fields.required(body, "confirmation")),
        description=_optional_text(body, "description", longest=128),
        metadata=fields.metadata(body.get("metadata") or {}),
        merchant_customer_id=_optional_text(body, "merchant_customer_id", longest=200),
        wanted_method=_wanted_method(body),
        receipt=_receipt(body, amount),
    )


def new_refund(body: Json) -> NewRefund:
    """Check the body of POST /refunds; whether the money is there is checked by the act."""
    fields.only(body, REFUND_FIELDS)
    for name in ("sources", "deal", "refund_method_data"):
        if name in body:
            raise forbidden(f"{name} is not enabled for the shop", name)
    payment_id = fields.text(fields.required(body, "payment_id"), "payment_id", longest=36, shortest=36)
    amount = fields.kopecks(fields.required(body, "amount"), "amount")
    if amount <= 0:
        raise invalid("amount.value must be above zero", "amount.value")
    return NewRefund(
        payment_id=payment_id,
        amount_kopecks=amount,
        description=_optional_text(body, "description", longest=250),
        metadata=fields.metadata(body.get("metadata") or {}),
        receipt=_receipt(body, amount),
    )


def capture_kopecks(body: Json, *, authorised_kopecks: int) -> int:
    """Check the body of POST /payments/{id}/capture; without amount everything is taken."""
    fields.only(body, frozenset({"amount", "receipt"}))
    if "amount" not in body:
        return authorised_kopecks
    amount = fields.kopecks(body["amount"], "amount")
    if not 0 < amount <= authorised_kopecks:
        raise invalid("amount is above what was authorised", "amount.value")
    _receipt(body, amount)
    return amount


def payments_query(pairs: Iterable[tuple[str, str]]) -> ListQuery:
    """Check the query of GET /payments."""
    return _query(
        pairs, times=("created_at", "captured_at"), statuses=PAYMENT_STATUSES, extra="payment_method"
    )


def refunds_query(pairs: Iterable[tuple[str, str]]) -> ListQuery:
    """Check the query of GET /refunds."""
    return _query(pairs, times=("created_at",), statuses=REFUND_STATUSES, extra="payment_id")


def _query(
    pairs: Iterable[tuple[str, str]], *, times: tuple[str, ...], statuses: frozenset[str], extra: str
) -> ListQuery:
    conditions: list[str] = []
    values: list[object] = []
    limit, before_seq = DEFAULT_LIMIT, None
    for name, value in pairs:
        column, _, comparison = name.partition(".")
        if column in times and comparison in COMPARISONS:
            conditions.append(f"{column} {COMPARISONS[comparison]} ?")
            values.append(_moment(value, name))
        elif name == "status":
            conditions.append("status = ?")
            values.append(fields.one_of(value, statuses, name))
        elif name == extra:
            conditions.append("method = ?" if extra == "payment_method" else "payment_id = ?")
            values.append(fields.one_of(value, METHODS, name) if extra == "payment_method" else value)
        elif name == "limit":
            limit = _limit(value)
        elif name == "cursor":
            before_seq = _cursor(value)
        else:
            raise invalid(f"Unknown parameter: {name}", name)
    return ListQuery(tuple(conditions), tuple(values), limit, before_seq)


def _payment_amount(value: Any) -> int:
    amount = fields.kopecks(value, "amount")
    if not MIN_KOPECKS <= amount <= MAX_KOPECKS:
        raise invalid(
            "amount.value is outside the limits of the payment method: 1.00..350000.00", "amount.value"
        )
    return amount


def _return_url(value: Any) -> str:
    confirmation = fields.an_object(value, "confirmation")
    if fields.required(confirmation, "type", "confirmation") != "redirect":
        raise invalid("Only confirmation.type redirect is enabled for the shop", "confirmation.type")
    fields.only(confirmation, CONFIRMATION_FIELDS, "confirmation")
    if "locale" in confirmation:
        fields.one_of(confirmation["locale"], frozenset({"ru_RU", "en_US"}), "confirmation.locale")
    if "enforce" in confirmation:
        fields.boolean(confirmation["enforce"], "confirmation.enforce")
    return fields.address(
        fields.required(confirmation, "return_url", "confirmation"), "confirmation.return_url"
    )


def _wanted_method(body: Json) -> str | None:
    if body.get("payment_method_data") is None:
        return None
    data = fields.an_object(body["payment_method_data"], "payment_method_data")
    fields.only(data, frozenset({"type"}), "payment_method_data")
    method = fields.one_of(
        fields.required(data, "type", "payment_method_data"), METHODS, "payment_method_data.type"
    )
    if method not in ENABLED_METHODS:
        raise invalid("The payment method is not enabled for the shop", "payment_method_data.type")
    if method == "sbp" and not body.get("capture", False):
        raise invalid("sbp does not support two-stage payments", "capture")
    return method


def _refuse_what_the_shop_has_not(body: Json) -> None:
    ways = [name for name in ("payment_token", "payment_method_id", "payment_method_data") if name in body]
    if len(ways) > 1:
        raise invalid(f"{', '.join(ways)} exclude each other", ways[1])
    for name in ("payment_token", "payment_method_id"):
        if name in body:
            raise invalid(f"{name} is unknown", name)
    if "save_payment_method" in body and fields.boolean(body["save_payment_method"], "save_payment_method"):
        raise forbidden("Autopayments are not enabled for the shop", "save_payment_method")
    for name in NOT_FOR_THIS_SHOP:
        if name in body:
            raise forbidden(f"{name} is not enabled for the shop", name)
    if "recipient" in body:
        recipient = fields.an_object(body["recipient"], "recipient")
        fields.only(recipient, frozenset({"gateway_id"}), "recipient")


def _check_ip(value: Any) -> None:
    try:
        ip_address(fields.text(value, "client_ip", longest=45, shortest=2))
    except ValueError as error:
        raise invalid("client_ip is not an IP address", "client_ip") from error


def _receipt(body: Json, amount: int) -> Json | None:
    if body.get("receipt") is None:
        return None
    return receipts.check(body["receipt"], total_kopecks=amount)


def _optional_text(body: Json, name: str, *, longest: int) -> str | None:
    if body.get(name) is None:
        return None
    return fields.text(body[name], name, longest=longest)


def _moment(text: str, name: str) -> float:
    try:
        return parse_iso(text.replace(" ", "+"))
    except (ValueError, OverflowError) as error:
        raise invalid(f"{name} must be an ISO 8601 moment", name) from error


def _limit(text: str) -> int:
    if not (text.isdecimal() and len(text) <= MAX_DIGITS):
        raise invalid("limit must be 1..100", "limit")
    return fields.whole(int(text), "limit", lowest=1, highest=MAX_LIMIT)


def _cursor(text: str) -> int:
    prefix, _, number = text.partition("-")
    if prefix != "c" or not (number.isdecimal() and len(number) <= MAX_DIGITS):
        raise invalid("cursor is not one of ours", "cursor")
    return int(number)
