"""Publishing prices and rates: rows are added, never changed, so every charge can be computed again."""

from datetime import date, datetime
from typing import Any

from django.conf import settings

from billing import money
from billing.models import FxRate, PriceVersion
from billing.pricing import Price
from billing.shapes import MICRO_PER_RUB
from plyrum.transactions import require_transaction


def publish(*, sku: str, price: dict[str, Any], markup_bp: int, now: datetime) -> PriceVersion:
    """Add a price version of `sku` unless the newest one says the same.

    `price`: {currency, input, output, cached_input?, cache_write?, image?, is_free?}, decimal strings of the
    currency per million tokens. Raises ValueError for a price that is wrong or zero without is_free.
    """
    require_transaction()
    row = {
        "currency": price["currency"],
        "input": money.micro_units(price["input"]),
        "output": money.micro_units(price["output"]),
        "cached_input": money.micro_units(price.get("cached_input", price["input"])),
        "cache_write": money.micro_units(price.get("cache_write", price["input"])),
        "image": money.micro_units(price.get("image", "0")),
        "markup_bp": markup_bp,
        "is_free": bool(price.get("is_free", False)),
    }
    if not row["is_free"] and not (row["input"] > 0 and row["output"] > 0 and markup_bp > 0):
        raise ValueError("a price must be above zero, or say is_free")
    newest = PriceVersion.objects.filter(sku=sku).order_by("-number").first()
    if newest is not None and all(getattr(newest, name) == value for name, value in row.items()):
        return newest
    number = newest.number + 1 if newest is not None else 1
    return PriceVersion.objects.create(sku=sku, number=number, valid_from=now, **row)


def add_rate(*, currency: str, micro_rub: int, source: str, rate_date: date) -> bool:
    """Add the rate of one unit of `currency` with the spread of the settings.

    Answers False when that day's rate of that source is known with this spread.
    """
    if micro_rub <= 0:
        raise ValueError("A rate is above zero.")
    _, is_new = FxRate.objects.get_or_create(
        currency=currency,
        rate_date=rate_date,
        source=source,
        spread_bp=settings.PLYRUM_FX_SPREAD_BP,
        defaults={"micro_rub": micro_rub},
    )
    return is_new


def price_of(version: PriceVersion, rate: FxRate | None) -> Price:
    """The price version with the rate of its currency, as the arithmetic wants it."""
    return Price(
        version_id=version.pk,
        currency=version.currency,
        input=version.input,
        cached_input=version.cached_input,
        cache_write=version.cache_write,
        output=version.output,
        image=version.image,
        markup_bp=version.markup_bp,
        fx_rate_id=rate.pk if rate is not None else None,
        fx_micro_rub=rate.micro_rub if rate is not None else MICRO_PER_RUB,
        fx_spread_bp=rate.spread_bp if rate is not None else 0,
    )
