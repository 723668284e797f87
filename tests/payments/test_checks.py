"""The launch checks of payments: each is silent when all is right and names its own fault when it is not."""

import pytest
from pytest_django import Settings

from payments import checks


@pytest.fixture(autouse=True)
def _ready_to_launch(settings: Settings) -> None:
    settings.IS_PRODUCTION = True
    settings.PAYMENTS_LIVE = True
    settings.PAYMENTS_PROVIDER = "yookassa"
    settings.YOOKASSA_SHOP_ID, settings.YOOKASSA_SECRET_KEY = "123456", "live_key"


def found() -> list[str]:
    return [str(message.id) for message in checks.payments_can_be_taken()]


def test_a_shop_that_is_ready_raises_nothing() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "check_id"),
    [
        ({"YOOKASSA_SHOP_ID": ""}, "payments.E001"),
        ({"YOOKASSA_SECRET_KEY": ""}, "payments.E001"),
        ({"PAYMENTS_LIVE": False}, "payments.E002"),
        ({"YOOKASSA_SECRET_KEY": "test_key"}, "payments.E003"),
        ({"PAYMENTS_PROVIDER": "mock", "PAYMENTS_MOCK_WEBHOOK_SECRET": ""}, "payments.E004"),
        ({"YOOKASSA_VAT_CODE": 13}, "payments.E005"),
        ({"YOOKASSA_TAX_SYSTEM_CODE": 7}, "payments.E005"),
        ({"PAYMENTS_MIN_TOPUP_RUB": 0}, "payments.E006"),
        ({"PAYMENTS_MIN_TOPUP_RUB": 200_000}, "payments.E006"),
    ],
)
def test_each_fault_has_its_check(settings: Settings, changes: dict[str, object], check_id: str) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    assert found() == [check_id]


def test_without_a_provider_only_the_common_rules_hold(settings: Settings) -> None:
    settings.PAYMENTS_PROVIDER = ""
    settings.YOOKASSA_SHOP_ID = settings.YOOKASSA_SECRET_KEY = ""

    assert found() == []
