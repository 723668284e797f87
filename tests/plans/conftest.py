"""Shared by the tests of plans."""

from tests.billing.fixtures import _price, clock, owner

__all__ = ["_price", "clock", "owner"]
