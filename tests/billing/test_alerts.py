"""A letter when little is left: once per fall, armed again by a rise, asked for by API and on the site."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client

from accounts.models import Notice, User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import alerts, tasks
from billing.models import LotKind
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.concurrency.connections import client as client_of_database

PATH = "/api/account/alerts"
LOCK = "FOR UPDATE OF a SKIP LOCKED"


def ask(customer: UUID, micro_rub: int | None) -> None:
    actor = Actor.customer(customer)
    alerts.set_threshold(customer_id=customer, micro_rub=micro_rub, now=real_clock.now(), actor=actor)


def letters(customer: UUID) -> list[int]:
    """What was left when each letter was written, after one more look."""
    alerts.watch(now=real_clock.now())
    rows = Notice.objects.filter(user_id=customer, letter="balance_low").order_by("id")
    return [row.facts["left_micro_rub"] for row in rows]


def test_letter_comes_once_per_fall_below_the_sum() -> None:
    customer = factories.customer().id
    books.credit(customer, 100 * RUB)
    ask(customer, 50 * RUB)
    assert letters(customer) == []
    hold = books.held(customer, 90 * RUB)
    assert letters(customer) == []  # what is reserved may come back
    books.settle(customer, hold, 50 * RUB)
    assert letters(customer) == []  # not less than 50
    books.spend(customer, 1)
    once = [50 * RUB - 1]
    assert (letters(customer), letters(customer)) == (once, once)
    books.spend(customer, RUB)
    assert letters(customer) == once

    books.credit(customer, 1 * RUB + 1)
    assert letters(customer) == once
    books.spend(customer, 2 * RUB)
    assert letters(customer) == [*once, 48 * RUB]

    ask(customer, 50 * RUB)
    assert len(letters(customer)) == 2  # the same sum again is no news
    ask(customer, 49 * RUB)
    assert len(letters(customer)) == 3
    ask(customer, None)
    books.credit(customer, 100 * RUB)
    books.spend(customer, 140 * RUB)
    assert len(letters(customer)) == 3
    events = AuditEvent.objects.filter(action="billing.alert.set", target_user_id=customer)
    assert events.count() == 3


def test_money_whose_time_is_over_is_not_left() -> None:
    customer = factories.customer().id
    books.credit(customer, 100, kind=LotKind.BONUS, expires_at=books.in_seconds(-1))
    ask(customer, 10)

    assert letters(customer) == [0]


@pytest.mark.parametrize(("lock", "second_writes"), [(LOCK, []), ("", [0])], ids=["lock", "control"])
def test_second_worker_leaves_a_fall_to_the_first(
    monkeypatch: pytest.MonkeyPatch, lock: str, second_writes: list[int]
) -> None:
    monkeypatch.setattr(alerts, "CHANGED", alerts.CHANGED.replace(LOCK, lock))
    customer = factories.customer().id
    ask(customer, 10)

    with client_of_database() as first, first.transaction(force_rollback=True):  # as if it died
        first.execute(alerts.CHANGED.encode(), [alerts.BATCH])
        assert letters(customer) == second_writes

    assert letters(customer) == [0]


def test_job_watches_once_a_minute() -> None:
    customer, slot = factories.customer().id, str(uuid7())
    ask(customer, 10)

    assert (tasks.watch_balances(slot=slot), tasks.watch_balances(slot=slot)) == ("done", "skipped")

    assert Notice.objects.filter(key=f"balance_low:{customer}:1").count() == 1


@pytest.fixture
def customer(client: Client) -> User:
    """A customer who is signed in to the site."""
    user = factories.customer()
    client.force_login(user)
    return user


def test_sum_is_read_and_set_over_the_api(client: Client) -> None:
    caller, stranger = factories.customer(), factories.stranger()

    def put(body: str, user: User = caller) -> tuple[int, object]:
        answer = client.put(PATH, body, "application/json", headers=factories.bearer(user))
        return answer.status_code, answer.json().get("balance_below_micro_rub", answer.json().get("code"))

    def shown(user: User) -> object:
        return client.get(PATH, headers=factories.bearer(user)).json()

    assert shown(caller) == {"balance_below_micro_rub": None}
    assert put('{"balance_below_micro_rub": 1500000}') == (200, 1_500_000)
    assert shown(caller) == {"balance_below_micro_rub": 1_500_000}
    assert shown(stranger) == {"balance_below_micro_rub": None}
    for wrong in ("0", "-1", "1.5", '"5"', "true", str(10**15 + 1), '5, "other": 1'):
        assert put(f'{{"balance_below_micro_rub": {wrong}}}') == (422, "validation_failed")
    assert put("{}") == (422, "validation_failed")
    assert put('{"balance_below_micro_rub": null}') == (200, None)
    assert shown(caller) == {"balance_below_micro_rub": None}
    assert client.get(PATH).status_code == 401


def test_sum_is_set_on_the_wallets_page(client: Client, customer: User) -> None:
    assert client.post("/app/wallet/alert", {"below_rub": "1 500"}).status_code == 302
    assert alerts.threshold(customer.id) == 1_500 * RUB
    assert 'value="1500"' in client.get("/app/wallet").content.decode()

    for wrong in ("0", "-5", "1,5", "много", "9" * 30, "\u0665"):
        refused = client.post("/app/wallet/alert", {"below_rub": wrong})
        assert refused.status_code == 422
        assert "Укажите сумму целым числом рублей" in refused.content.decode()
    assert alerts.threshold(customer.id) == 1_500 * RUB

    said = client.post("/app/wallet/alert", {"below_rub": ""}, follow=True)
    assert "Письма об остатке отключены." in said.content.decode()
    assert alerts.threshold(customer.id) is None
    ask(customer.id, 1)
    assert 'value="1"' in client.get("/app/wallet").content.decode()  # rounded up: no sum becomes none
    assert client.get("/app/wallet/alert").status_code == 405


def test_wallet_says_for_how_long_the_money_lasts(client: Client, customer: User, clock: LedgerClock) -> None:
    assert "хватит, дней" not in client.get("/app/wallet").content.decode()
    clock.stand_at(real_clock.now() - timedelta(days=1))
    books.credit(customer.id, 37 * RUB)
    books.spend(customer.id, 7 * RUB)

    shown = client.get("/app/wallet").content.decode()

    assert "хватит, дней</dt><dd>30</dd>" in shown
