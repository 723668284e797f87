"""Shared by the tests of money."""

from tests.billing.fixtures import clock, owner

__all__ = ["clock", "owner"]
