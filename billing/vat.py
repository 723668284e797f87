"""The VAT inside a sum: our prices include it, so it is a part of what was paid, never an addition.

Reads `VatRate`, the dated table. Source: legal guide 6 (425-FZ of 28.11.2025: 22 % from 1 January 2026).
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from billing.models import VatRate
from billing.pricing import BASIS_POINTS

LAW_ZONE = ZoneInfo("Europe/Moscow")


def rate_at(at: datetime) -> int:
    """The rate in force on the day of `at` in basis points. Raises VatRate.DoesNotExist before the
    first row.
    """
    day = at.astimezone(LAW_ZONE).date()
    return VatRate.objects.filter(valid_from__lte=day).latest("valid_from").rate_bp


def vat_included(amount_micro_rub: int, at: datetime) -> int:
    """Micro-RUB of VAT within a sum paid `at` a moment, rounded down (ledger guide 2: shares are floored).

    By the calculated rate: 22 % of the net is 22/122 of the sum. Raises as `rate_at`.
    """
    rate_bp = rate_at(at)
    return amount_micro_rub * rate_bp // (BASIS_POINTS + rate_bp)
