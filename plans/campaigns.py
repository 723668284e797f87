"""Gifts and promo codes: a campaign's bonus, once for each customer, never more often than its limit.

`redeem` is the customer's act; `welcome` is called when an e-mail is confirmed (WHEN_EMAIL_IS_CONFIRMED).
The campaign's row is locked before its uses are counted, the wallet after it. Operators, who open campaigns
and know their codes, redeem none.
"""

import re
import unicodedata
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts import throttling
from accounts.errors import UserNotFound
from accounts.models import User
from accounts.throttling import Limit
from auditlog import journal
from auditlog.actors import SYSTEM, Actor
from billing import ledger
from billing.errors import IdempotencyMismatch, OwnWallet
from plans.errors import PromoCodeOver, PromoCodeUnknown, PromoCodeUsed, PromoGuessing
from plans.models import Campaign, Redemption
from plans.shapes import Redeemed
from plyrum.ids import uuid7
from plyrum.transactions import require_transaction

# Source: security bar, L1. Only codes that are none stay counted: who knows one does not guess.
GUESSES_PER_CUSTOMER = Limit("promo-customer", 10, 60 * 60)
GUESSES_PER_ADDRESS = Limit("promo-address", 60, 60 * 60)
_BETWEEN = re.compile(r"[\s\-_]+")


def normalised(text: str) -> str:
    """The one form of a code: upper case, without spaces and dashes."""
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", text)).upper()


def redeem(*, customer_id: UUID, code: str, now: datetime, actor: Actor, key: str = "") -> Redeemed:
    """Give the customer the bonus of a promo code.

    A repeated `key` with the same code is one act; "" is no key.
    Raises PromoCodeUnknown, PromoCodeOver (its time or its number), PromoCodeUsed (by this customer),
    PromoGuessing, IdempotencyMismatch, OwnWallet (an operator).
    """
    limits = ((GUESSES_PER_CUSTOMER, str(customer_id)), (GUESSES_PER_ADDRESS, actor.ip or "unknown"))
    for limit, whose in limits:
        taken = throttling.take(limit, whose)
        if not taken.is_allowed:
            raise PromoGuessing(retry_after_seconds=taken.retry_after_seconds, limit=limit.count)
    is_guess = False
    try:
        return _redeem(customer_id=customer_id, code=normalised(code), now=now, actor=actor, key=key)
    except PromoCodeUnknown:
        is_guess = True
        raise
    finally:
        if not is_guess:
            for limit, whose in limits:
                throttling.give_back(limit, whose)


@transaction.atomic
def welcome(*, customer_id: UUID, now: datetime) -> None:
    """Give a new customer every gift that runs now; called again, nothing more."""
    running = Campaign.objects.filter(
        Q(valid_until=None) | Q(valid_until__gt=now), code="", valid_from__lte=now
    )
    for campaign in running.select_for_update(no_key=True).order_by("pk"):
        is_new = not campaign.redemptions.filter(customer_id=customer_id).exists()
        if is_new and not _is_used_up(campaign):
            _give(campaign, customer_id, now, SYSTEM)


def moved_alone(operator_id: UUID, *, since: datetime) -> int:
    """Micro-RUB that the campaigns can give in all which this operator opened; nobody approves them."""
    opened = Campaign.objects.filter(opened_by=operator_id, opened_at__gt=since)
    return sum(amount * uses for amount, uses in opened.values_list("amount_micro_rub", "uses_limit"))


@transaction.atomic(durable=True)
def _redeem(*, customer_id: UUID, code: str, now: datetime, actor: Actor, key: str) -> Redeemed:
    user = User.objects.filter(pk=customer_id).first()
    if user is not None and user.is_operator:
        raise OwnWallet("Operators redeem no promo codes.")
    known = _known(customer_id, code, key) if key else None
    if known is not None:
        return Redeemed(known, is_replay=True)
    rows = Campaign.objects.select_for_update(no_key=True)
    campaign = rows.filter(code=code, valid_from__lte=now).first() if code.isalnum() else None
    if campaign is None:
        raise PromoCodeUnknown
    if campaign.redemptions.filter(customer_id=customer_id).exists():
        raise PromoCodeUsed
    if _is_used_up(campaign) or (campaign.valid_until is not None and campaign.valid_until <= now):
        raise PromoCodeOver
    return Redeemed(_give(campaign, customer_id, now, actor, key), is_replay=False)


def _known(customer_id: UUID, code: str, key: str) -> Redemption | None:
    """What the key gave before, behind the lock of the customer: one key stands for one code."""
    if User.objects.select_for_update(no_key=True).filter(pk=customer_id).first() is None:
        raise UserNotFound
    rows = Redemption.objects.select_related("campaign").filter(customer_id=customer_id, client_key=key)
    known = rows.first()
    if known is not None and known.campaign.code != code:
        raise IdempotencyMismatch
    return known


def _is_used_up(campaign: Campaign) -> bool:
    return campaign.uses >= campaign.uses_limit


def _give(
    campaign: Campaign, customer_id: UUID, now: datetime, actor: Actor, client_key: str = ""
) -> Redemption:
    """Bonus, row and count together; the campaign is locked."""
    require_transaction()
    expires_at = now + timedelta(days=campaign.bonus_days)
    credited = ledger.bonus(
        entry_id=uuid7(),
        customer_id=customer_id,
        amount_micro_rub=campaign.amount_micro_rub,
        key=f"campaign:{campaign.id}:{customer_id}",
        expires_at=expires_at,
    )
    campaign.uses += 1
    campaign.save(update_fields=["uses"])
    redemption = Redemption.objects.create(
        campaign=campaign,
        customer_id=customer_id,
        amount_micro_rub=campaign.amount_micro_rub,
        entry_id=credited.entry_id,
        expires_at=expires_at,
        client_key=client_key,
        created_at=now,
    )
    journal.record(
        actor=actor,
        action="plans.campaign.given",
        subject=f"campaign:{campaign.id}",
        data={"amount_micro_rub": campaign.amount_micro_rub, "entry_id": str(credited.entry_id)},
        target_user_id=customer_id,
    )
    return redemption
