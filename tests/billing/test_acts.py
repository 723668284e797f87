"""Operators' acts: limits, reasons, keys, the second person, and what each leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from billing import acts, queries, tasks
from billing.acts import Asked, Asking
from billing.errors import (
    AlreadyDisputed,
    AlreadyReversed,
    ChargeNotFound,
    HoldClosed,
    HoldInUse,
    HoldNotFound,
    IdempotencyMismatch,
    InsufficientBalance,
    LedgerConflict,
    OperatorLimitExceeded,
    OperatorRequestChanged,
    OperatorRequestClosed,
    OperatorRequestNotFound,
    OwnWallet,
    SecondPersonRequired,
    TopUpNotFound,
)
from billing.models import EntryType, Hold, LotKind, OperatorRequest, Wallet
from plyrum import clock
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.playground.runs import make_run

MAKER, CHECKER = Actor.operator(uuid7()), Actor.operator(uuid7())  # owners: see `_people`
ABOVE = 100_001 * RUB


def asking(*, reason: str = "Жалоба клиента", key: str = "", actor: Actor = MAKER) -> Asking:
    return Asking(reason=reason, ticket="T-1", key=key or str(uuid7()), now=clock.now(), actor=actor)


def give(customer: UUID, amount: int = 5 * RUB, **facts: object) -> Asked:
    return acts.credit(customer_id=customer, amount_micro_rub=amount, asking=asking(**facts))  # type: ignore[arg-type]


def waiting(customer: UUID) -> OperatorRequest:
    found = give(customer, ABOVE).request
    assert found.state == "waiting"
    return found


def approve(request: OperatorRequest, actor: Actor = CHECKER, sha256: str = "") -> OperatorRequest:
    return acts.approve(request_id=request.id, sha256=sha256 or request.sha256, now=clock.now(), actor=actor)


def journal(request: OperatorRequest) -> list[tuple[str, str]]:
    """(action, who) of what was written down about a request."""
    rows = AuditEvent.objects.filter(subject=f"request:{request.id}").order_by("seq")
    return list(rows.values_list("action", "actor_id"))


@pytest.fixture(autouse=True, scope="module")
def _people(_database_for_all: None) -> None:
    for actor in (MAKER, CHECKER):
        User.objects.create(
            pk=actor.id, email=factories.unique_email("owner"), is_staff=True, role=User.Role.OWNER
        )


@pytest.fixture
def customer() -> UUID:
    return factories.customer().id


# --- giving and taking -------------------------------------------------------------------------------------


def test_credit_gives_money_that_never_expires_and_is_journalled(customer: UUID) -> None:
    asked = give(customer)

    (entry,) = books.entries(customer)
    (lot,) = books.lots(customer)
    assert (entry.type, entry.signed_micro_rub) == (EntryType.ADMIN_ADJUSTMENT, 5 * RUB)
    assert (entry.source_type, entry.source_id) == ("operator", str(asked.request.id))
    assert (lot.kind, lot.expires_at) == (LotKind.PURCHASED, None)
    assert (asked.request.state, asked.request.ledger_entry_id) == ("done", entry.id)
    assert (asked.request.checker_id, asked.is_replay) == (None, False)
    event = AuditEvent.objects.get(subject=f"request:{asked.request.id}")
    assert (event.action, event.actor_id) == ("billing.adjustment.done", MAKER.id)
    assert event.target_user_id == customer
    assert (event.data["reason"], event.data["ticket"]) == ("Жалоба клиента", "T-1")
    assert event.data["amount_micro_rub"] == 5 * RUB
    books.assert_right(customer)


def test_credit_makes_a_missing_wallet() -> None:
    user = User.objects.create(email=factories.unique_email(), created_at=clock.now())
    assert not Wallet.objects.filter(pk=user.id).exists()

    give(user.id)

    assert books.wallet(user.id).balance_micro_rub == 5 * RUB
    books.assert_right(user.id)


def test_adjustment_takes_what_is_free_and_no_more(customer: UUID) -> None:
    books.credit(customer, 10 * RUB)

    acts.adjust(customer_id=customer, amount_micro_rub=-4 * RUB, asking=asking())
    too_much = asking()
    with pytest.raises(InsufficientBalance):
        acts.adjust(customer_id=customer, amount_micro_rub=-7 * RUB, asking=too_much)

    assert books.wallet(customer).balance_micro_rub == 6 * RUB
    assert not OperatorRequest.objects.filter(key=too_much.key).exists()
    books.assert_right(customer)


def test_bonus_has_its_end(customer: UUID) -> None:
    end = clock.now() + timedelta(days=3)

    acts.give_bonus(customer_id=customer, amount_micro_rub=RUB, expires_at=end, asking=asking())
    acts.give_bonus(customer_id=customer, amount_micro_rub=RUB, expires_at=None, asking=asking())

    assert [(lot.kind, lot.expires_at) for lot in books.lots(customer)] == [
        (LotKind.BONUS, end),
        (LotKind.BONUS, None),
    ]
    books.assert_right(customer)


def test_bonus_that_is_over_is_refused(customer: UUID) -> None:
    with pytest.raises(InvalidRequest):
        acts.give_bonus(customer_id=customer, amount_micro_rub=RUB, expires_at=clock.now(), asking=asking())

    assert books.entries(customer) == []


@pytest.mark.parametrize(
    ("amount", "error"),
    [(0, InvalidRequest), (-RUB, InvalidRequest), (1_000_000 * RUB + 1, OperatorLimitExceeded)],
)
def test_amounts_outside_the_limits_are_refused(customer: UUID, amount: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        give(customer, amount)
    with pytest.raises(error):
        acts.give_bonus(customer_id=customer, amount_micro_rub=amount, expires_at=None, asking=asking())

    assert not OperatorRequest.objects.filter(customer_id=customer).exists()


def test_taking_has_the_same_limit(customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_CREDIT_MAX_RUB = 10
    books.credit(customer, 100 * RUB)

    with pytest.raises(OperatorLimitExceeded) as refused:
        acts.adjust(customer_id=customer, amount_micro_rub=-11 * RUB, asking=asking())

    assert refused.value.extra == {"role": "owner", "limit_micro_rub": 10 * RUB}
    acts.adjust(customer_id=customer, amount_micro_rub=-10 * RUB, asking=asking())


def test_roles_move_what_their_role_may(customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_CREDIT_MAX_RUB, settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 200, 100
    for role, most, alone in (("support", 2, 1), ("finance", 100, 50), ("owner", 200, 100)):
        actor = Actor.operator(factories.operator(role).id)
        with pytest.raises(OperatorLimitExceeded) as refused:
            give(customer, most * RUB + 1, actor=actor)
        assert refused.value.extra == {"role": role, "limit_micro_rub": most * RUB}
        states = [give(customer, rub, actor=actor).request.state for rub in (alone * RUB, 1, most * RUB)]
        assert states == ["done", "waiting", "waiting"]
    for role in ("catalogue", "security", ""):
        with pytest.raises(OperatorLimitExceeded):
            give(customer, 1, actor=Actor.operator(factories.operator(role).id))
    assert books.wallet(customer).balance_micro_rub == 151 * RUB


@pytest.mark.parametrize("reason", ["", " \n\t ", " девять зн ", "я" * 301])
def test_reason_says_something_and_is_never_cut(customer: UUID, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        give(customer, reason=reason)

    assert refused.value.extra["errors"] == [
        {"loc": ["body", "reason"], "msg": "Say why, in 10 to 300 characters.", "type": "value_error"}
    ]
    assert books.entries(customer) == []
    assert give(customer, reason=f" {'я' * 300} ").request.reason == "я" * 300


def test_nobody_acts_on_their_own_wallet() -> None:
    operator = factories.operator()
    own = Actor.operator(operator.id)

    with pytest.raises(OwnWallet):
        give(operator.id, actor=own)
    give(operator.id)

    assert books.wallet(operator.id).balance_micro_rub == 5 * RUB


def test_nobody_gets_nothing() -> None:
    with pytest.raises(UserNotFound):
        give(uuid7())


# --- one key, one act --------------------------------------------------------------------------------------


def test_repeated_key_is_one_act(customer: UUID) -> None:
    key = str(uuid7())
    first, again = give(customer, key=key), give(customer, key=key)

    assert (again.is_replay, again.request.id) == (True, first.request.id)
    assert len(books.entries(customer)) == 1
    assert len(journal(first.request)) == 1


def test_same_key_for_something_else_is_a_mismatch(customer: UUID) -> None:
    key = str(uuid7())
    give(customer, key=key)

    others: list[Callable[[], object]] = [
        lambda: give(customer, 6 * RUB, key=key),
        lambda: give(customer, key=key, reason="Другая причина"),
        lambda: give(factories.stranger().id, key=key),
        lambda: acts.give_bonus(
            customer_id=customer, amount_micro_rub=5 * RUB, expires_at=None, asking=asking(key=key)
        ),
    ]
    for other in others:
        with pytest.raises(IdempotencyMismatch):
            other()

    assert len(books.entries(customer)) == 1


# --- charges and holds -------------------------------------------------------------------------------------


def charged(customer: UUID, amount: int = 2 * RUB) -> UUID:
    """The id of a run that was charged."""
    books.credit(customer, 10 * RUB)
    hold = books.held(customer, 3 * RUB)
    books.settle(customer, hold, amount)
    return hold


def test_charge_of_a_run_is_taken_back_once(customer: UUID) -> None:
    run_id = charged(customer)

    asked = acts.reverse_run(run_id=run_id, asking=asking())
    with pytest.raises(AlreadyReversed):
        acts.reverse_run(run_id=run_id, asking=asking())

    assert books.entries(customer)[-1].type == EntryType.REVERSAL
    assert asked.request.amount_micro_rub == 2 * RUB
    assert books.wallet(customer).balance_micro_rub == 10 * RUB
    assert OperatorRequest.objects.filter(customer_id=customer).count() == 1
    books.assert_right(customer)


def test_run_without_a_charge_has_nothing_to_reverse(customer: UUID) -> None:
    with pytest.raises(ChargeNotFound):
        acts.reverse_run(run_id=uuid7(), asking=asking())


def test_stuck_hold_is_released_once(customer: UUID) -> None:
    books.credit(customer, 10 * RUB)
    hold_id = books.held(customer, 4 * RUB)

    acts.release_hold(hold_id=hold_id, asking=asking(key="release-" + str(hold_id)))
    again = acts.release_hold(hold_id=hold_id, asking=asking(key="release-" + str(hold_id)))
    with pytest.raises(HoldClosed):
        acts.release_hold(hold_id=hold_id, asking=asking())

    assert again.is_replay
    assert books.status(hold_id) == Hold.Status.RELEASED
    assert books.reserved(customer) == [0]
    books.assert_right(customer)


def test_hold_of_a_running_run_stays() -> None:
    user = factories.customer()
    books.credit(user.id, 10 * RUB)
    hold_id = books.held(user.id, 4 * RUB)
    run = make_run(user, id=hold_id, state="running", finished_at=None, cost_micro_rub=0)

    with pytest.raises(HoldInUse):
        acts.release_hold(hold_id=hold_id, asking=asking())
    assert books.status(hold_id) == Hold.Status.OPEN

    run.state, run.finished_at = "failed", clock.now()
    run.save(update_fields=["state", "finished_at"])
    acts.release_hold(hold_id=hold_id, asking=asking())
    assert books.status(hold_id) == Hold.Status.RELEASED


def test_missing_hold_is_not_found() -> None:
    with pytest.raises(HoldNotFound):
        acts.release_hold(hold_id=uuid7(), asking=asking())


def charge_back(
    customer: UUID, payment_id: UUID, amount: int = 10 * RUB, dispute: str = "", **facts: Any
) -> Asked:
    return acts.charge_back(
        customer_id=customer,
        payment_id=payment_id,
        dispute_id=dispute or f"D-{payment_id}",
        amount_micro_rub=amount,
        asking=asking(**facts),
    )


def test_dispute_takes_the_payment_back_once(customer: UUID) -> None:
    payment_id, key = books.topped_up(customer, 10 * RUB), str(uuid7())
    books.spend(customer, 3 * RUB)

    asked = charge_back(customer, payment_id, key=key)
    assert charge_back(customer, payment_id, key=key).is_replay
    with pytest.raises(AlreadyDisputed):
        charge_back(customer, payment_id)
    with pytest.raises(LedgerConflict):
        charge_back(customer, payment_id, 9 * RUB)

    assert (asked.request.state, asked.request.amount_micro_rub) == ("done", -10 * RUB)
    assert (books.wallet(customer).balance_micro_rub, queries.debt(customer)) == (0, 3 * RUB)
    assert OperatorRequest.objects.filter(customer_id=customer).count() == 1
    event = AuditEvent.objects.get(subject=f"request:{asked.request.id}")
    assert (event.action, event.data["payment_id"]) == ("billing.chargeback.done", str(payment_id))
    assert event.data["dispute_id"] == f"D-{payment_id}"
    books.assert_right(customer)


def test_dispute_is_of_a_paid_payment_of_this_customer_and_no_larger(
    customer: UUID, settings: Settings
) -> None:
    payment_id = books.topped_up(customer, 10 * RUB)
    for stranger in (factories.customer().id, uuid7()):
        with pytest.raises(TopUpNotFound):
            charge_back(stranger, payment_id)
    with pytest.raises(TopUpNotFound):
        charge_back(customer, uuid7())
    wrongs: list[dict[str, Any]] = [
        {"amount": 10 * RUB + 1},
        {"amount": 0},
        {"amount": -RUB},
        {"dispute": " "},
        {"dispute": "d" * 101},
    ]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest):
            charge_back(customer, payment_id, **wrong)
    settings.PLYRUM_ADMIN_CREDIT_MAX_RUB = 9
    with pytest.raises(OperatorLimitExceeded):
        charge_back(customer, payment_id)

    assert books.wallet(customer).balance_micro_rub == 10 * RUB
    assert not OperatorRequest.objects.filter(customer_id=customer).exists()


def test_large_dispute_needs_a_second_person_and_nobody_books_their_own(settings: Settings) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 1
    operator = factories.operator()
    payment_id = books.topped_up(operator.id, 10 * RUB)
    with pytest.raises(OwnWallet):
        charge_back(operator.id, payment_id, actor=Actor.operator(operator.id))

    request = charge_back(operator.id, payment_id).request
    assert (request.state, books.wallet(operator.id).balance_micro_rub) == ("waiting", 10 * RUB)

    assert approve(request).state == "done"
    assert (books.wallet(operator.id).balance_micro_rub, queries.debt(operator.id)) == (0, 0)


# --- the second person -------------------------------------------------------------------------------------


def test_above_the_limit_nothing_moves_before_a_second_person_agrees(customer: UUID) -> None:
    request = waiting(customer)
    assert books.entries(customer) == []

    done = approve(request)

    (entry,) = books.entries(customer)
    assert (entry.signed_micro_rub, done.ledger_entry_id) == (ABOVE, entry.id)
    assert (done.state, str(done.maker_id), str(done.checker_id)) == ("done", MAKER.id, CHECKER.id)
    assert journal(request) == [
        ("billing.request.made", MAKER.id),
        ("billing.adjustment.done", CHECKER.id),
    ]
    books.assert_right(customer)


def test_at_the_limit_one_person_is_enough(customer: UUID) -> None:
    assert (
        give(customer, 100_000 * RUB, actor=Actor.operator(factories.operator().id)).request.state == "done"
    )


def test_large_reversal_needs_a_second_person_too(customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 1
    run_id = charged(customer)

    request = acts.reverse_run(run_id=run_id, asking=asking()).request
    assert (request.state, len(books.entries(customer))) == ("waiting", 2)

    approve(request)
    assert books.wallet(customer).balance_micro_rub == 10 * RUB


def test_large_sum_in_small_parts_needs_a_second_person_too(customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 100
    maker, other = factories.operator(), factories.operator()
    now = clock.now()

    def give(who: User, rub: int, *, at: datetime = now) -> str:
        mine = replace(asking(actor=Actor.operator(who.id)), now=at)
        act = acts.credit(customer_id=customer, amount_micro_rub=rub * RUB, asking=mine)
        return str(act.request.state)

    assert [give(maker, 60), give(maker, 40), give(maker, 1)] == ["done", "done", "waiting"]
    assert give(other, 100) == "done"
    assert give(maker, 100, at=now + timedelta(days=1, seconds=1)) == "done"


def test_who_asked_does_not_decide(customer: UUID) -> None:
    request = waiting(customer)

    with pytest.raises(SecondPersonRequired):
        approve(request, MAKER)
    with pytest.raises(SecondPersonRequired):
        acts.refuse(request_id=request.id, reason="Не подтвердилось", now=clock.now(), actor=MAKER)

    assert books.entries(customer) == []


def test_whom_it_is_for_does_not_decide() -> None:
    operator = factories.operator()
    request = waiting(operator.id)

    with pytest.raises(OwnWallet):
        approve(request, Actor.operator(operator.id))

    assert books.entries(operator.id) == []


def test_second_click_of_the_same_person_changes_nothing(customer: UUID) -> None:
    request = waiting(customer)

    first, second = approve(request), approve(request)

    assert first.ledger_entry_id == second.ledger_entry_id
    assert len(books.entries(customer)) == 1
    with pytest.raises(OperatorRequestClosed):
        approve(request, Actor.operator(uuid7()))


def test_only_what_was_shown_can_be_approved(customer: UUID) -> None:
    request = waiting(customer)
    with pytest.raises(OperatorRequestChanged):
        approve(request, sha256="0" * 64)

    # Somebody with the database changes the amount: the hash no longer is that of the row.
    OperatorRequest.objects.filter(pk=request.pk).update(parameters={"amount_micro_rub": 2 * ABOVE})
    with pytest.raises(OperatorRequestChanged):
        approve(request)

    assert books.entries(customer) == []


def test_refused_request_is_over(customer: UUID) -> None:
    request = waiting(customer)

    refused = acts.refuse(request_id=request.id, reason=" Чека так и нет ", now=clock.now(), actor=CHECKER)

    assert (refused.state, refused.refusal_reason) == ("refused", "Чека так и нет")
    assert journal(request)[-1] == ("billing.request.refused", CHECKER.id)
    with pytest.raises(OperatorRequestClosed) as closed:
        approve(request)
    assert closed.value.extra == {"state": "refused"}
    assert books.entries(customer) == []


def test_refusal_needs_a_reason(customer: UUID) -> None:
    request = waiting(customer)

    with pytest.raises(InvalidRequest):
        acts.refuse(request_id=request.id, reason=" ", now=clock.now(), actor=CHECKER)

    assert OperatorRequest.objects.get(pk=request.pk).state == "waiting"


def test_request_that_cannot_be_done_stays_waiting(customer: UUID, settings: Settings) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 1
    request = acts.adjust(customer_id=customer, amount_micro_rub=-2 * RUB, asking=asking()).request

    with pytest.raises(InsufficientBalance):
        approve(request)
    assert OperatorRequest.objects.get(pk=request.pk).checker_id is None

    books.credit(customer, 5 * RUB)
    assert approve(request).state == "done"


def test_bonus_that_waited_past_its_end_is_not_given(customer: UUID) -> None:
    now, end = clock.now(), clock.now() + timedelta(days=1)
    request = acts.give_bonus(
        customer_id=customer, amount_micro_rub=ABOVE, expires_at=end, asking=asking()
    ).request

    with pytest.raises(InvalidRequest):
        acts.approve(request_id=request.id, sha256=request.sha256, now=now + timedelta(days=2), actor=CHECKER)

    assert books.entries(customer) == []


def test_missing_request_is_not_found() -> None:
    missing, now = uuid7(), clock.now()

    with pytest.raises(OperatorRequestNotFound):
        acts.approve(request_id=missing, sha256="", now=now, actor=CHECKER)
    with pytest.raises(OperatorRequestNotFound):
        acts.refuse(request_id=missing, reason="Не подтвердилось", now=now, actor=CHECKER)


def test_request_is_over_after_a_week(customer: UUID) -> None:
    request, fresh = waiting(customer), waiting(customer)
    OperatorRequest.objects.filter(pk=request.pk).update(created_at=clock.now() - acts.REQUEST_LIFETIME)

    with pytest.raises(OperatorRequestClosed):
        approve(request)
    assert tasks.sweep_requests(slot=str(uuid7())) == "done"

    assert OperatorRequest.objects.get(pk=request.pk).state == "expired"
    assert OperatorRequest.objects.get(pk=fresh.pk).state == "waiting"
    assert journal(request)[-1] == ("billing.request.expired", "billing.sweep_requests")
    with pytest.raises(OperatorRequestClosed):
        approve(request)


@pytest.mark.parametrize(
    "facts", [{"checker_id": UUID(MAKER.id), "decided_at": clock.now(), "state": "done"}, {"state": "done"}]
)
def test_database_keeps_two_people_apart_and_decisions_dated(
    customer: UUID, facts: dict[str, object]
) -> None:
    request = waiting(customer)

    with pytest.raises(IntegrityError), transaction.atomic():
        OperatorRequest.objects.filter(pk=request.pk).update(**facts)
