"""Versions of prices, the rates of currencies and of VAT."""

from decimal import Decimal

from django.contrib import admin
from django.utils.formats import localize
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from billing import prices
from billing.admin.base import MoneyAdmin
from billing.models import (
    FxRate,
    PriceVersion,
    VatRate,
)
from billing.pricing import BASIS_POINTS
from billing.templatetags.money import money_exact, percent


@admin.register(PriceVersion)
class PriceVersionAdmin(MoneyAdmin):
    list_display = ["sku", "number", "currency", "input_price", "output_price", "markup", "valid_from"]
    list_filter = ["currency", "is_free", "valid_from"]
    search_fields = ["sku"]
    ordering = ["sku", "-number"]
    nothing_yet = _("Цены приходят с каталогом моделей.")
    fields = [
        "sku",
        "number",
        "currency",
        "input_price",
        "cached_price",
        "write_price",
        "output_price",
        "image_price",
        "tier",
        "markup",
        "minimum",
        "is_free",
        "valid_from",
        "created_at",
    ]

    @display(description=_("Вход, за млн"), ordering="input")  # type: ignore[untyped-decorator]
    def input_price(self, price: PriceVersion) -> str:
        return _units(price.input, price.currency)

    @display(description=_("Вход из кэша, за млн"))  # type: ignore[untyped-decorator]
    def cached_price(self, price: PriceVersion) -> str:
        return _units(price.cached_input, price.currency)

    @display(description=_("Запись в кэш, за млн"))  # type: ignore[untyped-decorator]
    def write_price(self, price: PriceVersion) -> str:
        return _units(price.cache_write, price.currency)

    @display(description=_("За изображение"))  # type: ignore[untyped-decorator]
    def image_price(self, price: PriceVersion) -> str:
        return _units(price.image, price.currency)

    @display(description=_("Выход, за млн"), ordering="output")  # type: ignore[untyped-decorator]
    def output_price(self, price: PriceVersion) -> str:
        return _units(price.output, price.currency)

    @display(description=_("На длинный запрос"))  # type: ignore[untyped-decorator]
    def tier(self, price: PriceVersion) -> str:
        tier = prices.price_of(price, None).tier
        if tier is None:
            return "-"
        words = gettext(
            "от %(tokens)s токенов: вход %(input)s, из кэша %(cached)s, в кэш %(write)s, выход %(output)s"
        )
        return words % {
            "tokens": localize(tier.above_tokens + 1),
            "input": _units(tier.input, price.currency),
            "cached": _units(tier.cached_input, price.currency),
            "write": _units(tier.cache_write, price.currency),
            "output": _units(tier.output, price.currency),
        }

    @display(description=_("Не меньше, за ответ"))  # type: ignore[untyped-decorator]
    def minimum(self, price: PriceVersion) -> str:
        return money_exact(price.minimum_micro_rub)

    @display(description=_("Наценка"), ordering="markup_bp")  # type: ignore[untyped-decorator]
    def markup(self, price: PriceVersion) -> str:
        return f"× {localize(price.markup_bp / 10_000)}"


@admin.register(FxRate)
class FxRateAdmin(MoneyAdmin):
    list_display = ["currency", "rate_date", "rate", "spread", "source", "created_at"]
    list_filter = ["currency", "source", "rate_date"]
    search_fields = ["currency", "source"]
    ordering = ["-rate_date", "currency", "-id"]
    nothing_yet = _("Курсы Банка России загружаются каждый день.")
    fields = ["currency", "rate_date", "rate", "spread", "source", "created_at"]

    @display(description=_("Рублей за единицу"), ordering="micro_rub")  # type: ignore[untyped-decorator]
    def rate(self, rate: FxRate) -> str:
        return money_exact(rate.micro_rub)

    @display(description=_("Спред"), ordering="spread_bp")  # type: ignore[untyped-decorator]
    def spread(self, rate: FxRate) -> str:
        return f"{localize(rate.spread_bp / 100)} %"


@admin.register(VatRate)
class VatRateAdmin(MoneyAdmin):
    list_display = ["valid_from", "rate", "created_at"]
    ordering = ["-valid_from"]
    fields = ["valid_from", "rate", "created_at"]

    @display(description=_("Ставка НДС"), ordering="rate_bp")  # type: ignore[untyped-decorator]
    def rate(self, rate: VatRate) -> str:
        return percent(Decimal(rate.rate_bp) / BASIS_POINTS)


def _units(price: int, currency: str) -> str:
    return money_exact(price) if currency == "RUB" else f"{money_exact(price)[:-1]}{currency}"
