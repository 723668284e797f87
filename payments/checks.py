"""Launch checks of payments: each names what is wrong and the exact remedy. Run by `check --deploy`."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

VAT_CODES = range(1, 13)  # source: payments guide 3.4
TAX_SYSTEM_CODES = range(7)  # 0 is "not sent"


@register(Tags.security, deploy=True)
def payments_can_be_taken(**_: Any) -> list[CheckMessage]:
    """Refuse to launch with payments half configured, in test mode, or with a receipt nobody would take."""
    return [
        Error(text, hint=hint, id=f"payments.E00{number}")
        for number, (is_wrong, text, hint) in enumerate(_faults(), start=1)
        if is_wrong
    ]


def _faults() -> list[tuple[bool, str, str]]:
    is_yookassa = settings.PAYMENTS_PROVIDER == "yookassa"
    has_test_key = settings.YOOKASSA_SECRET_KEY.startswith("test_")
    return [
        (
            is_yookassa and not (settings.YOOKASSA_SHOP_ID and settings.YOOKASSA_SECRET_KEY),
            "YooKassa is chosen without its credentials.",
            "Set YOOKASSA_SHOP_ID and YOOKASSA_SECRET_KEY from the shop's cabinet.",
        ),
        (
            settings.IS_PRODUCTION and is_yookassa and not settings.PAYMENTS_LIVE,
            "Payments run in test mode: test payments would be credited as money.",
            "Set PAYMENTS_LIVE=1 and the live key of the shop.",
        ),
        (
            settings.PAYMENTS_LIVE and is_yookassa and has_test_key,
            "Payments are live, but the key belongs to a test shop.",
            "Put the live key of the shop into YOOKASSA_SECRET_KEY.",
        ),
        (
            settings.PAYMENTS_PROVIDER == "mock" and not settings.PAYMENTS_MOCK_WEBHOOK_SECRET,
            "The mock provider has no webhook secret, so nothing can be paid.",
            "Set PAYMENTS_MOCK_WEBHOOK_SECRET to a random string.",
        ),
        (
            settings.YOOKASSA_VAT_CODE not in VAT_CODES
            or settings.YOOKASSA_TAX_SYSTEM_CODE not in TAX_SYSTEM_CODES,
            "The codes of the fiscal receipt are outside their lists.",
            "Set YOOKASSA_VAT_CODE to 1..12 and YOOKASSA_TAX_SYSTEM_CODE to 1..6 (0: not sent).",
        ),
        (
            not 1 <= settings.PAYMENTS_MIN_TOPUP_RUB <= settings.PAYMENTS_MAX_TOPUP_RUB,
            "The limits of a top-up exclude every sum.",
            "Set PAYMENTS_MIN_TOPUP_RUB to at least 1 and not above PAYMENTS_MAX_TOPUP_RUB.",
        ),
    ]
