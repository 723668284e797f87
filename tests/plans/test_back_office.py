"""Back office of plans: every list and page is shown to those who may, acts ask a reason and happen once."""

import re
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils.timezone import localdate

from accounts.models import User
from auditlog.models import AuditEvent
from plans import campaigns, queries
from plans.models import Campaign, OrganisationMember, Pack, Plan, PlanVersion, Subscription
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing.books import RUB
from tests.plans import world

REASON = "Просьба клиента в письме"
ROOT = "/admin/plans"


@pytest.fixture
def operator(client: Client) -> User:
    found = factories.operator("finance")
    client.force_login(found)
    return found


@pytest.fixture
def version() -> PlanVersion:
    return world.plan(300, 200, images=5)


def send(client: Client, address: str, **fields: Any) -> str:
    """What the operator reads after the button."""
    form = {"_form_submitted": "True", "reason": REASON, "key": str(uuid7()), **fields}
    answer = client.post(f"{ROOT}/{address}/", form, follow=True)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


def actions(subject: str) -> list[str]:
    rows = AuditEvent.objects.filter(subject=subject, actor_kind="operator").order_by("seq")
    return list(rows.values_list("action", flat=True))


def test_plan_is_published_changed_and_withdrawn(client: Client, operator: User) -> None:
    code = f"plan-{uuid7().hex[-8:]}"
    form = {
        "code": code, "name": "Start", "price": "1 500,50", "member_price": "", "months": "1",
        "grant": "2000", "rollover_cap": "500", "image_quota": "40", "first_day": localdate().isoformat(),
    }  # fmt: skip

    assert "Тариф выставлен" in send(client, "plan/publish", **form)
    assert "Тариф выставлен" in send(
        client, "plan/publish", **form | {"price": "1700", "member_price": "900"}
    )

    assert queries.on_offer(code, at=clock.now()).price_micro_rub == 1700 * RUB
    versions = list(PlanVersion.objects.filter(plan_id=code).order_by("number"))
    assert [(row.number, row.price_micro_rub, row.member_price_micro_rub) for row in versions] == [
        (1, 1_500_500_000, None), (2, 1700 * RUB, 900 * RUB)
    ]  # fmt: skip
    assert client.get(f"{ROOT}/plan/{code}/change/").status_code == 200
    assert "Тариф снят с продажи" in send(client, f"plan/{code}/withdraw")
    assert not Plan.objects.get(pk=code).is_offered
    assert actions(f"plan:{code}") == ["plans.plan.published"] * 2 + ["plans.plan.withdrawn"]
    assert "Введите сумму" in client.post(
        f"{ROOT}/plan/publish/", form | {"_form_submitted": "True", "reason": REASON, "price": "many"}
    ).content.decode()  # fmt: skip


def test_pack_campaign_and_member_are_kept_by_operators(client: Client, operator: User) -> None:
    rub = str(uuid7().int % 80_000 + 10_000)
    assert "Пакет выставлен" in send(client, "pack/offer", amount=rub, bonus="50", days="")
    pack = Pack.objects.get(amount_micro_rub=int(rub) * RUB)
    assert "Пакет снят с продажи" in send(client, f"pack/{pack.pk}/withdraw")
    code = uuid7().hex[-10:].upper()
    form = {
        "name": "Осень",
        "code": code,
        "amount": "70",
        "days": "30",
        "first_day": localdate().isoformat(),
        "uses_limit": "100",
    }
    assert "Кампания начата" in send(client, "campaign/open", **form, last_day=localdate().isoformat())
    campaign = Campaign.objects.get(code=code)
    assert client.get(f"{ROOT}/campaign/{campaign.pk}/change/").status_code == 200
    assert "Кампания закончена" in send(client, f"campaign/{campaign.pk}/close")
    for wrong in ({"code": "abc"}, {"last_day": "2020-01-01"}, {"code": code}):
        assert "Условия не сходятся" in send(client, "campaign/open", **form | wrong)
    assert "Всего это 50" in send(client, "campaign/open", **form | {"amount": "500.01"})
    other = {**form, "code": uuid7().hex[-10:], "uses_limit": "500"}
    assert "Кампания начата" in send(client, "campaign/open", **other)  # 35 000 of 50 000, after 7 000
    assert "Уменьшите бонус" in send(client, "campaign/open", **other | {"code": uuid7().hex[-10:]})
    assert "обязательно" in send(client, "campaign/open", **form | {"uses_limit": ""}).lower()
    for amount, bonus in (("100", "100.01"), ("90000", "50000.01"), ("100", "0")):
        assert "Бонус больше нуля и не больше" in send(
            client, "pack/offer", amount=amount, bonus=bonus, days=""
        )
    own = {"email": operator.email, "organisation_id": str(uuid7())}
    assert "Себе цену организации" in send(client, "organisationmember/add-member", **own)
    nobody = {"email": "nobody@example.test", "organisation_id": str(uuid7())}
    assert "с такой почтой нет" in send(client, "organisationmember/add-member", **nobody)
    user = factories.customer()
    member = {"email": user.email, "organisation_id": str(uuid7())}
    assert "цену организации" in send(client, "organisationmember/add-member", **member)
    assert OrganisationMember.objects.filter(pk=user.id).exists()
    assert "обычную цену" in send(client, f"organisationmember/{user.id}/remove-member")

    assert actions(f"user:{user.id}") == ["plans.member.added", "plans.member.removed"]
    assert actions(f"campaign:{campaign.id}") == ["plans.campaign.opened", "plans.campaign.closed"]
    assert actions(f"pack:{pack.pk}") == ["plans.pack.offered", "plans.pack.withdrawn"]
    pack.refresh_from_db()
    assert not pack.is_offered


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"amount": "many"}, "Введите сумму"),
        ({"amount": ""}, "Обязательное поле"),
        ({"bonus": "half"}, "Введите сумму"),
        ({"bonus": ""}, "Обязательное поле"),
    ],
)
def test_pack_with_a_sum_that_is_none_is_told_only_that(
    client: Client, operator: User, wrong: dict[str, str], told: str
) -> None:
    rub = str(uuid7().int % 80_000 + 10_000)

    page = send(client, "pack/offer", **{"amount": rub, "bonus": "90000", "days": ""} | wrong)

    assert page.count(told) == 1
    assert "Бонус больше нуля и не больше" not in page
    assert not Pack.objects.filter(amount_micro_rub=int(rub) * RUB).exists()


