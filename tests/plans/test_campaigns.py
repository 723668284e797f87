"""Gifts, promo codes and packs: once for each, within the limit, with an end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from accounts.errors import UserNotFound
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import acts
from billing.acts import Asking
from billing.errors import OperatorLimitExceeded, OwnWallet
from plans import campaigns, offers, packs
from plans.errors import (
    CampaignTermsWrong,
    MemberNotFound,
    PlanNotFound,
    PlanTermsWrong,
    PromoCodeOver,
    PromoCodeUnknown,
    PromoCodeUsed,
    PromoGuessing,
)
from plans.models import Campaign, OrganisationMember, Pack, Redemption
from plans.shapes import CampaignTerms
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.test_site import code_in, letter_to, sign_up
from tests.billing import books
from tests.billing.books import RUB
from tests.factories import unique_email
from tests.plans import world

NOW = datetime(2033, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def campaign(
    code: str = "",
    *,
    limit: int = 100,
    days: int = 30,
    start: datetime = NOW,
    rub: int = 50,
    now: datetime = NOW,
    actor: Actor | None = None,
) -> Campaign:
    terms = CampaignTerms(
        amount_micro_rub=rub * RUB,
        bonus_days=days,
        valid_from=start,
        valid_until=start + 10 * DAY,
        uses_limit=limit,
    )
    return offers.open_campaign(
        name="Проба", code=code, terms=terms, reason="Для проверки", now=now, actor=actor or world.boss()
    )


def pack(rub: int, bonus: int, days: int | None = None, *, role: str = "owner") -> Pack:
    return offers.offer_pack(
        amount_micro_rub=rub * RUB, bonus_micro_rub=bonus * RUB, bonus_days=days, reason="Для проверки",
        actor=world.boss(role),
    )  # fmt: skip


def fresh() -> str:
    return uuid7().hex[-12:].upper()


def redeem(user_id: UUID, code: str, now: datetime = NOW) -> Redemption:
    actor = world.somebody(user_id)
    return campaigns.redeem(customer_id=user_id, code=code, now=now, actor=actor).redemption


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("summer-26", "SUMMER26"),
        (" Лето 2026 ", "ЛЕТО2026"),
        ("ＡＢＣＤ", "ABCD"),
        ("a_b\u00a0c", "ABC"),
        ("---", ""),
    ],
)
def test_code_has_one_form_however_it_is_written(written: str, form: str) -> None:
    assert campaigns.normalised(written) == form


def test_code_is_redeemed_once_by_each_until_its_limit_and_its_end() -> None:
    first, second, third = (world.customer(0) for _ in range(3))
    code, short = fresh(), fresh()
    campaign(code, limit=2)
    campaign(short)

    redeem(first.id, code)
    with pytest.raises(PromoCodeUsed):
        redeem(first.id, code)
    redeem(second.id, code.lower())
    with pytest.raises(PromoCodeOver):
        redeem(third.id, code)
    with pytest.raises(PromoCodeUnknown):
        redeem(third.id, short, NOW - DAY)
    with pytest.raises(PromoCodeOver):
        redeem(third.id, short, NOW + 10 * DAY)
    redeem(third.id, short, NOW + 10 * DAY - timedelta(microseconds=1))

    (lot,) = books.lots(first.id)
    assert (lot.kind, lot.remaining_micro_rub, lot.expires_at) == ("bonus", 50 * RUB, NOW + 30 * DAY)
    assert Campaign.objects.get(code=code).uses == 2
    event = AuditEvent.objects.get(action="plans.campaign.given", target_user_id=first.id)
    assert code not in str(event.data)
    books.assert_right(first.id, second.id, third.id)


def test_code_is_nothing_to_somebody_who_is_gone() -> None:
    code, gone = fresh(), uuid7()
    campaign(code, limit=1)

    with pytest.raises(UserNotFound):
        campaigns.redeem(customer_id=gone, code=code, now=NOW, actor=world.somebody(gone), key="once")


def test_codes_that_exist_are_no_guesses() -> None:
    user, used, over = world.customer(0), fresh(), fresh()
    campaign(used)
    campaign(over)
    redeem(user.id, used)
    for _ in range(campaigns.GUESSES_PER_CUSTOMER.count):
        with pytest.raises(PromoCodeUsed):
            redeem(user.id, used)
        with pytest.raises(PromoCodeOver):
            redeem(user.id, over, NOW + 10 * DAY)
    for _ in range(campaigns.GUESSES_PER_CUSTOMER.count):
        with pytest.raises(PromoCodeUnknown):
            redeem(user.id, fresh())
    with pytest.raises(PromoGuessing):
        redeem(user.id, fresh())


def test_sign_up_gift_comes_with_the_confirmed_address_and_once(client: Client) -> None:
    gift = campaign(limit=1, start=clock.now())
    email = unique_email()

    sign_up(client, email)
    assert not gift.redemptions.exists()
    client.post("/verify", {"code": code_in(letter_to(email))})

    (given,) = gift.redemptions.all()
    assert [(lot.kind, lot.remaining_micro_rub) for lot in books.lots(given.customer_id)] == [
        ("bonus", 50 * RUB)
    ]
    campaigns.welcome(customer_id=given.customer_id, now=clock.now())
    campaigns.welcome(customer_id=world.customer(0).id, now=clock.now())  # the gift's only use is gone
    assert gift.redemptions.count() == 1
    books.assert_right(given.customer_id)


def test_closed_campaign_gives_no_more_and_keeps_what_it_gave() -> None:
    user, code = world.customer(0), fresh()
    opened = campaign(code)
    redeem(user.id, code)
    for _ in range(2):
        offers.close_campaign(
            campaign_id=opened.id, reason="Больше не нужна", now=NOW + DAY, actor=world.OPERATOR
        )

    with pytest.raises(PromoCodeOver):
        redeem(world.customer(0).id, code, NOW + DAY)
    assert world.left(user.id) == {"bonus": 50}
    assert (
        AuditEvent.objects.filter(subject=f"campaign:{opened.id}", action="plans.campaign.closed").count()
        == 1
    )


@pytest.mark.parametrize(
    ("code", "days", "rub", "limit"),
    [
        ("abc", 30, 5, 1),
        ("x" * 41, 30, 5, 1),
        ("так!нельзя", 30, 5, 1),
        ("", 0, 5, 1),
        ("", 30, 0, 1),
        ("", 30, 5, 0),
    ],
)
def test_campaign_that_makes_no_sense_is_refused(code: str, days: int, rub: int, limit: int) -> None:
    with pytest.raises(CampaignTermsWrong):
        campaign(code, days=days, rub=rub, limit=limit)


@pytest.mark.parametrize("code", ["", "fresh"])
@pytest.mark.parametrize(
    ("role", "rub", "limit"), [("owner", 10, 10_001), ("finance", 10, 5_001), ("catalogue", 1, 1)]
)
def test_campaign_gives_in_all_what_its_operator_may_move_alone(
    code: str, role: str, rub: int, limit: int
) -> None:
    code = code and fresh()
    with pytest.raises(OperatorLimitExceeded):
        campaign(code, rub=rub, limit=limit, actor=world.boss(role))
    if limit > 1:
        assert (
            campaign(code, rub=rub, limit=limit - 1, actor=world.boss(role), start=NOW + 900 * DAY).uses == 0
        )


def test_campaigns_and_acts_of_a_day_are_one_sum() -> None:
    actor, today = world.boss("finance"), clock.now()
    campaign(fresh(), rub=100, limit=300, now=today, actor=actor)
    with pytest.raises(OperatorLimitExceeded):
        campaign(fresh(), rub=100, limit=201, now=today, actor=actor)
    asking = Asking(reason="Для проверки", ticket="", key=str(uuid7()), now=today, actor=actor)
    asked = acts.give_bonus(
        customer_id=world.customer(0).id, amount_micro_rub=20_001 * RUB, expires_at=None, asking=asking
    )
    assert asked.request.state == "waiting"
    campaign(fresh(), rub=100, limit=200, now=today, actor=actor)
    campaign(fresh(), rub=100, limit=500, now=today + DAY + timedelta(seconds=1), actor=actor)


def test_operator_redeems_no_code_and_lowers_no_own_price() -> None:
    boss, code = factories.operator("finance"), fresh()
    opened = campaign(code)
    for wanted in (code, fresh()):
        with pytest.raises(OwnWallet):
            redeem(boss.id, wanted)
    with pytest.raises(OwnWallet):
        offers.add_member(
            email=boss.email.upper(), organisation_id=uuid7(), reason="Для проверки", now=NOW,
            actor=Actor.operator(boss.id),
        )  # fmt: skip

    opened.refresh_from_db()
    assert (opened.uses, books.lots(boss.id)) == (0, [])
    assert not OrganisationMember.objects.filter(pk=boss.id).exists()


def test_campaign_ends_after_it_begins() -> None:
    terms = CampaignTerms(amount_micro_rub=RUB, bonus_days=1, valid_from=NOW, valid_until=NOW, uses_limit=1)
    with pytest.raises(CampaignTermsWrong):
        offers.open_campaign(
            name="Проба", code="", terms=terms, reason="Для проверки", now=NOW, actor=world.boss()
        )


@pytest.mark.parametrize(("rub", "bonus"), [(0, 1), (500, 0), (500, 501)])
def test_pack_that_makes_no_sense_is_refused(rub: int, bonus: int) -> None:
    with pytest.raises(PlanTermsWrong):
        pack(rub, bonus)


@pytest.mark.parametrize(("role", "bonus"), [("owner", 100_001), ("finance", 50_001), ("catalogue", 1)])
def test_pack_gives_each_time_at_most_what_its_operator_may_move_alone(role: str, bonus: int) -> None:
    with pytest.raises(OperatorLimitExceeded):
        pack(200_000, bonus, role=role)


def test_what_is_not_there_cannot_be_withdrawn() -> None:
    with pytest.raises(PlanNotFound):
        offers.withdraw(code="none-such", reason="Для проверки", actor=world.OPERATOR)
    with pytest.raises(PlanNotFound):
        offers.withdraw_pack(pack_id=2**40, reason="Для проверки", actor=world.OPERATOR)
    with pytest.raises(MemberNotFound):
        offers.remove_member(customer_id=uuid7(), reason="Для проверки", actor=world.OPERATOR)
    with pytest.raises(UserNotFound):
        offers.add_member(
            email="nobody@example.test", organisation_id=uuid7(), reason="Для проверки", now=NOW,
            actor=world.OPERATOR,
        )  # fmt: skip


def test_pack_brings_its_bonus_once_with_the_payment_that_is_its_sum() -> None:
    user, rub = world.customer(0), uuid7().int % 80_000 + 10_000
    pack(rub, 40, 60)
    payment_id = uuid7()

    def pay(amount: int) -> int:
        with transaction.atomic():
            return packs.give(
                customer_id=user.id, payment_id=payment_id, amount_micro_rub=amount * RUB, now=NOW
            )

    assert [pay(rub - 1), pay(rub), pay(rub)] == [0, 40 * RUB, 40 * RUB]
    (lot,) = books.lots(user.id)
    assert (lot.kind, lot.amount_micro_rub, lot.expires_at) == ("bonus", 40 * RUB, NOW + 60 * DAY)


def test_code_belongs_to_one_campaign_for_ever() -> None:
    code = fresh()
    campaign(code)
    with pytest.raises(CampaignTermsWrong):
        campaign(code.lower())


@pytest.mark.parametrize(("price", "grant", "months"), [(0, 1, 1), (1, -1, 1), (1, 1, 0), (1, 1, 13)])
def test_terms_that_make_no_sense_are_refused(price: int, grant: int, months: int) -> None:
    with pytest.raises(PlanTermsWrong):
        world.plan(price, grant, months=months)
