"""Plain values of plans."""

from dataclasses import dataclass
from datetime import datetime

from plans.models import Redemption, Subscription


@dataclass(frozen=True)
class Standing:
    """How a subscription stands at a moment: its state by the clock, and what comes next."""

    subscription: Subscription
    state: str
    paid_until: datetime
    is_paid_ahead: bool
    next_price_micro_rub: int
    next_period_start: datetime  # of the period that a payment now would buy


@dataclass(frozen=True)
class Terms:
    """What an operator publishes for a plan. Amounts in micro-RUB."""

    price_micro_rub: int
    member_price_micro_rub: int | None
    period_months: int
    grant_micro_rub: int
    rollover_cap_micro_rub: int
    image_quota: int


@dataclass(frozen=True)
class CampaignTerms:
    """What a campaign gives, to how many, and when."""

    amount_micro_rub: int
    bonus_days: int
    valid_from: datetime
    valid_until: datetime | None
    uses_limit: int

    @property
    def total_micro_rub(self) -> int:
        """All that the campaign can give."""
        return self.amount_micro_rub * self.uses_limit


@dataclass(frozen=True)
class Redeemed:
    """What a promo code gave; `is_replay` when the key was seen before with the same code."""

    redemption: Redemption
    is_replay: bool
