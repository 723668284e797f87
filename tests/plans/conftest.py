"""Shared by the tests of plans."""

from tests.billing.fixtures import _price, clock, owner
from tests.plans.world import withdrawn

__all__ = ["_price", "clock", "owner", "withdrawn"]
