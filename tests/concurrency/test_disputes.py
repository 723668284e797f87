"""A dispute that is told twice at once is booked once, and only the first teller hears that it is new."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing import ledger, queries
from billing.shapes import ChargedBack
from plyrum import clock
from tests.billing import books
from tests.concurrency.connections import wait_until_blocked


@pytest.mark.parametrize(
    ("is_locked", "second_is_new"), [(True, False), (False, True)], ids=["lock", "control"]
)
def test_second_teller_hears_that_it_is_known(
    monkeypatch: pytest.MonkeyPatch, is_locked: bool, second_is_new: bool
) -> None:
    """Nothing is free, so that no row of the wallet is changed on which the second would wait anyway."""
    if not is_locked:
        monkeypatch.setattr(ledger, "lock", lambda customers: None)
    customer = books.funded(10)
    hold = books.held(customer, 10)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first = charge_back(customer)
            second = pool.submit(charge_back_elsewhere, customer)
            wait_until_blocked(second, connection.connection.info.backend_pid)
        assert first == ChargedBack(True, 0, 15)
        assert second.result(timeout=30) == ChargedBack(second_is_new, 0, 15)

    assert queries.debt(customer) == 15
    books.settle(customer, hold, 0)
    books.assert_right(customer)


def charge_back(customer: UUID) -> ChargedBack:
    """The bank takes 15, the customer has 10 that a running request holds."""
    return ledger.charge_back(
        customer_id=customer,
        payment_id=customer,
        dispute_id=str(customer),
        amount_micro_rub=15,
        effective_at=clock.now(),
    )


def charge_back_elsewhere(customer: UUID) -> ChargedBack:
    try:
        with transaction.atomic():
            return charge_back(customer)
    finally:
        connection.close()
