"""What can be asked and what it usually costs, for the landing and the chat. Reads the snapshot only."""

from typing import Any

from django.utils.translation import gettext as _

from billing import pricing
from orchestration.catalogue import Snapshot
from orchestration.shapes import Offer
from payments.presets import ORDINARY_ANSWER

AUTO = "auto"
HOME_REGION = "RU"


def price_list(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Models on sale with their prices, cheapest ordinary answer first, the better of two equals first."""
    return [_priced(offer) for offer in sorted(on_sale(snapshot), key=_by_price)]


def choices(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Options of the composer: our choice first, then every model by price, those that rest with a reason."""
    listed = [
        {
            "id": offer.id,
            "label": offer.label,
            "estimate_micro_rub": ordinary_cost(offer),
            "available": offer.is_enabled and offer.is_configured,
            "note": "" if offer.is_enabled and offer.is_configured else _("сейчас недоступна"),
        }
        for offer in sorted(_answering(snapshot), key=_by_price)
    ]
    if not any(option["available"] for option in listed):
        return []
    listed.sort(key=lambda option: not option["available"])
    auto = {
        "id": AUTO,
        "label": _("Подберём модель"),
        "estimate_micro_rub": None,
        "available": True,
        "note": "",
    }
    return [auto, *listed]


def is_abroad(model: str, snapshot: Snapshot) -> bool:
    """Whether the chosen model is, or with our choice may be, processed outside Russia."""
    offer = snapshot.offers.get(model)
    asked = [offer] if offer is not None else on_sale(snapshot)
    return any(offer.hosted_region != HOME_REGION for offer in asked)


def _answering(snapshot: Snapshot) -> list[Offer]:
    return [
        offer
        for offer in snapshot.offers.values()
        if offer.price is not None and "text" in offer.capabilities
    ]


def _by_price(offer: Offer) -> tuple[int, float, str]:
    return ordinary_cost(offer), -offer.quality, offer.id


def on_sale(snapshot: Snapshot) -> list[Offer]:
    return [
        offer
        for offer in snapshot.offers.values()
        if offer.is_enabled and offer.is_configured and offer.price is not None
    ]


def label(model: str, snapshot: Snapshot) -> str:
    """The model's name for people; a model that has left the catalogue keeps its id."""
    offer = snapshot.offers.get(model)
    return offer.label if offer is not None else model


def ordinary_cost(offer: Offer) -> int:
    return pricing.cost(ORDINARY_ANSWER, offer.price) if offer.price is not None else 0


def _priced(offer: Offer) -> dict[str, Any]:
    price = offer.price
    assert price is not None  # noqa: S101 - only offers on sale come here
    return {
        "id": offer.id,
        "label": offer.label,
        "description_ru": offer.description_ru,
        "provider_label": offer.provider_label,
        "input_micro_rub_per_mtok": pricing.per_million(price.input, price),
        "output_micro_rub_per_mtok": pricing.per_million(price.output, price),
        "context_tokens": offer.context_tokens,
        "hosted_region": offer.hosted_region,
        "typical_answer_micro_rub": ordinary_cost(offer),
    }
