"""What operators decide about what is sold: terms of plans, packs, campaigns, members. Each is journalled.

Terms are added as a new version with the moment from which they count; what was sold stays as it was sold.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import allowances
from billing.errors import OwnWallet
from plans.campaigns import normalised
from plans.errors import CampaignTermsWrong, MemberNotFound, PlanNotFound, PlanTermsWrong
from plans.models import Campaign, OrganisationMember, Pack, Plan, PlanVersion
from plans.shapes import CampaignTerms, Terms

SHORTEST_CODE, LONGEST_CODE = 4, 40


@transaction.atomic(durable=True)
def publish(
    *, code: str, name: str, terms: Terms, valid_from: datetime, reason: str, now: datetime, actor: Actor
) -> PlanVersion:
    """Put a plan on offer, or give it new terms from `valid_from` on. Raises PlanTermsWrong."""
    _require_sound(terms)
    plan, _ = Plan.objects.select_for_update(no_key=True).get_or_create(code=code, defaults={"name": name})
    plan.name, plan.is_offered = name, True
    plan.save(update_fields=["name", "is_offered"])
    version = PlanVersion.objects.create(
        plan=plan, number=plan.versions.count() + 1, valid_from=valid_from, created_at=now, **asdict(terms)
    )
    facts: dict[str, Any] = {
        "name": name,
        "number": version.number,
        "valid_from": valid_from.isoformat(),
        **asdict(terms),
    }
    _journal("plans.plan.published", f"plan:{code}", actor, reason, **facts)
    return version


@transaction.atomic(durable=True)
def withdraw(*, code: str, reason: str, actor: Actor) -> None:
    """Sell a plan no longer; who has it goes on. Raises PlanNotFound."""
    if not Plan.objects.filter(pk=code).update(is_offered=False):
        raise PlanNotFound
    _journal("plans.plan.withdrawn", f"plan:{code}", actor, reason)


@transaction.atomic(durable=True)
def offer_pack(
    *, amount_micro_rub: int, bonus_micro_rub: int, bonus_days: int | None, reason: str, actor: Actor
) -> Pack:
    """Give a bonus for top-ups of this sum, in place of the pack that was there.

    Raises PlanTermsWrong (also a bonus above the sum), OperatorLimitExceeded (what each use gives).
    """
    if not 0 < bonus_micro_rub <= amount_micro_rub:
        raise PlanTermsWrong("A pack has a sum, and a bonus that is not above it.")
    allowances.require_each(bonus_micro_rub, operator_id=UUID(actor.id))
    terms: dict[str, Any] = {"bonus_micro_rub": bonus_micro_rub, "bonus_days": bonus_days, "is_offered": True}
    pack, _ = Pack.objects.update_or_create(amount_micro_rub=amount_micro_rub, defaults=terms)
    _journal(
        "plans.pack.offered", f"pack:{pack.pk}", actor, reason, amount_micro_rub=amount_micro_rub, **terms
    )
    return pack


@transaction.atomic(durable=True)
def withdraw_pack(*, pack_id: int, reason: str, actor: Actor) -> None:
    """Give the bonus no longer. Raises PlanNotFound."""
    if not Pack.objects.filter(pk=pack_id).update(is_offered=False):
        raise PlanNotFound
    _journal("plans.pack.withdrawn", f"pack:{pack_id}", actor, reason)


@transaction.atomic(durable=True)
def open_campaign(
    *, name: str, code: str, terms: CampaignTerms, reason: str, now: datetime, actor: Actor
) -> Campaign:
    """Begin a campaign; `code` "" makes it a gift for whoever joins.

    Raises CampaignTermsWrong, OperatorLimitExceeded (all that it can give is more than this operator may
    still move alone today). Source: docs/decisions/0024-campaigns.md.
    """
    form = normalised(code)
    if form and not (SHORTEST_CODE <= len(form) <= LONGEST_CODE and form.isalnum()):
        raise CampaignTermsWrong(f"A code has {SHORTEST_CODE} to {LONGEST_CODE} letters and digits.")
    if min(terms.amount_micro_rub, terms.bonus_days, terms.uses_limit) <= 0:
        raise CampaignTermsWrong("A campaign gives something, for a time, so many times.")
    if terms.valid_until is not None and terms.valid_until <= terms.valid_from:
        raise CampaignTermsWrong("A campaign ends after it begins.")
    if form and Campaign.objects.filter(code=form).exists():
        raise CampaignTermsWrong("This code was given out before.")
    allowances.require_alone(terms.total_micro_rub, operator_id=UUID(actor.id), now=now)
    campaign = Campaign.objects.create(
        name=name, code=form, opened_by=UUID(actor.id), opened_at=now, **asdict(terms)
    )
    # The code itself is money: it stays out of the journal.
    facts: dict[str, Any] = {
        "name": name,
        "amount_micro_rub": terms.amount_micro_rub,
        "uses_limit": terms.uses_limit,
    }
    _journal("plans.campaign.opened", f"campaign:{campaign.id}", actor, reason, **facts)
    return campaign


@transaction.atomic(durable=True)
def close_campaign(*, campaign_id: UUID, reason: str, now: datetime, actor: Actor) -> None:
    """End a campaign now; what it gave stays. One that is over stays as it is."""
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
    if campaign.valid_until is None or campaign.valid_until > now:
        campaign.valid_until = now
        campaign.save(update_fields=["valid_until"])
        _journal("plans.campaign.closed", f"campaign:{campaign_id}", actor, reason)


@transaction.atomic(durable=True)
def add_member(*, email: str, organisation_id: UUID, reason: str, now: datetime, actor: Actor) -> None:
    """Let an organisation's price count for a customer from their next purchase on.

    Raises UserNotFound, OwnWallet (nobody lowers their own price).
    """
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is None:
        raise UserNotFound
    if str(user.id) == actor.id:
        raise OwnWallet
    OrganisationMember.objects.update_or_create(
        customer_id=user.id, defaults={"organisation_id": organisation_id, "created_at": now}
    )
    facts: dict[str, Any] = {"organisation_id": str(organisation_id)}
    _journal("plans.member.added", f"user:{user.id}", actor, reason, target_user_id=user.id, **facts)


@transaction.atomic(durable=True)
def remove_member(*, customer_id: UUID, reason: str, actor: Actor) -> None:
    """Let the ordinary price count again. Raises MemberNotFound."""
    if not OrganisationMember.objects.filter(pk=customer_id).delete()[0]:
        raise MemberNotFound
    _journal("plans.member.removed", f"user:{customer_id}", actor, reason, target_user_id=customer_id)


def _require_sound(terms: Terms) -> None:
    member = terms.member_price_micro_rub
    if terms.price_micro_rub <= 0 or (member is not None and member <= 0):
        raise PlanTermsWrong("A plan costs something.")
    if not 1 <= terms.period_months <= 12:
        raise PlanTermsWrong("A period is one to twelve months.")
    if min(terms.grant_micro_rub, terms.rollover_cap_micro_rub, terms.image_quota) < 0:
        raise PlanTermsWrong("A plan gives nothing below zero.")


def _journal(
    action: str,
    subject: str,
    actor: Actor,
    reason: str,
    *,
    target_user_id: UUID | None = None,
    **facts: Any,
) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=subject,
        data={**facts, "reason": reasons.required(reason)},
        target_user_id=target_user_id,
    )
