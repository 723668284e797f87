"""Operators' acts in the back office: forms that say what will happen, for the right roles, once a click."""

import re
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import localdate
from pytest_django import Settings

from accounts.models import User
from auditlog.actors import Actor
from billing import acts, queries
from billing.acts import Asking
from billing.models import EntryType, Hold, LotKind, OperatorRequest
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.playground.runs import make_run

NBSP = "\u00a0"
ABOVE = 100_001 * RUB


@pytest.fixture
def operator(client: Client) -> User:
    """A finance operator who is signed in to the back office."""
    found = factories.operator("finance")
    client.force_login(found)
    return found


@pytest.fixture
def customer() -> UUID:
    return factories.customer().id


def wallet_page(customer: UUID) -> str:
    return f"/admin/billing/wallet/{customer}/"


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode().replace(NBSP, " ")


def send(client: Client, address: str, **fields: Any) -> str:
    """What the operator reads after the button."""
    form = {
        "_form_submitted": "True",
        "reason": "Жалоба клиента",
        "ticket": "T-1",
        "key": str(uuid7()),
        **fields,
    }
    answer = client.post(address, form, follow=True)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode().replace(NBSP, " "))


def charged_run(user: User) -> UUID:
    """A finished run that cost 2 roubles of 10."""
    books.credit(user.id, 10 * RUB)
    hold_id = books.held(user.id, 3 * RUB)
    books.settle(user.id, hold_id, 2 * RUB)
    make_run(user, id=hold_id, cost_micro_rub=2 * RUB)
    return hold_id


def asked(customer: UUID, maker: User, amount: int = ABOVE) -> OperatorRequest:
    """A request that waits for a second person."""
    asking = Asking("Сбой у провайдера", "T-9", str(uuid7()), clock.now(), Actor.operator(maker.id))
    return acts.credit(customer_id=customer, amount_micro_rub=amount, asking=asking).request


def request_page(request: OperatorRequest) -> str:
    return f"/admin/billing/operatorrequest/{request.id}/"


# --- wallet ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_form_says_what_there_is_and_what_the_limits_are(client: Client, customer: UUID) -> None:
    books.credit(customer, 7 * RUB)

    shown = page(client, wallet_page(customer) + "give/")

    for words in ("7,00 ₽", "500 000,00 ₽", "50 000,00 ₽", "Начислить деньги", 'name="key" value="'):
        assert words in shown


def test_money_is_given_to_the_kopeck(client: Client, operator: User, customer: UUID) -> None:
    told = send(client, wallet_page(customer) + "give/", amount="1 500,50")

    assert "Начислено 1 500,50 ₽." in told
    (entry,) = books.entries(customer)
    assert entry.signed_micro_rub == 1_500_500_000
    row = OperatorRequest.objects.get(ledger_entry_id=entry.id)
    assert (row.maker_id, row.reason, row.ticket) == (operator.id, "Жалоба клиента", "T-1")
    assert f"/admin/billing/operatorrequest/{row.id}/change/" in page(
        client, f"/admin/billing/ledgerentry/{entry.id}/change/"
    )


@pytest.mark.usefixtures("operator")
def test_form_sent_twice_is_one_act(client: Client, customer: UUID) -> None:
    address = wallet_page(customer) + "give/"
    found = re.search(r'name="key" value="([^"]+)"', page(client, address))
    assert found is not None

    send(client, address, amount="5", key=found[1])
    send(client, address, amount="5", key=found[1])
    told = send(client, address, amount="6", key=found[1])

    assert books.wallet(customer).balance_micro_rub == 5 * RUB
    assert "Эта форма уже отправлена с другими данными." in told


@pytest.mark.usefixtures("operator")
def test_two_opened_forms_are_two_acts(client: Client, customer: UUID) -> None:
    address = wallet_page(customer) + "give/"
    keys = {re.findall(r'name="key" value="([^"]+)"', page(client, address))[0] for _ in range(2)}

    assert len(keys) == 2


@pytest.mark.usefixtures("operator")
def test_money_is_taken_and_no_more_than_there_is(client: Client, customer: UUID) -> None:
    books.credit(customer, 10 * RUB)
    address = wallet_page(customer) + "take/"

    assert "Списано 4,00 ₽." in send(client, address, amount="4")
    assert "На балансе меньше, чем нужно списать." in send(client, address, amount="7")

    assert books.wallet(customer).balance_micro_rub == 6 * RUB
    books.assert_right(customer)


@pytest.mark.usefixtures("operator")
def test_bonus_has_a_last_day_or_none(client: Client, customer: UUID) -> None:
    address = wallet_page(customer) + "bonus/"

    send(client, address, amount="3", last_day=localdate().isoformat())
    send(client, address, amount="4")

    dated, endless = books.lots(customer)
    assert (dated.kind, endless.kind, endless.expires_at) == (LotKind.BONUS, LotKind.BONUS, None)
    assert dated.expires_at is not None
    assert dated.expires_at > clock.now()
    assert (OperatorRequest.objects.filter(customer_id=customer).count()) == 2


