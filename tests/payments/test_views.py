"""The payment pages: the form leads to the provider, the status page shows our state and believes nobody."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from billing import policies
from legal import documents
from payments import refresh, sweep
from payments.models import Payment
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories, throttles
from tests.payments.shop import RUB, Shop, balance, open_payment

TOPUP = "/app/topup"


@pytest.fixture
def user(client: Client) -> User:
    """A customer who is signed in."""
    found = factories.customer()
    client.force_login(found)
    return found


def form(user: User, **changes: Any) -> dict[str, Any]:
    filled = {
        "preset": "500",
        "amount_rub": "",
        "receipt_email": user.email,
        "accept_offer": "on",
        "offer_version": documents.current("offer", at=clock.now()).number,
        "idempotency_key": str(uuid4()),
    }
    return filled | changes


def page_of(payment: Payment) -> str:
    return f"{TOPUP}/{payment.id}"


def test_the_form_offers_sums_within_the_limits(client: Client, user: User, settings: Settings) -> None:
    settings.PAYMENTS_MIN_TOPUP_RUB = 400

    answer = client.get(TOPUP)

    assert answer.status_code == 200
    assert [row["value"] for row in answer.context["presets"]] == [500, 1000, 3000]
    assert all(row["note"].startswith("≈ ") for row in answer.context["presets"])
    assert answer.context["receipt_email"] == user.email
    assert answer.context["offer"]["version"] >= 1
    assert answer.context["vat_note"] == "Без НДС"
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_filled_form_leads_to_the_page_of_the_provider(client: Client, user: User, shop: Shop) -> None:
    answer = client.post(TOPUP, form(user))

    (remote,) = shop.payments_of(user)
    assert answer.status_code == 302
    assert answer.headers["Location"] == remote["confirmation"]["confirmation_url"]
    assert remote["amount"]["value"] == "500.00"
    assert balance(user) == 0


@pytest.mark.parametrize(
    ("preset", "own", "rub"),
    [("own", "750", 750), ("", "750", 750), ("own", "1\u00a0250", 1250), ("own", " 1 000 ", 1000)],
)
def test_an_own_sum_is_read_as_people_write_it(
    client: Client, user: User, preset: str, own: str, rub: int
) -> None:
    client.post(TOPUP, form(user, preset=preset, amount_rub=own))

    assert Payment.objects.get(customer_id=user.id).amount_micro_rub == rub * RUB


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preset": "own", "amount_rub": ""}, "amount_rub"),
        ({"preset": "own", "amount_rub": "99"}, "amount_rub"),
        ({"preset": "own", "amount_rub": "100001"}, "amount_rub"),
        ({"preset": "own", "amount_rub": "10,50"}, "amount_rub"),
        ({"preset": "own", "amount_rub": "1e3"}, "amount_rub"),
        ({"preset": "own", "amount_rub": "-500"}, "amount_rub"),
        ({"preset": "own", "amount_rub": "٥٠٠"}, "amount_rub"),
        ({"preset": "50"}, "amount_rub"),
        ({"preset": "x" * 50}, "amount_rub"),
        ({"receipt_email": ""}, "receipt_email"),
        ({"receipt_email": "nobody"}, "receipt_email"),
        ({"accept_offer": ""}, "accept_offer"),
    ],
)
def test_a_wrong_field_is_said_beside_it_and_nothing_is_stored(
    client: Client, user: User, changes: dict[str, str], field: str
) -> None:
    filled = form(user, **changes)

    answer = client.post(TOPUP, filled)

    assert answer.status_code == 422
    assert set(answer.context["errors"]) - {"preset"} == {field}
    assert str(answer.context["idempotency_key"]) == filled["idempotency_key"]
    assert not Payment.objects.filter(customer_id=user.id).exists()


def test_too_many_orders_in_a_row_are_told_to_wait(client: Client, user: User, settings: Settings) -> None:
    settings.PLYRUM_ENFORCE_REQUEST_RATES = True
    throttles.drain(policies.of(user.id, now=clock.now()).rates[0], str(user.id))
    filled = form(user)

    answer = client.post(TOPUP, filled)

    assert (answer.status_code, answer.context["error"]["code"]) == (429, "rate_limited")
    assert str(answer.context["idempotency_key"]) == filled["idempotency_key"]
    assert not Payment.objects.filter(customer_id=user.id).exists()


def test_a_broken_key_is_replaced_and_the_form_sent_again(client: Client, user: User) -> None:
    answer = client.post(TOPUP, form(user, idempotency_key="broken"))

    assert answer.status_code == 422
    assert answer.context["error"] is not None
    again = form(user, idempotency_key=str(answer.context["idempotency_key"]))
    assert client.post(TOPUP, again).status_code == 302


def test_a_form_sent_twice_is_one_payment(client: Client, user: User, shop: Shop) -> None:
    filled = form(user)

    first, second = client.post(TOPUP, filled), client.post(TOPUP, filled)

    assert first.headers["Location"] == second.headers["Location"]
    assert len(shop.payments_of(user)) == 1


def test_a_form_with_another_sum_is_another_payment(client: Client, user: User, shop: Shop) -> None:
    filled = form(user)
    client.post(TOPUP, filled)

    assert client.post(TOPUP, filled | {"preset": "1000"}).status_code == 302
    assert len(shop.payments_of(user)) == 2


def test_an_offer_that_changed_meanwhile_is_shown_again(client: Client, user: User) -> None:
    seen_before = documents.current("offer", at=clock.now()).number + 1_000

    answer = client.post(TOPUP, form(user, offer_version=seen_before))

    assert answer.status_code == 409
    assert (answer.context["replaced_offer"], answer.context["accepted"]) == (True, False)
    assert not Payment.objects.filter(customer_id=user.id).exists()


@pytest.mark.parametrize("effect", ["500_after_execution", "429"])
def test_an_unclear_answer_leads_to_the_status_page_not_to_an_error(
    client: Client, user: User, shop: Shop, effect: str
) -> None:
    shop.spoil_create(user, effect)

    answer = client.post(TOPUP, form(user))

    payment = Payment.objects.get(customer_id=user.id)
    assert answer.headers["Location"] == page_of(payment)
    page = client.get(page_of(payment))
    assert page.context["payment"]["status"] == "created"
    assert page.context["poll_seconds"] == 2


def test_a_refusal_says_that_no_money_was_taken(client: Client, user: User, settings: Settings) -> None:
    settings.YOOKASSA_SECRET_KEY = "test_wrong"

    answer = client.post(TOPUP, form(user))

    assert answer.status_code == 503
    assert "Деньги не списаны" in answer.context["error"]["text"]


def test_without_a_provider_the_page_says_so(client: Client, user: User, settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = ""

    assert client.get(TOPUP).context["configured"] is False
    assert client.post(TOPUP, form(user)).status_code == 200
    assert not Payment.objects.filter(customer_id=user.id).exists()


@pytest.mark.usefixtures("user")
def test_without_an_offer_in_force_nothing_is_sold(client: Client) -> None:
    with time_machine.travel(datetime(2000, 1, 1, tzinfo=UTC)):
        assert client.get(TOPUP).status_code == 503


def test_a_form_sent_again_after_paying_shows_the_payment(client: Client, user: User, shop: Shop) -> None:
    filled = form(user)
    client.post(TOPUP, filled)
    payment = Payment.objects.get(customer_id=user.id)
    shop.pay(payment)
    refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    assert client.post(TOPUP, filled).headers["Location"] == page_of(payment)


def test_coming_back_from_the_provider_credits_nothing(client: Client, user: User, shop: Shop) -> None:
    payment = open_payment(user)
    shop.pay(payment)

    answer = client.get(page_of(payment), {"status": "succeeded", "payment_id": str(payment.id)})

    assert answer.context["payment"]["status"] == "pending"
    assert 'class="balance-chip"' in answer.content.decode()
    assert balance(user) == 0


def test_the_page_of_a_paid_payment_shows_the_balance_and_stops_asking(
    client: Client, user: User, shop: Shop
) -> None:
    payment = open_payment(user)
    shop.pay(payment)
    refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    answer = client.get(page_of(payment))

    assert answer.context["payment"]["status"] == "succeeded"
    assert answer.context["poll_seconds"] is None
    assert [row["state"] for row in answer.context["timeline"]] == ["done"] * 4
    state = client.get(f"{page_of(payment)}/state").content.decode()
    assert "Банк подтвердил оплату" in state, "the story comes with the state"
    assert 'hx-swap-oob="outerHTML:[data-balance]">500,00\xa0₽<' in state, "and the balance of the header"


def test_the_page_of_a_declined_payment_says_what_to_do(client: Client, user: User, shop: Shop) -> None:
    payment = open_payment(user)
    shop.decline(payment, "insufficient_funds")
    refresh.refresh(payment_id=payment.id, now=clock.now(), actor=sweep.ACTOR)

    answer = client.get(page_of(payment))

    assert "не хватило денег" in answer.content.decode()
    assert answer.context["timeline"][-1]["state"] == "bad"


@pytest.mark.parametrize(
    ("status", "last"), [("review", "attention"), ("created", "now"), ("unknown", "now"), ("pending", "now")]
)
def test_every_other_state_has_its_page(client: Client, user: User, status: str, last: str) -> None:
    payment = open_payment(user)
    Payment.objects.filter(pk=payment.pk).update(status=status)

    answer = client.get(page_of(payment))

    assert answer.status_code == 200
    assert answer.context["timeline"][-1]["state"] == last


@pytest.mark.parametrize("status", ["partially_refunded", "refunded"])
def test_a_refunded_payment_has_its_page(client: Client, user: User, status: str) -> None:
    payment = open_payment(user)
    Payment.objects.filter(pk=payment.pk).update(status=status, succeeded_at=clock.now())

    assert client.get(page_of(payment)).context["payment"]["status"] == status


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [("0", 2), ("1", 2), ("2", 3), ("6", 20), ("7", 30), ("26", 30), ("27", None), ("x", 2), ("-1", 2)],
)
def test_the_fragment_asks_ever_more_seldom_and_then_no_more(
    client: Client, user: User, attempt: str, seconds: int | None
) -> None:
    payment = open_payment(user)

    answer = client.get(f"{page_of(payment)}/state", {"attempt": attempt})

    assert answer.context["poll_seconds"] == seconds
    assert answer.context["poll_url"].startswith(f"{page_of(payment)}/state?attempt=")
    assert "<html" not in answer.content.decode()


def test_the_check_button_asks_the_provider(client: Client, user: User, shop: Shop) -> None:
    payment = open_payment(user)
    shop.pay(payment)

    answer = client.post(f"{page_of(payment)}/check")

    assert answer.headers["Location"] == page_of(payment)
    assert balance(user) == 500 * RUB


def test_the_check_button_rests_for_ten_seconds(client: Client, user: User, shop: Shop) -> None:
    payment = open_payment(user)
    client.post(f"{page_of(payment)}/check")
    shop.pay(payment)

    client.post(f"{page_of(payment)}/check")

    assert balance(user) == 0
    assert client.get(page_of(payment)).context["checked_recently"] is True
    Payment.objects.filter(pk=payment.pk).update(checked_at=clock.now() - timedelta(seconds=11))
    assert client.get(page_of(payment)).context["checked_recently"] is False
    client.post(f"{page_of(payment)}/check")
    assert balance(user) == 500 * RUB


def test_a_silent_provider_is_told_without_alarm(client: Client, user: User, settings: Settings) -> None:
    payment = open_payment(user)
    settings.YOOKASSA_API_BASE_URL = "http://127.0.0.1:9/v3"

    answer = client.post(f"{page_of(payment)}/check", follow=True)

    assert [str(message) for message in answer.context["messages"]] == [
        "ЮKassa сейчас не отвечает. Проверим ещё раз сами: деньги не теряются."
    ]


def test_the_list_pages_through_own_payments(client: Client, user: User) -> None:
    first = open_payment(user, 100)
    Payment.objects.bulk_create(
        Payment(
            customer_id=user.id,
            provider="mock",
            provider_payment_id=f"mock_{uuid7().hex}",
            amount_micro_rub=RUB,
            receipt_email=user.email,
            acceptance_id=first.acceptance_id,
            created_at=clock.now(),
            updated_at=clock.now(),
        )
        for _number in range(20)
    )

    newest = client.get(reverse("payments"))
    older = client.get(newest.context["next_url"])

    assert len(newest.context["payments"]) == 20
    assert newest.context["first_url"] == ""
    assert [row["id"] for row in older.context["payments"]] == [first.id]
    assert (older.context["first_url"], older.context["next_url"]) == (reverse("payments"), "")


def test_the_list_without_payments_and_with_a_broken_cursor(client: Client, user: User) -> None:
    assert client.get(reverse("payments")).context["payments"] == []
    assert client.get(reverse("payments"), {"cursor": "broken"}).headers["Location"] == reverse("payments")


@pytest.mark.usefixtures("user")
def test_somebody_elses_payment_is_missing(client: Client, shop: Shop) -> None:
    owner = factories.stranger()
    payment = open_payment(owner)
    shop.pay(payment)
    for wanted in (payment.id, uuid7()):
        assert client.get(f"{TOPUP}/{wanted}").status_code == 404
        assert client.get(f"{TOPUP}/{wanted}/state").status_code == 404
        assert client.post(f"{TOPUP}/{wanted}/check").status_code == 404
    assert balance(owner) == 0


def test_visitors_are_led_to_the_sign_in(client: Client) -> None:
    payment = open_payment(factories.customer())
    for path in (TOPUP, page_of(payment), f"{page_of(payment)}/state", reverse("payments")):
        assert client.get(path).headers["Location"].startswith("/login")
    assert client.post(f"{page_of(payment)}/check").headers["Location"].startswith("/login")


@pytest.mark.usefixtures("user")
def test_a_form_of_another_site_is_refused(user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)

    assert strict.post(TOPUP, form(user)).status_code == 403
    assert not Payment.objects.filter(customer_id=user.id).exists()


def test_the_wrong_methods_are_refused(client: Client, user: User) -> None:
    payment = open_payment(user)

    assert client.get(f"{page_of(payment)}/check").status_code == 405
    assert client.post(page_of(payment)).status_code == 405
    assert client.delete(TOPUP).status_code == 405
