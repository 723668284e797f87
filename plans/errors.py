"""What can go wrong with plans, subscriptions, quotas and codes."""

from plyrum.errors import Conflict, InvalidRequest, NotFound, TooManyRequests


class PlanNotFound(NotFound):
    code, title = "plan_not_found", "There is no such plan on offer"


class NotSubscribed(Conflict):
    code, title = "not_subscribed", "There is no subscription now"


class AlreadySubscribed(Conflict):
    code, title = "already_subscribed", "There is a subscription already"


class NotPaidUp(Conflict):
    """What was asked for needs a paid period; renewing pays for one."""

    code, title = "subscription_not_paid", "The current period is not paid"


class PeriodPaidAhead(Conflict):
    code, title = "period_paid_ahead", "The next period is paid already"


class PlanUnchanged(Conflict):
    code, title = "plan_unchanged", "This is the plan already"


class PriceChanged(Conflict):
    """Extra: `price_micro_rub`."""

    code, title = "price_changed", "The price differs from the one that was shown"


class PeriodChanged(Conflict):
    """Extra: `next_period_start`."""

    code, title = "period_changed", "The period that was shown is paid already, or over"


class NoImageQuota(Conflict):
    code, title = "no_image_quota", "The plan includes no images now"


class QuotaSpent(Conflict):
    """Extra: `renews_at`."""

    code, title = "quota_spent", "The images of this period are used up"


class PromoCodeUnknown(NotFound):
    code, title = "promo_code_unknown", "There is no such promo code"


class PromoCodeOver(Conflict):
    code, title = "promo_code_over", "This promo code is over"


class PromoCodeUsed(Conflict):
    code, title = "promo_code_used", "This promo code was redeemed before"


class PromoGuessing(TooManyRequests):
    title = "Too many promo codes"


class PlanTermsWrong(InvalidRequest):
    title = "The terms of a plan do not fit together"


class CampaignTermsWrong(InvalidRequest):
    title = "The terms of a campaign do not fit together"


class MemberNotFound(NotFound):
    title = "There is no such member"
