"""The outside of payments: one sandbox process, and settings that lead to it."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.billing.fixtures import clock as ledger_clock
from tests.billing.fixtures import owner
from tests.payments.shop import Shop
from tests.sandbox_process import SHOP, SandboxProcess

__all__ = ["ledger_clock", "owner"]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def shop(sandbox: SandboxProcess) -> Shop:
    """YooKassa as the payer and its scripts see it."""
    return Shop(sandbox)


@pytest.fixture(autouse=True)
def _pay_at_the_sandbox(settings: Settings, sandbox: SandboxProcess) -> None:
    settings.PAYMENTS_PROVIDER = "yookassa"
    settings.PAYMENTS_LIVE = False
    settings.YOOKASSA_API_BASE_URL = f"{sandbox.url}/yookassa/v3"
    settings.YOOKASSA_SHOP_ID, settings.YOOKASSA_SECRET_KEY = SHOP
