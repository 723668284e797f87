"""Limits where people meet them: the customer's wallet, the operators' buttons, the letters."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core import mail
from django.test import Client

from accounts.models import ApiKey, Notice, User
from accounts.tasks import send_notice
from auditlog.actors import Actor
from billing import checks, keys, limit_alerts, limits, policies, tasks, windows
from billing.limit_models import LimitLift, RequestRate, SpendingBlock, SpendLimit, Window
from billing.models import LotKind
from playground import words
from plyrum import clock as real_clock
from plyrum.errors import PlyrumError
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.threads import at_once

WHY = "Проверка расходов"
NBSP = "\u00a0"


@pytest.fixture
def customer(client: Client) -> User:
    """A customer who is signed in to the site."""
    found = factories.customer()
    client.force_login(found)
    return found


def own(customer: User, **amounts: int) -> None:
    wanted = {Window(name): amount for name, amount in amounts.items()}
    actor = Actor.customer(customer.id)
    limits.set_own(customer_id=customer.id, limits=wanted, now=real_clock.now(), actor=actor)


def page(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode().replace(NBSP, " ")


def test_customer_sets_limits_and_sees_how_much_is_used(client: Client, customer: User) -> None:
    books.credit(customer.id, 100 * RUB)
    books.spend(customer.id, 30 * RUB)
    form = {"request": "5,50", "hour": "", "day": "1 00", "month": "0.000001"}

    saved = client.post("/app/wallet/limits", form, follow=True)

    told = saved.content.decode().replace(NBSP, " ")
    assert saved.redirect_chain[-1][0] == "/app/wallet#limits"
    assert "Лимиты сохранены: 5,50 ₽ на запрос, 100,00 ₽ в день" in told
    assert "30,00 ₽ из 100,00 ₽" in told
    assert 'value="5,50"' in told
    assert 'value="0,000001"' in told  # what the form shows it also takes
    assert limits.own(customer.id) == {"request": 5_500_000, "day": 100 * RUB, "month": 1}
    assert "Лимитов больше нет" in client.post("/app/wallet/limits", {}, follow=True).content.decode()


def test_wrong_limits_come_back_with_what_was_typed(client: Client, customer: User) -> None:
    own(customer, day=RUB)

    answer = client.post("/app/wallet/limits", {"day": "сто", "month": "100000001"})

    shown = answer.content.decode().replace(NBSP, " ")
    assert answer.status_code == 422
    assert 'value="сто"' in shown
    assert "Введите сумму в рублях" in shown
    assert "Лимит не больше 100 000 000,00 ₽" in shown
    assert limits.own(customer.id) == {"day": RUB}
    assert client.get("/app/wallet/limits").status_code == 405
    assert Client().post("/app/wallet/limits", {}).status_code == 302


def send(client: Client, address: str, **fields: Any) -> str:
    form = {"_form_submitted": "True", "reason": WHY, **fields}
    answer = client.post(address, form, follow=True)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode().replace(NBSP, " "))


@pytest.fixture
def operator(client: Client) -> User:
    found = factories.operator("finance")
    client.force_login(found)
    return found


@pytest.mark.usefixtures("operator")
def test_operator_limits_lifts_and_stops_on_the_wallets_page(client: Client) -> None:
    customer = factories.customer()
    wallet = f"/admin/billing/wallet/{customer.id}"
    assert "Снять лимит" not in page(client, f"{wallet}/change/")

    assert "Лимит поставлен" in send(client, f"{wallet}/limit/", window="day", amount="300,50")
    assert "300,50 ₽" in page(client, f"{wallet}/lift/")
    row = SpendLimit.objects.get(subject=f"user:{customer.id}", window="day")
    lifted = send(client, f"{wallet}/lift/", limit=f"user:{customer.id} day")
    assert "Лимит снят до конца окна" in lifted
    lift = LimitLift.objects.get(subject=row.subject)
    send(client, f"{wallet}/limit/", window="request", amount="5")
    told = page(client, f"{wallet}/limit/")  # the next form says what applies
    assert "0 ₽ из 300,50 ₽, снят" in told
    assert "запрос (клиент)" in told
    assert "Траты закрыты" in send(client, f"{wallet}/stop-spending/")
    assert "Открыть траты" in page(client, f"{wallet}/change/")
    assert "Траты открыты" in send(client, f"{wallet}/allow-spending/")
    assert SpendingBlock.objects.get(customer_id=customer.id).lift_reason == WHY
    block = SpendingBlock.objects.get(customer_id=customer.id)
    for path in (f"limitlift/{lift.pk}", f"spendingblock/{block.pk}", "requestrate/plan"):
        page(client, f"/admin/billing/{path}/change/")
    short = client.post(f"{wallet}/stop-spending/", {"_form_submitted": "True", "reason": "так"})
    assert short.status_code == 200
    assert SpendingBlock.objects.filter(customer_id=customer.id, lifted_at=None).count() == 0

    listed = page(client, "/admin/billing/spendlimit/", q=str(customer.id))
    assert f"клиент {customer.id}" in listed
    assert "Убрать лимит" in page(client, f"/admin/billing/spendlimit/{row.pk}/change/")
    assert f"клиент {customer.id}, день" in page(client, f"/admin/billing/spendlimit/{row.pk}/remove/")
    assert "Лимит убран" in send(client, f"/admin/billing/spendlimit/{row.pk}/remove/")
    assert not SpendLimit.objects.filter(pk=row.pk).exists()
    for name in ("limitlift", "spendingblock", "requestrate"):
        page(client, f"/admin/billing/{name}/")


def test_own_wallet_is_not_stopped_and_other_roles_have_no_buttons(client: Client, operator: User) -> None:
    assert "своим кошельком" in send(client, f"/admin/billing/wallet/{operator.id}/stop-spending/")
    client.force_login(factories.operator("support"))
    refused = client.post(
        f"/admin/billing/wallet/{operator.id}/stop-spending/", {"_form_submitted": "True", "reason": WHY}
    )
    assert refused.status_code == 403
    assert not SpendingBlock.objects.filter(customer_id=operator.id).exists()


@pytest.fixture
def _common_budget(client: Client, operator: User) -> Iterator[None]:
    """The budget of gifts, set in the back office; it applies to everybody and goes with the test."""
    told = send(
        client, "/admin/billing/spendlimit/set-shared/", subject="gift:all", window="month", amount="9000000"
    )
    assert "Лимит поставлен" in told
    yield
    SpendLimit.objects.filter(subject="gift:all").delete()
    LimitLift.objects.filter(subject="gift:all").delete()


@pytest.mark.usefixtures("_common_budget")
def test_common_budget_and_rates_are_set_on_their_lists(client: Client) -> None:
    row = SpendLimit.objects.get(subject="gift:all")
    books.credit(uuid7(), RUB, kind=LotKind.BONUS)
    assert checks.gifts_have_a_budget(databases=["default"]) == []
    before = RequestRate.objects.get(pk="plan")

    assert "Лимит снят" in send(client, f"/admin/billing/spendlimit/{row.pk}/lift/")
    assert LimitLift.objects.get(subject="gift:all").ends_at == windows.end_of(Window.MONTH, real_clock.now())
    same = {"tier": "plan", "per_minute": before.per_minute, "per_hour": before.per_hour}
    assert "Частота запросов изменена" in send(client, "/admin/billing/requestrate/change-rate/", **same)
    SpendLimit.objects.filter(pk=row.pk).delete()
    assert [found.id for found in checks.gifts_have_a_budget(databases=["default"])] == ["billing.W001"]
    assert checks.gifts_have_a_budget() == []
    organisation, key = uuid7(), factories.api_key(factories.customer())[0].pk
    for subject, name in (("plan", "solo_1"), ("organisation", str(organisation)), ("key", str(key))):
        given = {"subject": subject, "name": name, "window": "month", "amount": "5"}
        send(client, "/admin/billing/spendlimit/set-shared/", **given)
        words = {"plan": "каждый с тарифом", "organisation": "организация", "key": "ключ"}[subject]
        assert f"{words} {name}" in page(client, "/admin/billing/spendlimit/", q=name)
        told = send(client, "/admin/billing/spendlimit/set-shared/", **given | {"name": "a b"})
        assert "не бывает" in told
        assert SpendLimit.objects.filter(subject=f"{subject}:{name}").delete()[0] == 1
    wrong = same | {"per_hour": 1}
    assert "проверьте числа" in send(client, "/admin/billing/requestrate/change-rate/", **wrong)


def letters_of(customer: User) -> list[int]:
    rows = Notice.objects.filter(user_id=customer.id, letter="limit_reached").order_by("created_at", "pk")
    return [row.facts["mark"] for row in rows]


def ask(customer: User, amount: int, *, key: UUID | None = None) -> str:
    """The outcome of a hold under all that applies to the customer."""
    steps = policies.of(customer.id, api_key_id=key, now=real_clock.now()).steps()
    return str(books.hold(customer.id, amount, limits=steps)["outcome"])


def spend(customer: User, amount: int) -> UUID:
    steps = policies.of(customer.id, now=real_clock.now()).steps()
    hold_id = books.held(customer.id, amount, limits=steps)
    entry: UUID = books.settle(customer.id, hold_id, amount)["entry_id"]
    return entry


def test_each_mark_is_told_once_in_a_window_however_many_jobs_run() -> None:
    customer = factories.customer()
    books.credit(customer.id, 1000 * RUB)
    own(customer, month=100 * RUB)
    told = []
    for amount in (49, 1, 24, 20, 6):  # 49, 50, 74, 94, 100
        spend(customer, amount * RUB)
        at_once(4, lambda: limit_alerts.write(now=real_clock.now()))
        told.append(letters_of(customer))

    assert told == [[], [50], [50], [50, 90], [50, 90, 100]]
    notice = Notice.objects.get(user_id=customer.id, facts__mark=100)
    assert notice.key.startswith(f"limit:user:{customer.id}:month:")
    send_notice(notice_id=str(notice.pk))
    (letter,) = [sent for sent in mail.outbox if sent.to == [customer.email]]
    assert letter.subject == "Лимит на месяц останавливает запросы"
    assert "100,00 ₽ из 100,00 ₽" in str(letter.body).replace(NBSP, " ")
    slot = str(uuid7())
    assert [tasks.write_limit_letters(slot=slot) for _ in range(2)] == ["done", "skipped"]


def spend_by_key(row: ApiKey, amount: int) -> None:
    steps = policies.of(row.user_id, api_key_id=row.pk, now=real_clock.now()).steps()
    hold_id = books.held(row.user_id, amount, limits=steps)
    usage = books.usage_row(amount, run_id=hold_id) | {"api_key_id": row.pk}
    books.settle(row.user_id, hold_id, amount, usage=[usage])


def test_owner_of_a_key_is_told_of_each_mark_once() -> None:
    customer = factories.customer()
    books.credit(customer.id, 1000 * RUB)
    row, _ = factories.api_key(customer, name="Сервер <1>")
    other, _ = factories.api_key(customer, month_limit_micro_rub=100 * RUB)
    spend_by_key(row, 40 * RUB)  # before the limit: no counter knows it
    keys.change(
        customer_id=customer.id,
        key_id=row.pk,
        changes={"month_limit_micro_rub": 100 * RUB},
        now=real_clock.now(),
        actor=Actor.customer(customer.id),
    )
    told = []
    for amount in (9, 1, 40, 10):  # 49, 50, 90, 100
        spend_by_key(row, amount * RUB)
        at_once(4, lambda: limit_alerts.write(now=real_clock.now()))
        told.append(letters_of(customer))

    assert told == [[], [50], [50, 90], [50, 90, 100]]
    assert not Notice.objects.filter(key__startswith=f"limit:key:{other.pk}").exists()
    notice = Notice.objects.get(user_id=customer.id, facts__mark=100)
    assert notice.key.startswith(f"limit:key:{row.pk}:month:")
    send_notice(notice_id=str(notice.pk))
    (letter,) = [sent for sent in mail.outbox if sent.to == [customer.email]]
    assert letter.subject == "Ключ «Сервер <1>»: лимит останавливает запросы"
    assert "100,00 ₽ из 100,00 ₽" in str(letter.body).replace(NBSP, " ")
    assert "Лимит ключа API «Сервер <1>»" in letter.body
    assert "Сервер &lt;1&gt;" in letter.alternatives[0][0]  # type: ignore[attr-defined]


def test_refused_request_is_told_of_once_in_a_window_though_not_all_is_spent() -> None:
    """Holds are worst cases: what is left refuses them long before all of it is spent."""
    customer = factories.customer()
    books.credit(customer.id, 1000 * RUB)
    own(customer, month=100 * RUB)
    spend(customer, 96 * RUB)
    limit_alerts.write(now=real_clock.now())
    assert letters_of(customer) == [90]

    assert [ask(customer, 5 * RUB) for _ in range(2)] == ["limit_exceeded"] * 2
    at_once(4, lambda: limit_alerts.write(now=real_clock.now()))

    assert letters_of(customer) == [90, 100]
    notice = Notice.objects.get(user_id=customer.id, facts__mark=100)
    assert notice.facts["spent_micro_rub"] == 96 * RUB
    assert ask(customer, 5 * RUB) == "limit_exceeded"
    limit_alerts.write(now=real_clock.now())
    limit_alerts.write(now=windows.end_of(Window.MONTH, real_clock.now()) + timedelta(minutes=1))
    assert letters_of(customer) == [90, 100]


def test_refusal_with_nothing_spent_is_told_of_by_the_limit_that_refused() -> None:
    customer, raised = factories.customer(), factories.customer()
    for one in (customer, raised):
        books.credit(one.id, 100 * RUB)
        own(one, day=RUB, month=50 * RUB)
        assert ask(one, 2 * RUB) == "limit_exceeded"
    own(raised, day=20 * RUB, month=50 * RUB)  # a limit that has refused nothing yet

    limit_alerts.write(now=real_clock.now())

    (notice,) = Notice.objects.filter(user_id=customer.id, letter="limit_reached")
    assert (notice.facts["mark"], notice.facts["window"], notice.facts["spent_micro_rub"]) == (100, "day", 0)
    assert letters_of(raised) == []


def test_refusal_of_a_key_is_told_of_to_its_owner() -> None:
    customer = factories.customer()
    books.credit(customer.id, 100 * RUB)
    row, _ = factories.api_key(customer, month_limit_micro_rub=10 * RUB)

    assert ask(customer, 11 * RUB, key=row.pk) == "limit_exceeded"
    limit_alerts.write(now=real_clock.now())

    notice = Notice.objects.get(user_id=customer.id, letter="limit_reached")
    assert (notice.facts["mark"], notice.facts["whose"]) == (100, "key")


def test_lifted_and_lower_limits_of_keys_are_obeyed_by_letters() -> None:
    customer, operator = factories.customer(), Actor.operator(factories.operator().id)
    books.credit(customer.id, 1000 * RUB)
    row, _ = factories.api_key(customer, month_limit_micro_rub=100 * RUB)
    facts: dict[str, Any] = {
        "subject": f"key:{row.pk}", "window": Window.MONTH, "reason": WHY, "now": real_clock.now(),
        "actor": operator,
    }  # fmt: skip
    limits.set_limit(limit_micro_rub=40 * RUB, **facts)
    spend_by_key(row, 30 * RUB)
    limit_alerts.write(now=real_clock.now())
    limits.lift(**facts)
    spend_by_key(row, 70 * RUB)
    limit_alerts.write(now=real_clock.now())

    assert letters_of(customer) == [75]


def test_lifted_limits_and_other_windows_are_not_told_of() -> None:
    customer, operator = factories.customer(), Actor.operator(factories.operator().id)
    books.credit(customer.id, 100 * RUB)
    own(customer, month=10 * RUB)
    spend(customer, 10 * RUB)
    subject = limits.user_subject(customer.id)
    limits.lift(subject=subject, window=Window.MONTH, reason=WHY, now=real_clock.now(), actor=operator)

    limit_alerts.write(now=real_clock.now())
    limit_alerts.write(now=windows.end_of(Window.MONTH, real_clock.now()) + timedelta(hours=1))

    assert letters_of(customer) == []


def test_window_that_just_ended_is_told_of_once() -> None:
    customer = factories.customer()
    books.credit(customer.id, 100 * RUB)
    own(customer, month=10 * RUB)
    spend(customer, 9 * RUB)
    end = windows.end_of(Window.MONTH, real_clock.now())

    for late in (timedelta(hours=1, seconds=1), timedelta(seconds=1), timedelta(minutes=59)):
        limit_alerts.write(now=end + late)
        assert letters_of(customer) == ([] if late > timedelta(hours=1) else [90])

    (notice,) = Notice.objects.filter(user_id=customer.id, letter="limit_reached")
    assert notice.facts["spent_micro_rub"] == 9 * RUB
    changed = factories.customer()
    books.credit(changed.id, 100 * RUB)
    own(changed, month=10 * RUB)
    spend(changed, 9 * RUB)
    SpendLimit.objects.filter(subject=f"user:{changed.id}").update(created_at=end)  # was not so then
    limit_alerts.write(now=end + timedelta(seconds=1))
    assert letters_of(changed) == []


def test_lowest_of_own_and_tiers_limit_is_told_of() -> None:
    freer, stricter, untouched = (factories.customer() for _ in range(3))
    for customer in (freer, stricter, untouched):
        books.credit(customer.id, 100 * RUB)
    own(stricter, month=8 * RUB)
    own(freer, month=50 * RUB)
    row = limits.set_limit(
        subject="tier:paid",
        window=Window.MONTH,
        limit_micro_rub=10 * RUB,
        reason=WHY,
        now=real_clock.now(),
        actor=Actor.operator(factories.operator().id),
    )
    try:  # it applies to everybody: other tests must not meet it
        for customer in (freer, stricter):
            spend(customer, 8 * RUB)
        spend(untouched, 4 * RUB)
        limit_alerts.write(now=real_clock.now())
    finally:
        SpendLimit.objects.filter(pk=row.pk).delete()

    assert [letters_of(customer) for customer in (freer, stricter, untouched)] == [[75], [100], []]
    told = Notice.objects.get(user_id=freer.id, letter="limit_reached")
    assert (told.facts["limit_micro_rub"], told.facts["spent_micro_rub"]) == (10 * RUB, 8 * RUB)


@pytest.mark.usefixtures("_common_budget")
def test_lifted_common_budget_is_not_told_of() -> None:
    owner = factories.operator("owner")
    customer = uuid7()
    books.credit(customer, RUB)
    SpendLimit.objects.filter(subject="gift:all").update(limit_micro_rub=RUB)
    hold_id = books.held(customer, RUB, limits=[books.limit("gift:all", 10**15, "month")])
    books.settle(customer, hold_id, RUB)
    limits.lift(
        subject="gift:all", window=Window.MONTH, reason=WHY, now=real_clock.now(),
        actor=Actor.operator(owner.id),
    )  # fmt: skip

    limit_alerts.write(now=real_clock.now())

    assert not Notice.objects.filter(user_id=owner.id).exists()


@pytest.mark.usefixtures("_common_budget")
def test_owners_are_told_of_the_common_budget() -> None:
    owner = factories.operator("owner")
    SpendLimit.objects.filter(subject="gift:all").update(limit_micro_rub=RUB)
    customer = uuid7()
    books.credit(customer, RUB)
    hold_id = books.held(customer, RUB, limits=[books.limit("gift:all", 10**15, "month")])
    books.settle(customer, hold_id, RUB)

    limit_alerts.write(now=real_clock.now())

    notice = Notice.objects.get(user_id=owner.id)
    assert (notice.facts["mark"], notice.facts["whose"]) == (100, "gift")
    send_notice(notice_id=str(notice.pk))
    (letter,) = [sent for sent in mail.outbox if sent.to == [owner.email]]
    assert letter.subject == "Бюджет подарков останавливает запросы"


@pytest.mark.parametrize(
    ("code", "facts", "said", "topup"),
    [
        (
            "spend_limit_reached",
            {"subject_kind": "user", "window": "day", "limit_micro_rub": 300 * RUB, "used_micro_rub": RUB},
            "Не помещается в лимит на день: 300,00 ₽, занято 1,00 ₽. Новый день начнётся в 00:00 по Москве."
            " Лимит можно изменить в кошельке.",
            False,
        ),
        (
            "spend_limit_reached",
            {"subject_kind": "organisation", "window": "day", "limit_micro_rub": RUB, "used_micro_rub": RUB},
            "Не помещается в лимит на день: 1,00 ₽, занято 1,00 ₽. Новый день начнётся в 00:00 по Москве."
            " Это лимит вашей организации, его делят все участники.",
            False,
        ),
        (
            "spend_limit_reached",
            {"subject_kind": "gift", "window": "hour"},
            "Подаренные деньги на это время потрачены. Счёт начнётся сначала с новым часом."
            " Или пополните баланс.",
            True,
        ),
        (
            "request_limit_exceeded",
            {"limit_micro_rub": RUB, "needed_micro_rub": 2 * RUB},
            "Запрос может стоить до 2,00 ₽, ваш лимит на запрос 1,00 ₽. Деньги не тронуты. Выберите модель"
            " дешевле или измените лимит в кошельке.",
            False,
        ),
        (
            "spending_blocked",
            {},
            "Траты на этом аккаунте остановлены. Деньги на месте. Напишите в поддержку:"
            " причина записана у нас.",
            False,
        ),
    ],
)
def test_chat_says_which_limit_and_what_to_do(
    code: str, facts: dict[str, Any], said: str, topup: bool
) -> None:
    error = PlyrumError(**facts)
    error.code = code  # type: ignore[misc]

    told = words.refusal(error)

    assert f"{told['title']} {told['text']}".replace(NBSP, " ") == said
    assert told["topup"] is topup
