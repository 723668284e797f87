"""Words about a payment: every reason has its own, unknown ones promise nothing false."""

import pytest

from payments import words
from payments.models import Payment
from plyrum import clock


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("insufficient_funds", "не хватило денег"),
        ("card_expired", "не принял данные карты"),
        ("invalid_csc", "не принял данные карты"),
        ("3d_secure_failed", "введите код"),
        ("expired_on_confirmation", "Деньги не списаны"),
        ("general_decline", "СБП обычно помогает"),
        ("country_forbidden", "российского банка"),
        ("permission_revoked", "Автопополнение выключено"),
        ("internal_timeout", "Банк не ответил"),
        ("invented_in_2030", "Банк не ответил"),
    ],
)
def test_a_reason_is_told_in_words_with_a_next_step(reason: str, part: str) -> None:
    assert part in str(words.cancellation(reason))


def test_fraud_is_never_named_to_the_payer() -> None:
    assert str(words.cancellation("fraud_suspected")) == str(words.cancellation("general_decline"))


def test_a_payment_told_of_before_its_page_was_known_has_a_story() -> None:
    payment = Payment(status="pending", created_at=clock.now())

    assert [item["state"] for item in words.timeline(payment)] == ["done", "now"]


def test_a_method_that_we_do_not_know_keeps_its_own_name() -> None:
    assert str(words.method("bank_card")) == "Банковская карта"
    assert str(words.method("new_pay")) == "new_pay"
