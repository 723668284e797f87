"""The sums offered on the top-up page, each with what it is roughly good for."""

from statistics import median_low
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from billing import money, prices, pricing, queries
from billing.pricing import Usage
from billing.templatetags.money import money as shown
from billing.templatetags.money import tokens as grouped
from plans import queries as plan_queries
from plyrum import clock

FEWEST_SHOWN = 10
PRESETS_RUB = (300, 500, 1_000, 3_000)
CHOSEN_RUB = 1_000
# An ordinary question with a little history, and an answer of half a page.
ORDINARY_ANSWER = Usage(input_tokens=800, output_tokens=500)


def presets() -> list[dict[str, Any]]:
    """{value, label, note} for the amount component, within the limits of a top-up."""
    cost = _ordinary_cost()
    bonuses = {pack.amount_micro_rub: pack.bonus_micro_rub for pack in plan_queries.packs()}
    return [
        {
            "value": rub,
            "label": f"{grouped(rub)} ₽",
            "note": _bonus(bonuses.get(money.from_rub(rub))) or _note(rub, cost),
        }
        for rub in PRESETS_RUB
        if settings.PAYMENTS_MIN_TOPUP_RUB <= rub <= settings.PAYMENTS_MAX_TOPUP_RUB
    ]


def _bonus(micro_rub: int | None) -> str:
    return _("и бонус %(bonus)s") % {"bonus": shown(micro_rub)} if micro_rub else ""


def _note(rub: int, cost: int | None) -> str:
    count = money.from_rub(rub) // cost if cost else 0
    if count < FEWEST_SHOWN:
        return ""
    step = 10 ** max(1, len(str(count)) - 2)  # two digits say enough; a round number needs no plural forms
    return _("≈ %(count)s обычных ответов") % {"count": grouped(count // step * step)}


def _ordinary_cost() -> int | None:
    """What the middle model takes for an ordinary answer, in micro-RUB; None without a catalogue."""
    rates = queries.fresh_rates(now=clock.now())
    costs = [
        pricing.cost(ORDINARY_ANSWER, prices.price_of(row, rates.get(row.currency)))
        for row in queries.current_prices()
        if not row.is_free and row.output and (row.currency == "RUB" or row.currency in rates)
    ]
    return median_low(costs) if costs else None
