"""Publishing prices and rates: rows are added, never changed, so every charge can be computed again."""

from datetime import date, datetime
from typing import Any

from django.conf import settings

from billing import money
from billing.models import FxRate, PriceVersion
from billing.pricing import Price, Tier
from billing.shapes import MICRO_PER_RUB
from plyrum.transactions import require_transaction


def publish(*, sku: str, price: dict[str, Any], markup_bp: int, now: datetime) -> PriceVersion:
    """Add a price version of `sku`, with the minimum of the settings, unless the newest one says the same.

    `price`: {currency, input, output, cached_input?, cache_write?, image?, is_free?, tier?}, decimal strings
    of the currency per million tokens. `tier`: {above_tokens, input, output, cached_input?, cache_write?},
    the prices of a request whose input is longer. Raises ValueError for a price that is wrong or zero
    without is_free.
    """
    require_transaction()
    row = {
        "currency": price["currency"],
        **_of_tokens(price),
        "image": money.micro_units(price.get("image", "0")),
        **_of_tier(price.get("tier")),
        "markup_bp": markup_bp,
        "minimum_micro_rub": settings.PLYRUM_MINIMUM_CHARGE_MICRO_RUB,
        "is_free": bool(price.get("is_free", False)),
    }
    if not row["is_free"] and not (row["input"] > 0 and row["output"] > 0 and markup_bp > 0):
        raise ValueError("a price must be above zero, or say is_free")
    if row["tier_above_tokens"] is not None and not (row["tier_input"] > 0 and row["tier_output"] > 0):
        raise ValueError("the prices of a tier must be above zero")
    newest = PriceVersion.objects.filter(sku=sku).order_by("-number").first()
    if newest is not None and all(getattr(newest, name) == value for name, value in row.items()):
        return newest
    number = newest.number + 1 if newest is not None else 1
    return PriceVersion.objects.create(sku=sku, number=number, valid_from=now, **row)


def _of_tokens(price: dict[str, Any]) -> dict[str, int]:
    """The four prices of tokens; what has no price of its own in the cache is ordinary input."""
    return {
        "input": money.micro_units(price["input"]),
        "cached_input": money.micro_units(price.get("cached_input", price["input"])),
        "cache_write": money.micro_units(price.get("cache_write", price["input"])),
        "output": money.micro_units(price["output"]),
    }


def _of_tier(tier: dict[str, Any] | None) -> dict[str, int | None]:
    """The columns of a tier, all of them empty without one."""
    if tier is None:
        return dict.fromkeys(
            ("tier_above_tokens", "tier_input", "tier_cached_input", "tier_cache_write", "tier_output")
        )
    prices = {f"tier_{name}": value for name, value in _of_tokens(tier).items()}
    return {"tier_above_tokens": tier["above_tokens"], **prices}


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
        tier=_tier_of(version),
        minimum_micro_rub=version.minimum_micro_rub,
    )


def _tier_of(version: PriceVersion) -> Tier | None:
    above, fresh, output = version.tier_above_tokens, version.tier_input, version.tier_output
    cached, written = version.tier_cached_input, version.tier_cache_write
    if above is None or fresh is None or cached is None or written is None or output is None:
        return None  # the database allows all of them or none
    return Tier(above, fresh, cached, written, output)
