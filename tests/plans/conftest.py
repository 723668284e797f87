"""Shared by the tests of plans."""

from tests.accounts.conftest import address, client
from tests.billing.fixtures import _price, clock, owner
from tests.plans.world import withdrawn

__all__ = ["_price", "address", "client", "clock", "owner", "withdrawn"]
