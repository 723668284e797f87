"""The back office of payments: everyone of the right role may look, one button asks, nothing is edited."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from auditlog.models import AuditEvent
from payments import inbox
from payments.models import Payment
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import RUB, Shop, balance, open_payment, told

PAYMENTS = "/admin/payments/payment/"
EVENTS = "/admin/payments/webhookevent/"


@pytest.fixture
def finance(client: Client) -> User:
    """An operator of the finance role, signed in to the back office."""
    operator = factories.operator("finance")
    client.force_login(operator)
    return operator


def ask(client: Client, payment: Payment, reason: str = "case 12") -> int:
    form = {"_form_submitted": "True", "reason": reason}
    return client.post(f"{PAYMENTS}{payment.id}/ask/", form).status_code


@pytest.mark.usefixtures("finance")
def test_lists_searches_and_pages_open(client: Client) -> None:
    user = factories.customer()
    payment = open_payment(user)
    event_id = inbox.store(notification=told(payment), raw_body=b"{}", source_ip="", now=clock.now())

    for page in (PAYMENTS, EVENTS):
        assert client.get(page).status_code == 200
        assert client.get(page, {"q": "anna@example.test"}).status_code == 200
    for wanted in (payment.id, user.id, payment.provider_payment_id, user.email):
        assert str(payment.id) in client.get(PAYMENTS, {"q": str(wanted)}).content.decode()
    shown = client.get(f"{PAYMENTS}{payment.id}/change/").content.decode()
    assert f"/admin/accounts/user/{user.id}/change/" in shown
    assert client.get(f"{EVENTS}{event_id}/change/").status_code == 200


def test_the_button_asks_the_provider_and_leaves_a_journal_entry(
    client: Client, finance: User, shop: Shop
) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    assert ask(client, payment) == 302

    assert balance(user) == 500 * RUB
    entry = AuditEvent.objects.get(subject=f"payment:{payment.id}", action="payments.payment.asked")
    assert (entry.actor_kind, entry.actor_id) == ("operator", str(finance.id))
    assert entry.data["reason"] == "case 12"


@pytest.mark.usefixtures("finance")
def test_a_reason_is_required(client: Client, shop: Shop) -> None:
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    ask(client, payment, reason="")

    assert balance(user) == 0


@pytest.mark.usefixtures("finance")
def test_asking_about_nothing_is_a_missing_page(client: Client) -> None:
    for wanted in (uuid7(), "not-an-id"):
        form = {"_form_submitted": "True", "reason": "case 13"}
        assert client.post(f"{PAYMENTS}{wanted}/ask/", form).status_code in (302, 404)


@pytest.mark.usefixtures("finance")
def test_silence_of_the_provider_is_told_in_the_operators_language(
    client: Client, settings: Settings
) -> None:
    payment = open_payment(factories.customer())
    settings.YOOKASSA_API_BASE_URL = "http://127.0.0.1:1/v3"  # nobody listens
    form = {"_form_submitted": "True", "reason": "case 14"}

    page = client.post(f"{PAYMENTS}{payment.id}/ask/", form, follow=True)

    assert "ЮKassa сейчас не отвечает." in page.content.decode()


def test_looking_is_not_asking(client: Client, shop: Shop) -> None:
    client.force_login(factories.operator("support"))
    user = factories.customer()
    payment = open_payment(user)
    shop.pay(payment)

    assert client.get(f"{PAYMENTS}{payment.id}/change/").status_code == 200
    assert ask(client, payment) in (302, 403)
    assert balance(user) == 0


def test_other_roles_and_customers_stay_outside(client: Client) -> None:
    payment = open_payment(factories.customer())
    for person in (factories.operator("catalogue"), factories.customer()):
        client.force_login(person)
        assert client.get(PAYMENTS).status_code in (302, 403)
        assert ask(client, payment) in (302, 403)


@pytest.mark.usefixtures("finance")
def test_nothing_can_be_added_changed_or_deleted(client: Client) -> None:
    payment = open_payment(factories.customer())

    assert client.get(f"{PAYMENTS}add/").status_code == 403
    assert client.post(f"{PAYMENTS}{payment.id}/change/", {"status": "succeeded"}).status_code == 403
    assert client.post(f"{PAYMENTS}{payment.id}/delete/", {"post": "yes"}).status_code == 403
    assert Payment.objects.filter(pk=payment.pk, status="pending").exists()
