"""The plan's page: what one has, what comes next, every act by a plain form; and the letters."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.test import Client

from accounts import notices
from accounts.models import Notice, User
from plans import lifecycle, offers, periods
from plans.models import PlanVersion, Subscription
from plans.shapes import CampaignTerms
from plyrum import clock
from tests.billing import books
from tests.billing.books import RUB
from tests.plans import world

PAGE = "/app/plan"


@pytest.fixture
def user(client: Client) -> User:
    found = world.customer(1000)
    client.force_login(found)
    return found


@pytest.fixture
def version() -> PlanVersion:
    return world.plan(300, 200, images=7)


def press(client: Client, act: str, **form: Any) -> str:
    """Send a form of the page; what the page says afterwards."""
    answer = client.post(f"{PAGE}/{act}", {"idempotency_key": str(uuid4()), **form}, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    return answer.content.decode()


def text(client: Client) -> str:
    answer = client.get(PAGE)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.content.decode()


def test_page_of_a_customer_without_a_plan_offers_them(
    client: Client, user: User, version: PlanVersion
) -> None:
    page = client.get(PAGE)

    (row,) = [row for row in page.context["plans"] if row["version"] == version]
    assert (row["act"], row["price_micro_rub"], row["now_micro_rub"]) == ("activate", 300 * RUB, None)
    assert "Тариф не подключён" in page.content.decode()
    assert client.get("/en/app/plan").status_code == 200
    assert Client().get(PAGE).status_code == 302


def test_every_act_of_the_page(client: Client, user: User, version: PlanVersion) -> None:
    larger, smaller = world.plan(600, 500), world.plan(100, 50)
    form = {"plan": version.plan_id, "price_micro_rub": str(300 * RUB), "renewal": "automatic"}
    key = str(uuid4())

    assert "Тариф подключён" in press(client, "activate", **form | {"idempotency_key": key})
    assert "Тариф подключён" in press(client, "activate", **form | {"idempotency_key": key})  # sent twice
    assert "Тариф уже подключён" in press(client, "activate", **form)
    page = text(client)
    assert "около 100" in page
    assert "Спишем 300,00" in page.replace("\u00a0", " ").replace("\u202f", " ")
    assert "Способ продления сохранён" in press(client, "renewal", renewal="manual")
    assert "Отмена снята" in press(client, "resume")
    assert "Подписка отменена" in press(client, "cancel")
    assert "Подписка закончится, деньги не спишутся" in text(client)
    assert "Тариф выбран" in press(client, "change", plan=smaller.plan_id)
    upgrade = next(row for row in client.get(PAGE).context["plans"] if row["version"] == larger)
    assert 299 * RUB < upgrade["now_micro_rub"] <= 300 * RUB
    assert "Тариф выбран" in press(
        client, "change", plan=larger.plan_id, price_micro_rub=str(upgrade["now_micro_rub"])
    )
    assert "нужно" in press(client, "renew", price_micro_rub=str(600 * RUB))  # too little is left
    books.credit(user.id, 600 * RUB)
    assert "Следующий период оплачен" in press(client, "renew", price_micro_rub=str(600 * RUB))
    assert "уже оплачен" in press(client, "change", plan=smaller.plan_id)
    assert world.kinds(user.id).count("plan_purchase") == 3


def test_bad_forms_move_nothing(client: Client, user: User, version: PlanVersion) -> None:
    assert "Страница устарела" in press(client, "activate", idempotency_key="no key")
    assert "Страница устарела" in press(client, "activate", plan="../x", price_micro_rub="-1")
    assert "больше не продаётся" in press(client, "activate", plan="none-such")
    assert "Цена изменилась" in press(client, "activate", plan=version.plan_id, price_micro_rub="1")
    assert client.post(f"{PAGE}/none-such", {}).status_code == 404
    assert client.get(f"{PAGE}/activate").status_code == 405
    assert "Такого промокода нет" in press(client, "promo", code="nothing")
    assert "Введите промокод" in press(client, "promo")
    assert world.kinds(user.id) == ["topup"]


def test_promo_code_of_the_page_brings_its_bonus(client: Client, user: User) -> None:
    code = uuid4().hex[:12]
    terms = CampaignTerms(
        amount_micro_rub=25 * RUB, bonus_days=5, valid_from=clock.now(), valid_until=None, uses_limit=100
    )
    offers.open_campaign(
        name="Проба", code=code, terms=terms, reason="Для страницы", now=clock.now(), actor=world.boss()
    )

    assert "на балансе" in press(client, "promo", code=code.upper())
    assert world.left(user.id) == {"purchased": 1000, "bonus": 25}


def test_page_tells_how_an_unpaid_subscription_stands(client: Client, user: User) -> None:
    version = world.plan(900, 0)  # no grant: nothing is left to sweep
    begun = clock.now() - timedelta(days=40)
    subscription = world.activate(user, version, begun, world.AUTOMATIC)
    assert "Ждёт оплаты" in text(client)  # by the clock, before beat has come
    world.advance(subscription, subscription.period_end)
    assert "Попробуем ещё раз" in text(client)
    world.advance(subscription, subscription.period_end + timedelta(days=7))
    assert "Приостановлена" in text(client)
    Subscription.objects.filter(pk=subscription.pk).update(state="expired", due_at=None, past_due_at=None)
    assert "Тариф не подключён" in text(client)


def test_period_that_is_over_is_not_shown_as_running(client: Client, user: User) -> None:
    world.activate(user, world.plan(300, 0), clock.now() - timedelta(days=40))

    assert "Тариф не подключён" in text(client)


def test_no_letter_warns_too_early_or_of_what_is_over() -> None:
    user = world.customer(300)
    subscription = world.activate(user, world.plan(300, 0), clock.now() - timedelta(days=40))
    end, day = subscription.period_end, timedelta(days=1)

    lifecycle.warn(subscription_id=subscription.id, now=end - 7 * day - timedelta(microseconds=1))
    lifecycle.warn(subscription_id=subscription.id, now=end)
    assert world.letters(user) == []
    world.advance(subscription, end)
    lifecycle.warn(subscription_id=subscription.id, now=end - day)  # by a round that began before the end

    assert world.letters(user) == ["plan_ended"]


@pytest.mark.parametrize("locale", ["ru", "en"])
def test_letters_say_what_happens_and_what_it_costs(locale: str) -> None:
    user = world.customer(300)
    user.locale = locale
    user.save(update_fields=["locale"])
    subscription = world.activate(
        user, world.plan(300, 200), clock.now() - timedelta(days=31), world.AUTOMATIC
    )
    end = subscription.period_end
    lifecycle.warn(subscription_id=subscription.id, now=end - timedelta(days=2))
    world.advance(subscription, end)
    world.advance(subscription, end + timedelta(days=7))
    world.advance(subscription, end + timedelta(days=30))

    books.expire_lots(user.id)

    rows = Notice.objects.filter(user_id=user.id).order_by("created_at", "id")
    names = [row.letter for row in rows]
    mail.outbox.clear()
    for row in rows:
        notices.send(notice_id=row.pk, now=clock.now() + timedelta(days=99))
    letters = [letter.body for letter in mail.outbox if letter.to == [user.email]]

    assert names == ["plan_ending", "plan_past_due", "plan_past_due", "plan_ended"]
    assert len(letters) == 4
    assert all("300" in body for body in letters[:3])
    assert f"{end.astimezone(periods.ZONE):%d.%m.%Y}" in letters[0]
    assert all("/app/plan" in body for body in letters)
