"""Shared by the tests of money."""

from tests.billing.damaging import damage, kept
from tests.billing.fixtures import clock, owner

__all__ = ["clock", "damage", "kept", "owner"]
