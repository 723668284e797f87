"""The fiscal part of a request: shape, lists of codes, and the sum to the kopeck.

Called by `requests`. Source: the project's payments reference, 3.2 and 3.4 (YooKassa parameter pages, 2026).
"""

from decimal import Decimal, InvalidOperation
from typing import Any

from sandbox.yookassa import fields
from sandbox.yookassa.errors import invalid
from sandbox.yookassa.shapes import Json

PAYMENT_MODES = frozenset(
    {
        "full_prepayment",
        "partial_prepayment",
        "advance",
        "full_payment",
        "partial_payment",
        "credit",
        "credit_payment",
    }
)
PAYMENT_SUBJECTS = frozenset(
    {
        "service",
        "payment",
        "intellectual_activity",
        "property_right",
        "commodity",
        "job",
        "agent_commission",
        "composite",
        "another",
        "excise",
        "gambling_bet",
        "gambling_prize",
        "lottery",
        "lottery_prize",
        "non_operating_gain",
        "sales_tax",
        "resort_fee",
        "deposit",
        "expense",
        "insurance_premium",
        "fine",
        "tax",
        "casino",
    }
)
MEASURES = frozenset(
    {
        "piece",
        "gram",
        "kilogram",
        "ton",
        "centimeter",
        "decimeter",
        "meter",
        "square_centimeter",
        "square_decimeter",
        "square_meter",
        "milliliter",
        "liter",
        "cubic_meter",
        "kilowatt_hour",
        "gigacalorie",
        "day",
        "hour",
        "minute",
        "second",
        "kilobyte",
        "megabyte",
        "gigabyte",
        "terabyte",
        "another",
    }
)
RECEIPT_FIELDS = frozenset({"customer", "items", "tax_system_code", "phone", "email"})
CUSTOMER_FIELDS = frozenset({"email", "phone", "full_name", "inn"})
ITEM_FIELDS = frozenset(
    {"description", "quantity", "amount", "vat_code", "measure", "payment_subject", "payment_mode"}
)
MAX_ITEMS = 100
MAX_QUANTITY = Decimal("99999.999")


def check(value: Any, *, total_kopecks: int) -> Json:
    """Refuse a receipt that the fiscal register would not take; answer it unchanged."""
    receipt = fields.an_object(value, "receipt")
    fields.only(receipt, RECEIPT_FIELDS, "receipt")
    _check_customer(fields.required(receipt, "customer", "receipt"))
    if "tax_system_code" in receipt:
        fields.whole(receipt["tax_system_code"], "receipt.tax_system_code", lowest=1, highest=6)
    items = fields.required(receipt, "items", "receipt")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        raise invalid("receipt.items must hold 1..100 lines", "receipt.items")
    total = sum(
        (_line_kopecks(item, f"receipt.items[{place}]") for place, item in enumerate(items)), Decimal(0)
    )
    if total != total_kopecks:
        raise invalid("The sum of receipt.items is not equal to amount", "receipt.items")
    return receipt


def _check_customer(value: Any) -> None:
    customer = fields.an_object(value, "receipt.customer")
    fields.only(customer, CUSTOMER_FIELDS, "receipt.customer")
    email, phone = customer.get("email"), customer.get("phone")
    if email is None and phone is None:
        raise invalid("receipt.customer needs an email or a phone", "receipt.customer")
    if email is not None and "@" not in fields.text(email, "receipt.customer.email", longest=254, shortest=3):
        raise invalid("receipt.customer.email is not an address", "receipt.customer.email")
    if (
        phone is not None
        and not fields.text(phone, "receipt.customer.phone", longest=15, shortest=11).isdigit()
    ):
        raise invalid("receipt.customer.phone has digits only", "receipt.customer.phone")
    if "full_name" in customer:
        fields.text(customer["full_name"], "receipt.customer.full_name", longest=256, shortest=1)
    if "inn" in customer:
        inn = fields.text(customer["inn"], "receipt.customer.inn", longest=12, shortest=10)
        if not inn.isdigit() or len(inn) == 11:
            raise invalid("receipt.customer.inn has 10 or 12 digits", "receipt.customer.inn")


def _line_kopecks(value: Any, path: str) -> Decimal:
    """Check one line; answer quantity times the price of one unit."""
    item = fields.an_object(value, path)
    fields.only(item, ITEM_FIELDS, path)
    fields.text(fields.required(item, "description", path), f"{path}.description", longest=128, shortest=1)
    quantity = _quantity(fields.required(item, "quantity", path), f"{path}.quantity")
    price = fields.kopecks(fields.required(item, "amount", path), f"{path}.amount")
    fields.whole(fields.required(item, "vat_code", path), f"{path}.vat_code", lowest=1, highest=12)
    for name, allowed in (
        ("measure", MEASURES),
        ("payment_mode", PAYMENT_MODES),
        ("payment_subject", PAYMENT_SUBJECTS),
    ):
        if name in item:
            fields.one_of(item[name], allowed, f"{path}.{name}")
    return quantity * price


def _quantity(value: Any, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f"{path} must be a number", path)
    try:
        quantity = Decimal(str(value))
    except InvalidOperation as error:
        raise invalid(f"{path} must be a number", path) from error
    is_fine = quantity.is_finite() and 0 < quantity <= MAX_QUANTITY
    if not is_fine or quantity != quantity.quantize(Decimal("0.001")):
        raise invalid(f"{path} must be above 0, at most 99999.999, with at most 3 decimals", path)
    return quantity