@pytest.mark.parametrize(
    ("act", "fields", "words"),
    [
        ("give", {"amount": "0"}, "больше нуля"),
        ("give", {"amount": "-5"}, "Введите сумму в рублях"),
        ("give", {"amount": "1,505"}, "Введите сумму в рублях"),
        ("give", {"amount": "1e3"}, "Введите сумму в рублях"),
        ("give", {"amount": "1000000,01"}, "не больше"),
        ("take", {"amount": "1000001"}, "не больше"),
        ("give", {"amount": "5", "reason": "девять зн "}, 'name="reason"'),
        ("give", {"amount": "5", "reason": "я" * 301}, 'name="reason"'),
        ("give", {"amount": "5", "key": ""}, 'name="key"'),
        ("give", {"amount": "5", "ticket": "a\x00b"}, 'name="ticket"'),
        ("bonus", {"amount": "5", "last_day": "2020-01-01"}, "Выберите день"),
        ("bonus", {"amount": "5", "last_day": "9999-12-31"}, "Выберите день"),
        ("bonus", {"amount": "5", "last_day": "завтра"}, 'name="last_day"'),
    ],
)
@pytest.mark.usefixtures("operator")
def test_wrong_forms_are_shown_again(
    client: Client, customer: UUID, act: str, fields: dict[str, str], words: str
) -> None:
    told = send(client, wallet_page(customer) + act + "/", **fields)

    assert words in told
    assert books.entries(customer) == []


@pytest.mark.usefixtures("operator")
def test_dispute_of_a_payment_is_booked_once(client: Client, customer: UUID) -> None:
    payment_id = books.topped_up(customer, 10 * RUB)
    books.spend(customer, 4 * RUB)
    address = wallet_page(customer) + "dispute/"
    form = {"payment_id": payment_id, "dispute_id": f"D-{payment_id}", "amount": "10"}

    assert "Платёж был на 10,00 ₽." in send(client, address, **form | {"amount": "10,01"})
    assert "нет такого зачисленного платежа" in send(client, address, **form | {"payment_id": uuid7()})
    stranger = wallet_page(factories.customer().id) + "dispute/"
    assert "нет такого зачисленного платежа" in send(client, stranger, **form)
    assert "Опротестование на 10,00 ₽ проведено." in send(client, address, **form)
    assert "Этот спор уже проведён." in send(client, address, **form)
    assert "проведён с другими данными" in send(client, address, **form | {"amount": "9"})

    assert (books.wallet(customer).balance_micro_rub, queries.debt(customer)) == (0, 4 * RUB)
    books.assert_right(customer)


def test_own_wallet_is_refused_in_words(client: Client, operator: User) -> None:
    told = send(client, wallet_page(operator.id) + "give/", amount="5")

    assert "Со своим кошельком этого делать нельзя" in told
    assert books.entries(operator.id) == []


@pytest.mark.parametrize(
    ("role", "may"),
    [("support", False), ("catalogue", False), ("security", False), ("finance", True), ("owner", True)],
)
def test_role_decides_about_every_button(client: Client, role: str, may: bool) -> None:
    user = factories.customer()
    run_id = charged_run(user)
    hold_id = books.held(user.id, RUB)
    request = asked(user.id, factories.operator())
    client.force_login(factories.operator(role))

    for address in (
        *(wallet_page(user.id) + act for act in ("give/", "take/", "bonus/", "dispute/")),
        f"/admin/orchestration/run/{run_id}/reverse/",
        f"/admin/billing/hold/{hold_id}/release/",
        *(request_page(request) + act for act in ("approve/", "refuse/")),
    ):
        assert client.get(address).status_code == (200 if may else 403), address
    buttons = page(client, wallet_page(user.id) + "change/")
    assert (wallet_page(user.id) + "give/" in buttons) is may
    books.settle(user.id, hold_id, 0)


def test_forms_of_other_sites_are_refused(operator: User, customer: UUID) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    form = {"_form_submitted": "True", "reason": "Жалоба клиента", "key": str(uuid7()), "amount": "5"}

    assert client.post(wallet_page(customer) + "give/", form).status_code == 403
    assert books.entries(customer) == []


@pytest.mark.parametrize(
    "address",
    [
        "billing/wallet/x/give/",
        "billing/hold/x/release/",
        "orchestration/run/x/reverse/",
        "billing/operatorrequest/x/approve/",
    ],
)
@pytest.mark.usefixtures("operator")
def test_ids_that_are_none_are_missing_pages(client: Client, address: str) -> None:
    assert client.get(f"/admin/{address}").status_code == 404


# --- runs and holds ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_charge_is_taken_back_and_everybody_sees_it(client: Client) -> None:
    user = factories.customer()
    run_id = charged_run(user)
    address = f"/admin/orchestration/run/{run_id}/"
    assert "2,00 ₽" in page(client, address + "reverse/")

    told = send(client, address + "reverse/")

    reversal = books.entries(user.id)[-1]
    assert (reversal.type, reversal.signed_micro_rub) == (EntryType.REVERSAL, 2 * RUB)
    assert "клиенту вернулось 2,00 ₽." in told
    assert f"/admin/billing/ledgerentry/{reversal.id}/change/" in told
    assert address + "reverse/" not in told  # nothing is left to take back
    assert client.get(address + "reverse/").status_code == 403

    client.force_login(user)
    why = reverse("run_why", args=[run_id])
    assert "Списание отменено, деньги вернулись" in page(client, why)
    statement = page(client, "/app/wallet")
    assert statement.count(why) == 2  # the charge and its reversal
    assert "Отмена списания" in statement
    books.assert_right(user.id)


