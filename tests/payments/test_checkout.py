"""The checkout: what is stored before the provider is called, what each failure of that call means."""

from datetime import datetime, timedelta
from secrets import randbelow

import orjson
import pytest
from django.db import IntegrityError
from pytest_django import Settings

from accounts.models import User
from auditlog.models import AuditEvent
from billing.errors import IdempotencyMismatch
from legal.errors import TermsOutdated
from legal.models import Acceptance, DocumentVersion
from payments import checkout, mock, refresh, yookassa
from payments.checkout import Checkout
from payments.errors import (
    AmountOutOfRange,
    OutcomeUnknown,
    PaymentsNotConfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from payments.models import Payment
from payments.sweep import ACTOR
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import ORIGIN, RUB, Shop, at_once, balance, open_payment, order


def start(
    user: User, rub: int = 500, *, key: str = "", now: datetime | None = None, offer: int | None = None
) -> Checkout:
    return checkout.checkout(
        customer_id=user.id,
        order=order(user, rub, offer_version=offer),
        key=key,
        origin=ORIGIN,
        now=now or clock.now(),
    )


def only_payment(user: User) -> Payment:
    return Payment.objects.get(customer_id=user.id)


def test_a_checkout_opens_a_payment_and_credits_nothing(shop: Shop) -> None:
    user = factories.customer()

    payment = start(user, 500).payment

    (remote,) = shop.payments_of(user)
    assert payment.provider_payment_id == remote["id"]
    assert payment.confirmation_url == remote["confirmation"]["confirmation_url"]
    assert (payment.status, payment.amount_micro_rub) == ("pending", 500 * RUB)
    assert payment.expires_at is not None
    assert timedelta(minutes=59) < payment.expires_at - payment.created_at < timedelta(minutes=61)
    assert balance(user) == 0


def test_the_call_carries_the_receipt_our_id_and_no_personal_data_in_the_description(shop: Shop) -> None:
    user = factories.customer()

    payment = start(user, 1500).payment

    (remote,) = shop.payments_of(user)
    body = orjson.loads(payment.request_body)
    assert remote["metadata"] == {"payment_id": str(payment.id)}
    assert user.email not in remote["description"]
    assert body["capture"] is True
    assert body["receipt"]["customer"] == {"email": user.email}
    assert body["receipt"]["items"][0]["amount"] == {"value": "1500.00", "currency": "RUB"}
    assert body["confirmation"]["return_url"].endswith(f"/app/topup/{payment.id}")


def test_the_tax_system_is_sent_only_when_it_is_set(settings: Settings) -> None:
    settings.YOOKASSA_TAX_SYSTEM_CODE, settings.YOOKASSA_VAT_CODE = 2, 11

    receipt = orjson.loads(start(factories.customer()).payment.request_body)["receipt"]

    assert (receipt["tax_system_code"], receipt["items"][0]["vat_code"]) == (2, 11)


def test_the_acceptance_and_what_was_shown_are_stored_with_the_order() -> None:
    user = factories.customer()

    payment = start(user).payment

    acceptance = Acceptance.objects.get(pk=payment.acceptance_id)
    assert (acceptance.act, acceptance.order_id, acceptance.user_id) == ("checkout", payment.id, user.id)
    started = AuditEvent.objects.get(subject=f"payment:{payment.id}", action="payments.checkout.started")
    assert started.data["offer"]["sha256"] == acceptance.sha256
    assert set(started.data) >= {"refund_rules", "price_version_id", "screen", "locale", "currency"}


def test_an_order_needs_an_offer_accepted_before_or_named_now() -> None:
    user = User.objects.create(email=factories.unique_email())

    with pytest.raises(TermsOutdated) as refused:
        start(user)

    assert refused.value.extra["document"] == "offer"
    assert not Payment.objects.filter(customer_id=user.id).exists()
    assert start(user, offer=refused.value.extra["version"]).payment.status == "pending"


def test_a_newer_offer_is_never_accepted_unseen() -> None:
    user = factories.customer()
    newer = publish_in_the_future()
    later = newer.effective_from + timedelta(seconds=1)

    for offer in (None, newer.number - 1):
        with pytest.raises(TermsOutdated) as refused:
            start(user, now=later, offer=offer)
        assert refused.value.extra["version"] == newer.number
        assert refused.value.extra["version_id"] == str(newer.id)

    payment = start(user, now=later, offer=newer.number).payment
    assert Acceptance.objects.get(pk=payment.acceptance_id).version_id == newer.id


@pytest.mark.parametrize("rub", [-1, 0, 99, 100_001, 10**15])
def test_a_sum_outside_the_limits_is_refused_and_nothing_is_stored(rub: int) -> None:
    user = factories.customer()

    with pytest.raises(AmountOutOfRange) as refused:
        start(user, rub)

    assert (refused.value.extra["min_rub"], refused.value.extra["max_rub"]) == (100, 100_000)
    assert not Payment.objects.filter(customer_id=user.id).exists()


@pytest.mark.parametrize("rub", [100, 100_000])
def test_both_limits_themselves_are_taken(rub: int) -> None:
    assert start(factories.customer(), rub).payment.amount_micro_rub == rub * RUB


@pytest.mark.parametrize(("provider", "shop_id"), [("", "900001"), ("disabled", "900001"), ("yookassa", "")])
def test_without_a_provider_nothing_can_be_paid(settings: Settings, provider: str, shop_id: str) -> None:
    settings.PAYMENTS_PROVIDER, settings.YOOKASSA_SHOP_ID = provider, shop_id

    with pytest.raises(PaymentsNotConfigured):
        start(factories.customer())


def test_the_same_key_answers_the_first_payment(shop: Shop) -> None:
    user = factories.customer()

    first, second = start(user, key="k-1"), start(user, key="k-1")

    assert (first.is_replay, second.is_replay) == (False, True)
    assert first.payment.id == second.payment.id
    assert len(shop.payments_of(user)) == 1


def test_the_same_key_for_another_order_is_refused() -> None:
    user = factories.customer()
    start(user, 500, key="k-2")

    with pytest.raises(IdempotencyMismatch):
        start(user, 501, key="k-2")


def test_one_key_of_two_customers_is_two_keys() -> None:
    one, other = factories.customer(), factories.customer()

    assert start(one, key="k-3").payment.id != start(other, key="k-3").payment.id


def test_parallel_calls_with_one_key_make_one_payment(shop: Shop) -> None:
    user = factories.customer()

    results = at_once([lambda: start(user, key="k-4")] * 8)

    assert len({result.payment.id for result in results}) == 1
    assert sorted(result.is_replay for result in results) == [False] + [True] * 7
    assert len(shop.payments_of(user)) == 1


@pytest.mark.parametrize("effect", ["500_after_execution", "cut_after_execution"])
def test_an_answer_lost_after_execution_never_makes_a_second_payment(shop: Shop, effect: str) -> None:
    user = factories.customer()
    shop.spoil_create(user, effect)

    with pytest.raises(OutcomeUnknown) as unknown:
        start(user, key="k-5")
    payment = only_payment(user)
    assert payment.status == Payment.Status.UNKNOWN
    assert unknown.value.extra == {"payment_id": str(payment.id)}
    (remote,) = shop.payments_of(user)

    again = start(user, key="k-5")

    assert again.is_replay
    assert again.payment.provider_payment_id == remote["id"]
    assert again.payment.status == Payment.Status.PENDING
    assert len(shop.payments_of(user)) == 1


def test_a_call_that_takes_too_long_is_an_unknown_outcome(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = factories.customer()
    shop.spoil_create(user, "slow")
    with monkeypatch.context() as hurried:
        hurried.setattr(yookassa, "READ_TIMEOUT_SECONDS", 0.2)
        with pytest.raises(OutcomeUnknown):
            start(user)

    payment = refresh.refresh(payment_id=only_payment(user).id, now=clock.now(), actor=ACTOR)

    assert payment.status == Payment.Status.PENDING
    assert len(shop.payments_of(user)) == 1


@pytest.mark.parametrize("effect", ["500", "503_html"])
def test_a_failure_without_execution_succeeds_when_it_is_repeated(shop: Shop, effect: str) -> None:
    user = factories.customer()
    shop.spoil_create(user, effect)
    with pytest.raises(OutcomeUnknown):
        start(user)
    assert shop.payments_of(user) == []

    payment = refresh.refresh(payment_id=only_payment(user).id, now=clock.now(), actor=ACTOR)

    assert payment.status == Payment.Status.PENDING
    assert len(shop.payments_of(user)) == 1


def test_a_busy_provider_leaves_the_order_to_be_sent_again(shop: Shop) -> None:
    user = factories.customer()
    shop.spoil_create(user, "429")

    with pytest.raises(ProviderUnavailable):
        start(user, key="k-6")

    assert only_payment(user).status == Payment.Status.CREATED
    assert start(user, key="k-6").payment.status == Payment.Status.PENDING


def test_a_provider_that_cannot_be_reached_has_done_nothing(settings: Settings) -> None:
    settings.YOOKASSA_API_BASE_URL = "http://127.0.0.1:9/v3"
    user = factories.customer()

    with pytest.raises(ProviderUnavailable):
        start(user)

    assert only_payment(user).status == Payment.Status.CREATED


def test_a_refusal_ends_the_payment_and_frees_the_key(shop: Shop, settings: Settings) -> None:
    user = factories.customer()
    right, settings.YOOKASSA_SECRET_KEY = settings.YOOKASSA_SECRET_KEY, "test_wrong"
    with pytest.raises(ProviderRefused):
        start(user, key="k-7")
    payment = only_payment(user)
    assert (payment.status, payment.cancellation_reason) == ("canceled", "provider_refused")

    settings.YOOKASSA_SECRET_KEY = right

    assert start(user, key="k-7").payment.status == Payment.Status.PENDING


def test_a_refused_repeat_does_not_prove_that_the_first_call_failed(shop: Shop, settings: Settings) -> None:
    user = factories.customer()
    shop.spoil_create(user, "500_after_execution")
    with pytest.raises(OutcomeUnknown):
        start(user, key="k-8")
    settings.YOOKASSA_SECRET_KEY = "test_wrong"

    with pytest.raises(OutcomeUnknown):
        start(user, key="k-8")

    assert only_payment(user).status == Payment.Status.UNKNOWN


def test_a_refusal_and_a_failed_search_leave_a_payment_alone_that_was_found_meanwhile() -> None:
    payment = open_payment(factories.customer())

    checkout._refused(payment_id=payment.id, detail="late", now=clock.now(), actor=ACTOR)
    refresh._never_made(payment_id=payment.id, now=clock.now(), actor=ACTOR)

    payment.refresh_from_db()
    assert payment.status == Payment.Status.PENDING


def test_a_row_that_the_database_refuses_is_no_replay(settings: Settings) -> None:
    settings.PAYMENTS_MIN_TOPUP_RUB = 0

    with pytest.raises(IntegrityError):
        start(factories.customer(), 0, key="k-9")


def test_the_mock_opens_a_payment_once(settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = "mock"
    payment = open_payment(factories.customer())

    again = mock.open_payment(payment_id=payment.id, now=clock.now())

    assert again.expires_at == payment.expires_at


def test_the_mock_provider_asks_nobody(shop: Shop, settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = "mock"
    user = factories.customer()

    payment = open_payment(user)

    assert (payment.provider, payment.status) == ("mock", "pending")
    assert payment.confirmation_url.endswith(str(payment.id))
    assert shop.payments_of(user) == []
    assert refresh.refresh(payment_id=payment.id, now=clock.now(), actor=ACTOR).status == "pending"


def publish_in_the_future() -> DocumentVersion:
    """An offer in force in a far year, so that no other test meets it."""
    current = DocumentVersion.objects.of_kind("offer").public().filter(document__locale="ru").latest("number")
    moment = clock.now() + timedelta(days=36_500, seconds=randbelow(10**9))
    return DocumentVersion.objects.create(
        id=uuid7(),
        document=current.document,
        number=current.number + 1,
        status=DocumentVersion.Status.PUBLISHED,
        title=current.title,
        text=current.text,
        sha256=current.sha256,
        effective_from=moment,
        published_at=clock.now(),
        created_at=clock.now(),
    )
