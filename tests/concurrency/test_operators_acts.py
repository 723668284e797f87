"""Double clicks and two approvals at once: the act happens once. The controls leave the defence out."""

import threading
from collections import Counter
from uuid import UUID

import pytest
from django.db import transaction

from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import acts, ledger
from billing.acts import Asked, Asking
from billing.errors import OperatorRequestClosed
from billing.models import OperatorRequest
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.payments.shop import at_once

CALLERS = 8
ABOVE = 100_001 * RUB


def asking(key: str) -> Asking:
    return Asking(
        reason="Гонка операторов",
        ticket="",
        key=key,
        now=clock.now(),
        actor=Actor.operator(factories.operator().id),
    )


@pytest.fixture
def customer() -> UUID:
    return factories.customer().id


@pytest.fixture
def request_(customer: UUID) -> OperatorRequest:
    """A request that waits for a second person."""
    asked = acts.credit(customer_id=customer, amount_micro_rub=ABOVE, asking=asking(str(uuid7())))
    return asked.request


def faults(found: list[object], *expected: type[Exception]) -> list[object]:
    return [one for one in found if isinstance(one, Exception) and not isinstance(one, expected)]


@pytest.mark.parametrize("amount", [5 * RUB, ABOVE], ids=["done at once", "waits"])
def test_clicks_at_once_are_one_act(customer: UUID, amount: int) -> None:
    key = str(uuid7())

    def click() -> Asked:
        return acts.credit(customer_id=customer, amount_micro_rub=amount, asking=asking(key))

    found = at_once([click] * CALLERS)

    assert not faults(found)
    assert Counter(one.is_replay for one in found) == {False: 1, True: CALLERS - 1}
    assert len({one.request.id for one in found}) == 1
    assert len(books.entries(customer)) == (amount < ABOVE)
    assert AuditEvent.objects.filter(target_user_id=customer, action__startswith="billing.").count() == 1
    books.assert_right(customer)


def test_approvals_at_once_carry_out_once(customer: UUID, request_: OperatorRequest) -> None:
    def approve() -> OperatorRequest:
        checker = Actor.operator(factories.operator().id)
        return acts.approve(request_id=request_.id, sha256=request_.sha256, now=clock.now(), actor=checker)

    found = at_once([approve] * CALLERS)

    assert not faults(found, OperatorRequestClosed)
    assert sum(isinstance(one, OperatorRequest) for one in found) == 1
    assert [entry.signed_micro_rub for entry in books.entries(customer)] == [ABOVE]
    assert AuditEvent.objects.filter(subject=f"request:{request_.id}").count() == 2
    books.assert_right(customer)


def test_approval_and_refusal_at_once_leave_one_decision(customer: UUID, request_: OperatorRequest) -> None:
    def approve() -> OperatorRequest:
        checker = Actor.operator(factories.operator().id)
        return acts.approve(request_id=request_.id, sha256=request_.sha256, now=clock.now(), actor=checker)

    def refuse() -> OperatorRequest:
        return acts.refuse(
            request_id=request_.id,
            reason="Не подтвердилось",
            now=clock.now(),
            actor=Actor.operator(factories.operator().id),
        )

    found = at_once([approve, refuse] * 4)

    assert not faults(found, OperatorRequestClosed)
    (decided,) = [one for one in found if isinstance(one, OperatorRequest)]
    assert len(books.entries(customer)) == (decided.state == "done")
    assert OperatorRequest.objects.get(pk=request_.pk).state == decided.state


def test_without_the_lock_two_approvals_are_both_carried_out(
    customer: UUID, request_: OperatorRequest
) -> None:
    """The control: look at the state, then act, as if no row lock kept the second one waiting."""
    both_have_looked = threading.Barrier(2)

    def careless() -> None:
        with transaction.atomic():
            found = OperatorRequest.objects.get(pk=request_.pk)
            both_have_looked.wait(60)
            if found.state == "waiting":
                ledger.adjust(
                    entry_id=uuid7(),
                    customer_id=customer,
                    amount_micro_rub=ABOVE,
                    key=f"control-{uuid7()}",
                    source_id=str(request_.id),
                )

    assert not faults(at_once([careless, careless]))

    assert len(books.entries(customer)) == 2


def test_without_the_key_clicks_at_once_are_many_acts(customer: UUID) -> None:
    """The control: a key of its own for each click."""

    def click() -> Asked:
        return acts.credit(customer_id=customer, amount_micro_rub=RUB, asking=asking(str(uuid7())))

    assert not faults(at_once([click] * 4))

    assert books.wallet(customer).balance_micro_rub == 4 * RUB


def test_reversals_at_once_return_the_money_once(customer: UUID) -> None:
    books.credit(customer, 10 * RUB)
    run_id = books.held(customer, 3 * RUB)
    books.settle(customer, run_id, 2 * RUB)

    def reverse() -> Asked:
        return acts.reverse_run(run_id=run_id, asking=asking(str(uuid7())))

    found = at_once([reverse] * CALLERS)

    assert sum(isinstance(one, Asked) for one in found) == 1
    assert books.wallet(customer).balance_micro_rub == 10 * RUB
    assert OperatorRequest.objects.filter(customer_id=customer).count() == 1
    books.assert_right(customer)
