"""Back office of plans: all may be read, nothing edited; operators' acts are buttons with a reason."""

from plans.admin import offers, subscriptions

__all__ = ["offers", "subscriptions"]