def test_page_of_a_campaign_leads_to_who_got_what(client: Client, operator: User) -> None:
    user, code = factories.customer(), uuid7().hex[-10:]
    form = {"name": "Зима", "code": code, "amount": "37.50", "days": "30", "uses_limit": "5"}
    assert "Кампания начата" in send(client, "campaign/open", **form, first_day=localdate().isoformat())
    given = campaigns.redeem(
        customer_id=user.id, code=code, now=clock.now(), actor=world.somebody(user.id)
    ).redemption

    page = client.get(f"{ROOT}/campaign/{given.campaign_id}/change/").content.decode()

    rows = page[page.index('id="redemptions-data"') :]
    assert "37,50" in rows
    for address, words in (
        (f"/admin/accounts/user/{user.id}/change/", str(user.id)),
        (f"/admin/billing/ledgerentry/{given.entry_id}/change/", "Открыть"),
    ):
        assert re.search(rf'<a href="{address}"[^>]*>{words}</a>', rows)
        assert client.get(address).status_code == 200


def test_subscription_is_activated_extended_and_canceled_for_a_customer(
    client: Client, operator: User, version: PlanVersion
) -> None:
    user, key = world.customer(1000), str(uuid7())
    form = {"email": user.email, "plan": version.plan_id, "key": key}

    assert "Тариф подключён" in send(client, "subscription/activate", **form)
    assert "Тариф подключён" in send(client, "subscription/activate", **form)  # sent twice
    assert "с такой почтой нет" in send(
        client, "subscription/activate", **form | {"email": "no@example.test"}
    )
    assert "уже есть тариф" in send(client, "subscription/activate", **form | {"key": str(uuid7())})
    subscription = Subscription.objects.get(customer_id=user.id)
    end = subscription.period_end
    page = f"subscription/{subscription.id}"
    assert "Период продолжен" in send(client, f"{page}/extend", days="3")
    assert "Период оплачен" in send(client, f"{page}/renew")
    assert "Следующий период уже оплачен" in send(client, f"{page}/extend", days="3")
    assert "Подписка отменена" in send(client, f"{page}/cancel")

    subscription.refresh_from_db()
    assert ((subscription.period_end - end).days, subscription.cancel_at_period_end) == (3, True)
    assert world.kinds(user.id) == [
        "topup", "plan_purchase", "plan_grant", "rollover", "rollover", "plan_purchase", "plan_grant"
    ]  # fmt: skip
    assert actions(f"subscription:{subscription.id}") == [
        f"plans.subscription.{kind}" for kind in ("activated", "extended", "renewed", "canceled")
    ]
    shown = client.get(f"{ROOT}/{page}/change/").content.decode()
    assert REASON in shown
    period = subscription.periods.earliest("starts_at")
    assert client.get(f"{ROOT}/subscriptionperiod/{period.id}/change/").status_code == 200


@pytest.mark.parametrize(
    "page", ["plan", "pack", "campaign", "organisationmember", "subscription", "subscriptionperiod"]
)
def test_lists_are_read_by_support_and_closed_to_the_catalogue(client: Client, page: str) -> None:
    client.force_login(factories.operator("support"))
    assert client.get(f"{ROOT}/{page}/").status_code == 200
    client.force_login(factories.operator("catalogue"))
    assert client.get(f"{ROOT}/{page}/").status_code == 403


@pytest.mark.parametrize("act", ["extend", "renew", "cancel"])
def test_support_may_not_act_and_a_short_reason_is_refused(
    client: Client, version: PlanVersion, act: str
) -> None:
    user = world.customer(1000)
    subscription = world.activate(user, version, clock.now())
    address = f"{ROOT}/subscription/{subscription.id}/{act}/"
    form = {"_form_submitted": "True", "reason": REASON, "key": "k", "days": "3"}

    client.force_login(factories.operator("support"))
    assert client.post(address, form).status_code == 403
    client.force_login(factories.operator("finance"))
    assert client.post(address, form | {"reason": "так"}).status_code == 200
    assert client.post(f"{ROOT}/subscription/{UUID(int=7)}/{act}/", form).status_code == 403

    assert world.kinds(user.id) == ["topup", "plan_purchase", "plan_grant"]
    assert actions(f"subscription:{subscription.id}") == []