@pytest.mark.usefixtures("operator")
def test_run_without_a_charge_has_no_button(client: Client) -> None:
    run = make_run(factories.customer(), cost_micro_rub=0)
    address = f"/admin/orchestration/run/{run.id}/"

    assert address + "reverse/" not in page(client, address + "change/")


@pytest.mark.usefixtures("operator")
def test_stuck_hold_is_released(client: Client) -> None:
    user = factories.customer()
    books.credit(user.id, 10 * RUB)
    hold_id = books.held(user.id, 4 * RUB)
    run = make_run(user, id=hold_id, state="running", finished_at=None, cost_micro_rub=0)
    address = f"/admin/billing/hold/{hold_id}/"
    assert "4,00 ₽" in page(client, address + "release/")

    assert "Запуск ещё идёт" in send(client, address + "release/")
    assert books.status(hold_id) == Hold.Status.OPEN

    run.state, run.finished_at = "failed", clock.now()
    run.save(update_fields=["state", "finished_at"])
    told = send(client, address + "release/")
    assert "Резерв снят." in told
    assert address + "release/" not in told
    assert books.status(hold_id) == Hold.Status.RELEASED
    listed = page(client, f"/admin/billing/operatorrequest/?q={user.id}")
    assert "снятие резерва" in listed
    assert "4,00 ₽" in listed


# --- the second person -------------------------------------------------------------------------------------


def test_above_the_limit_two_people_are_needed(client: Client, operator: User, customer: UUID) -> None:
    told = send(client, wallet_page(customer) + "give/", amount="100001")
    assert "ждёт второго человека" in told
    request = OperatorRequest.objects.get(customer_id=customer)
    assert "Запросы ждут второго человека" in page(client, "/admin/")
    assert request_page(request) + "approve/" not in page(client, request_page(request) + "change/")
    assert client.get(request_page(request) + "approve/").status_code == 403

    second = factories.operator("owner")
    client.force_login(second)
    assert request_page(request) + "approve/" in page(client, request_page(request) + "change/")
    dialog = page(client, request_page(request) + "approve/")
    for words in ("+100 001,00 ₽", "Жалоба клиента", "T-1", operator.email, request.sha256):
        assert words in dialog
    told = send(client, request_page(request) + "approve/", sha256=request.sha256)

    assert "Одобрено и выполнено." in told
    assert books.wallet(customer).balance_micro_rub == ABOVE
    assert OperatorRequest.objects.get(pk=request.pk).checker_id == second.id


def test_only_what_was_shown_is_approved(client: Client, customer: UUID) -> None:
    request = asked(customer, factories.operator())
    client.force_login(factories.operator())

    told = send(client, request_page(request) + "approve/", sha256="0" * 64)

    assert "Запрос не тот, что был показан." in told
    assert books.entries(customer) == []


@pytest.mark.usefixtures("operator")
def test_request_is_refused_with_a_reason(client: Client, customer: UUID) -> None:
    request = asked(customer, factories.operator())

    send(client, request_page(request) + "refuse/", sha256=request.sha256, reason="")
    assert OperatorRequest.objects.get(pk=request.pk).state == "waiting"
    told = send(client, request_page(request) + "refuse/", sha256=request.sha256, reason="Чека так и нет")

    assert "Запрос отклонён." in told
    assert "Чека так и нет" in told
    assert books.entries(customer) == []


@pytest.mark.usefixtures("operator")
def test_requests_are_listed_searched_and_never_edited(client: Client, customer: UUID) -> None:
    request = asked(customer, factories.operator())
    row = request_page(request) + "change/"
    assert "(&#x27;waiting&#x27;" not in page(client, row)

    for query in (f"q={customer}", "q=T-9", f"q={request.id}", "state__exact=waiting"):
        assert row in page(client, f"/admin/billing/operatorrequest/?{query}")
    assert row not in page(client, "/admin/billing/operatorrequest/?state__exact=refused")
    assert client.get("/admin/billing/operatorrequest/add/").status_code == 403
    assert client.post(row, {"state": "done"}).status_code == 403
    assert client.post(request_page(request) + "delete/", {"post": "yes"}).status_code == 403


def test_bonus_that_waits_shows_its_end(
    client: Client, operator: User, customer: UUID, settings: Settings
) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 0
    send(client, wallet_page(customer) + "bonus/", amount="3", last_day=localdate().isoformat())
    request = OperatorRequest.objects.get(customer_id=customer)
    client.force_login(factories.operator())

    assert "Действует до" in page(client, request_page(request) + "approve/")
    assert request.maker_id == operator.id
