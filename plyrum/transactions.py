"""Transactions: functions that move money or write the journal demand one instead of opening it."""

from django.db import connection


def require_transaction() -> None:
    """Raise if the caller has no open transaction: its rows would not stand or fall together."""
    if not connection.in_atomic_block:
        raise RuntimeError("This function must run inside the caller's transaction.")
