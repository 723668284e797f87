"""The pages of API keys in HTML: made once, shown once, changed, revoked; asked for with a fresh password."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.formats import date_format

from accounts import api_keys
from accounts.models import ApiKey, User
from auditlog.actors import Actor
from billing import key_views, limits
from billing.limit_models import Window
from billing.models import UsageEvent
from plyrum import clock
from tests import factories
from tests.billing import books
from tests.billing.books import RUB

NBSP = "\u00a0"
KEY = re.compile(r"plk_[0-9a-z]{12}_[0-9A-Za-z]{49}")


@pytest.fixture
def customer(client: Client) -> User:
    """Signed in, but not with a fresh password."""
    found = factories.customer()
    client.force_login(found)
    return found


@pytest.fixture
def fresh(client: Client, customer: User) -> User:
    """Has just typed the password again."""
    answer = client.post("/reauthenticate?next=/app/keys/new", {"password": factories.PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/app/keys/new")
    return customer


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.status_code
    assert "no-store" in answer["Cache-Control"]
    return answer.content.decode().replace(NBSP, " ")


def wish(**fields: Any) -> dict[str, Any]:
    return {"name": "Сервер", "month_limit": "", "idempotency_key": str(uuid4()), **fields}


@pytest.mark.parametrize("method", ["get", "post"])
def test_stale_session_makes_no_key(client: Client, customer: User, method: str) -> None:
    answer = client.get("/app/keys/new") if method == "get" else client.post("/app/keys/new", wish())

    assert (answer.status_code, answer["Location"]) == (302, "/reauthenticate?next=%2Fapp%2Fkeys%2Fnew")
    assert not ApiKey.objects.filter(user=customer).exists()


def test_visitor_is_sent_to_sign_in(client: Client) -> None:
    for path in ("/app/keys", "/app/keys/new", f"/app/keys/{uuid4()}"):
        assert client.get(path)["Location"].startswith("/login")


def test_key_is_shown_once(client: Client, fresh: User) -> None:
    form = wish(
        month_limit="300,50", models=["sandbox/small"], ip_allow="203.0.113.7\n2001:db8::/32",
        expires_on=f"{clock.day_of(clock.now()) + timedelta(days=30)}",
    )  # fmt: skip

    made = client.post("/app/keys/new", form)

    told = made.content.decode()
    (text,) = set(KEY.findall(told))
    assert (made.status_code, "no-store" in made["Cache-Control"]) == (200, True)
    assert f"PLYRUM_API_KEY={text}" in told
    row = ApiKey.objects.get(user=fresh)
    assert (row.name, row.models, row.ip_allow) == (
        "Сервер", ["sandbox/small"], ["2001:db8::/32", "203.0.113.7/32"],
    )  # fmt: skip
    assert row.expires_at == clock.start_of(clock.day_of(clock.now()) + timedelta(days=31))
    again = client.post("/app/keys/new", form, follow=True)
    listed = page(client, "/app/keys")
    assert "был показан один раз" in again.content.decode()
    assert not KEY.search(again.content.decode() + listed + page(client, f"/app/keys/{row.pk}"))
    assert row.prefix in listed
    shown = date_format(clock.day_of(clock.now()) + timedelta(days=30), "j E Y")
    for told in (listed, page(client, f"/app/keys/{row.pk}")):
        assert "Действует по" in told  # as the form says it
        assert shown in told
    assert "0 ₽ из 300,50 ₽" in listed
    assert ApiKey.objects.filter(user=fresh).count() == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": ""}, "Обязательное поле"),
        ({"name": "a\nb"}, "в одну строку"),
        ({"month_limit": "много"}, "Введите сумму в рублях"),
        ({"ip_allow": "localhost"}, "localhost: это не адрес"),
        ({"ip_allow": "\n".join(f"203.0.113.{n}" for n in range(101))}, "Адресов не больше"),
        ({"expires_on": "2020-01-01"}, "Выберите день"),
        ({"expires_on": "9999-12-31"}, "Выберите день"),
        ({"models": ["nobody/nothing"]}, "nobody/nothing"),
    ],
)
def test_wrong_field_is_named_and_nothing_is_lost(
    client: Client, fresh: User, wrong: dict[str, Any], said: str
) -> None:
    answer = client.post("/app/keys/new", wish(**{"name": "Ноутбук", **wrong}))

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not ApiKey.objects.filter(user=fresh).exists()


def test_form_opens_empty_and_sent_again_with_other_fields_makes_no_second_key(
    client: Client, fresh: User
) -> None:
    assert 'name="month_limit"' in page(client, "/app/keys/new")
    form = wish()
    client.post("/app/keys/new", form)

    again = client.post("/app/keys/new", {**form, "name": "Другой"}, follow=True)

    assert again.redirect_chain == [("/app/keys", 302)]
    assert "Этот ключ уже создан" in again.content.decode()
    assert [row.name for row in ApiKey.objects.filter(user=fresh)] == ["Сервер"]


def test_too_many_keys_are_told(client: Client, fresh: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_ALIVE", 1)
    factories.api_key(fresh)

    answer = client.post("/app/keys/new", wish())

    assert answer.status_code == 409
    assert "Отзовите ненужный" in answer.content.decode()


def test_name_and_limit_are_changed(client: Client, customer: User) -> None:
    row, _ = factories.api_key(customer, month_limit_micro_rub=5 * RUB)

    changed = client.post(f"/app/keys/{row.pk}/change", {"name": "Другой", "month_limit": "7"}, follow=True)
    wrong = client.post(f"/app/keys/{row.pk}/change", {"name": "Третий", "month_limit": "x"})

    told = changed.content.decode().replace(NBSP, " ")
    assert "Изменения сохранены" in told
    assert "0 ₽ из 7,00 ₽" in told
    assert wrong.status_code == 422
    assert ApiKey.objects.get(pk=row.pk).name == "Другой"
    client.post(f"/app/keys/{row.pk}/change", {"name": "Другой", "month_limit": ""})
    assert "Лимита у ключа нет" in page(client, f"/app/keys/{row.pk}")


def test_revoked_key_is_listed_apart(client: Client, customer: User) -> None:
    row, _ = factories.api_key(customer, name="Старый")
    factories.api_key(customer, name="Новый")

    done = client.post(f"/app/keys/{row.pk}/revoke", follow=True)

    told = done.content.decode()
    assert "Ключ «Старый» отозван" in told
    works, _, ended = told.partition("Отозванные и просроченные")
    assert f"/app/keys/{row.pk}" in ended
    assert f"/app/keys/{row.pk}" not in works
    assert "Отозвать" not in page(client, f"/app/keys/{row.pk}")
    late = client.post(f"/app/keys/{row.pk}/change", {"name": "Поздно", "month_limit": ""}, follow=True)
    assert "изменить его нельзя" in late.content.decode()


def test_stranger_finds_nothing(client: Client, customer: User) -> None:
    foreign, _ = factories.api_key(factories.stranger(), name="Чужой")

    assert client.get(f"/app/keys/{foreign.pk}").status_code == 404
    for act in ("change", "revoke"):
        assert client.post(f"/app/keys/{foreign.pk}/{act}", {"name": "Мой"}).status_code == 404
    assert "Чужой" not in page(client, "/app/keys")
    assert ApiKey.objects.get(pk=foreign.pk).revoked_at is None


def test_empty_page_shows_the_first_step(client: Client, customer: User) -> None:
    told = page(client, "/app/keys")

    assert "Ключей пока нет" in told
    assert "curl http" in told
    assert "/app/keys/new" in told


def test_all_live_keys_are_listed_however_many_ended(
    client: Client, customer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_views, "MOST_ENDED", 1)
    oldest, _ = factories.api_key(customer)
    ended = [factories.api_key(customer)[0] for _ in range(3)]
    for row in ended:
        api_keys.revoke(key_id=row.pk, now=clock.now(), actor=Actor.customer(customer.pk))

    told = page(client, "/app/keys")

    assert f"/app/keys/{oldest.pk}" in told
    assert [str(row.pk) in told for row in ended] == [False, False, True]


def test_usage_names_the_key(client: Client, customer: User) -> None:
    row, _ = factories.api_key(customer, name="Ночной <отчёт>")
    books.credit(customer.id, 10 * RUB)
    hold_id = books.held(customer.id, RUB)
    books.settle(
        customer.id, hold_id, RUB, usage=[books.usage_row(RUB, run_id=hold_id) | {"api_key_id": row.pk}]
    )
    found = UsageEvent.objects.get(api_key_id=row.pk)

    assert "ключ Ночной &lt;отчёт&gt;" in page(client, "/app/usage")
    assert "1,00 ₽" in page(client, "/app/keys")
    client.force_login(factories.operator())
    told = client.get(f"/admin/billing/usageevent/{found.pk}/change/").content.decode()
    assert f"/admin/accounts/apikey/{row.pk}/change/" in told
    assert "Ночной &lt;отчёт&gt;" in told


def test_catalogue_is_asked_once_however_many_keys(client: Client, customer: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client, "/app/keys")
        return len(asked)

    factories.api_key(customer, models=("sandbox/small",))
    page(client, "/app/keys")  # whatever is read once is known now
    one = queries()
    for _ in range(4):
        factories.api_key(customer, models=("sandbox/small", "sandbox/large"))

    assert queries() == one


def test_limit_of_support_and_ones_own_are_both_shown(client: Client, customer: User) -> None:
    operator = Actor.operator(factories.operator().id)
    row, _ = factories.api_key(customer, month_limit_micro_rub=300 * RUB)
    bare, _ = factories.api_key(customer)
    facts: dict[str, Any] = {
        "window": Window.MONTH,
        "reason": "Проверка расходов",
        "now": clock.now(),
        "actor": operator,
    }
    for key in (row, bare):
        limits.set_limit(subject=f"key:{key.pk}", limit_micro_rub=40 * RUB, **facts)

    listed, told = page(client, "/app/keys"), page(client, f"/app/keys/{row.pk}")

    assert listed.count("0 ₽ из 40,00 ₽") == 2
    assert "лимит поддержки, ваш 300,00 ₽" in listed
    assert "0 ₽ из 40,00 ₽" in told
    assert "Вы поставили 300,00 ₽" in told
    assert 'value="300"' in told
    assert "Этот лимит поставила поддержка" in page(client, f"/app/keys/{bare.pk}")
    for key in (row, bare):
        limits.lift(subject=f"key:{key.pk}", **facts)
    assert "ваш лимит 300,00 ₽ снят до конца месяца" in page(client, "/app/keys")
    assert "Ваш лимит 300,00 ₽ снят поддержкой" in page(client, f"/app/keys/{row.pk}")
    assert "Лимита у ключа нет" in page(client, f"/app/keys/{bare.pk}")
