"""What an operator may do with money: each act a row of OperatorRequest, the ledger's step, a journal entry.

Called by the operator API and the back office, which check the role; never by the product itself. Up to
the amount of their role (`billing/allowances.py`) an operator's acts are done at once, above it when a second
operator approves exactly what the first asked for. Source: docs/decisions/0016-operators-acts.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import allowances, ledger, queries
from billing.errors import (
    AlreadyDisputed,
    AlreadyReversed,
    ChargeNotFound,
    HoldClosed,
    HoldInUse,
    HoldNotFound,
    IdempotencyMismatch,
    OperatorRequestChanged,
    OperatorRequestClosed,
    OperatorRequestNotFound,
    OwnWallet,
    SecondPersonRequired,
    TopUpNotFound,
)
from billing.models import Hold, OperatorRequest
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7

REQUEST_LIFETIME = timedelta(days=7)  # a yes must rest on what is still so
TICKET_CHARS = 100
DISPUTE_CHARS = 100
EXPIRED_AT_ONCE = 100  # requests in one transaction of the sweep

Kind: TypeAlias = OperatorRequest.Kind
State: TypeAlias = OperatorRequest.State


@dataclass(frozen=True)
class Asking:
    """How every act is asked for: why, for which ticket, by whom. A repeated `key` is the same act."""

    reason: str
    ticket: str
    key: str
    now: datetime
    actor: Actor


@dataclass(frozen=True)
class Asked:
    """The act's row, done or waiting; `is_replay` when the key was seen before with the same content."""

    request: OperatorRequest
    is_replay: bool


@transaction.atomic(durable=True)
def credit(*, customer_id: UUID, amount_micro_rub: int, asking: Asking) -> Asked:
    """Give money as a correction; makes the wallet when it is missing.

    Raises InvalidRequest (amount, reason), OperatorLimitExceeded, OwnWallet, UserNotFound,
    IdempotencyMismatch.
    """
    if amount_micro_rub <= 0:
        raise _wrong("amount_micro_rub", "A credit is a positive amount.")
    return _adjust(customer_id, amount_micro_rub, asking)


@transaction.atomic(durable=True)
def adjust(*, customer_id: UUID, amount_micro_rub: int, asking: Asking) -> Asked:
    """Correct a balance: above zero gives, below zero takes what is free.

    Raises as `credit`, also InsufficientBalance and ReservedInFlight.
    """
    return _adjust(customer_id, amount_micro_rub, asking)


@transaction.atomic(durable=True)
def give_bonus(
    *, customer_id: UUID, amount_micro_rub: int, expires_at: datetime | None, asking: Asking
) -> Asked:
    """Give bonus money, perhaps with an end. Raises as `credit`; InvalidRequest also when the end is past."""
    if amount_micro_rub <= 0:
        raise _wrong("amount_micro_rub", "A bonus is a positive amount.")
    _require_amount(amount_micro_rub, asking.actor)
    _require_user(customer_id)
    _require_future(expires_at, asking.now)
    parameters = {
        "amount_micro_rub": amount_micro_rub,
        "expires_at": expires_at.isoformat() if expires_at is not None else None,
    }
    return _ask(Kind.BONUS, customer_id, parameters, asking)


@transaction.atomic(durable=True)
def reverse_run(*, run_id: UUID, asking: Asking) -> Asked:
    """Take the charge of a run back, whole.

    Raises ChargeNotFound (nothing was charged), AlreadyReversed, InvalidRequest, OwnWallet,
    IdempotencyMismatch.
    """
    charge = queries.charge_of_run(run_id)
    if charge is None or charge.customer_id is None:
        raise ChargeNotFound
    parameters = {
        "charge_id": str(charge.id),
        "run_id": str(run_id),
        "amount_micro_rub": charge.amount_micro_rub,
    }
    return _ask(Kind.REVERSAL, charge.customer_id, parameters, asking)


@transaction.atomic(durable=True)
def release_hold(*, hold_id: UUID, asking: Asking) -> Asked:
    """Give back what a hold reserves when its run has ended without resolving it.

    Raises HoldNotFound, HoldClosed, HoldInUse (the run is running), InvalidRequest, OwnWallet,
    IdempotencyMismatch.
    """
    hold = Hold.objects.filter(pk=hold_id).first()
    if hold is None:
        raise HoldNotFound
    parameters = {"hold_id": str(hold_id), "held_micro_rub": hold.amount_micro_rub}
    return _ask(Kind.RELEASE, hold.customer_id, parameters, asking)


@transaction.atomic(durable=True)
def charge_back(
    *, customer_id: UUID, payment_id: UUID, dispute_id: str, amount_micro_rub: int, asking: Asking
) -> Asked:
    """Book that the bank took a payment of the customer back, or a part of it.

    Raises TopUpNotFound (no paid payment of this customer), AlreadyDisputed, LedgerConflict (the dispute is
    known with other content), InvalidRequest, OwnWallet, IdempotencyMismatch.
    """
    _require_amount(amount_micro_rub, asking.actor)
    dispute = dispute_id.strip()
    if not 0 < len(dispute) <= DISPUTE_CHARS or not dispute.isprintable():
        raise _wrong("dispute_id", f"The dispute's number has 1 to {DISPUTE_CHARS} printable characters.")
    topup = queries.topup_of(payment_id)
    if topup is None or topup.customer_id != customer_id:
        raise TopUpNotFound
    if not 0 < amount_micro_rub <= topup.amount_micro_rub:
        raise _wrong("amount_micro_rub", "A dispute is about at most what was paid.")
    parameters = {
        "payment_id": str(payment_id),
        "dispute_id": dispute,
        "amount_micro_rub": -amount_micro_rub,
    }
    return _ask(Kind.CHARGEBACK, customer_id, parameters, asking)


@transaction.atomic(durable=True)
def approve(*, request_id: UUID, sha256: str, now: datetime, actor: Actor) -> OperatorRequest:
    """Carry out what another operator asked for; `sha256` is the hash of what was shown to who approves.

    A second click of the same person changes nothing. Raises OperatorRequestNotFound, OperatorRequestClosed,
    OwnWallet, SecondPersonRequired, OperatorRequestChanged, and what the act itself raises.
    """
    request = _locked(request_id)
    checker_id = UUID(actor.id)
    if request.state == State.DONE and request.checker_id == checker_id:
        return request
    _require_decidable(request, now, actor)
    if not sha256 == request.sha256 == _fingerprint(request):
        raise OperatorRequestChanged
    request.checker_id = checker_id
    _carry_out(request, now, actor)
    return request


@transaction.atomic(durable=True)
def refuse(*, request_id: UUID, reason: str, now: datetime, actor: Actor) -> OperatorRequest:
    """Say no to what another operator asked for, with a reason. Raises as `approve`."""
    request = _locked(request_id)
    _require_decidable(request, now, actor)
    request.refusal_reason = reasons.required(reason)
    request.checker_id = UUID(actor.id)
    _close(request, State.REFUSED, now)
    _journal(request, "billing.request.refused", actor, refusal_reason=request.refusal_reason)
    return request


@transaction.atomic(durable=True)
def expire_requests(*, now: datetime, actor: Actor) -> int:
    """Close requests that nobody decided within REQUEST_LIFETIME; returns how many."""
    due = OperatorRequest.objects.filter(state=State.WAITING, created_at__lte=now - REQUEST_LIFETIME)
    rows = due.select_for_update(no_key=True, skip_locked=True).order_by("created_at", "pk")[:EXPIRED_AT_ONCE]
    for request in rows:
        _close(request, State.EXPIRED, now)
        _journal(request, "billing.request.expired", actor)
    return len(rows)


def moved_alone(operator_id: UUID, *, since: datetime) -> int:
    """Micro-RUB that this operator moved by acts of this module without a second person."""
    alone = OperatorRequest.objects.filter(
        maker_id=operator_id, checker_id=None, state=State.DONE, decided_at__gt=since
    )
    return sum(abs(each.amount_micro_rub) for each in alone)


def _adjust(customer_id: UUID, amount_micro_rub: int, asking: Asking) -> Asked:
    _require_amount(amount_micro_rub, asking.actor)
    _require_user(customer_id)
    return _ask(Kind.ADJUSTMENT, customer_id, {"amount_micro_rub": amount_micro_rub}, asking)


def _ask(kind: Kind, customer_id: UUID, parameters: dict[str, Any], asking: Asking) -> Asked:
    """Write the row, and do the act unless it must wait. Two calls with one key meet at the unique column."""
    _refuse_own(customer_id, asking.actor)
    wanted = OperatorRequest(
        key=asking.key,
        kind=kind,
        customer_id=customer_id,
        parameters=parameters,
        reason=reasons.required(asking.reason),
        ticket=asking.ticket.strip()[:TICKET_CHARS],
    )
    wanted.sha256 = _fingerprint(wanted)
    request, is_new = OperatorRequest.objects.get_or_create(
        key=wanted.key,
        defaults={
            "kind": kind,
            "customer_id": customer_id,
            "parameters": parameters,
            "reason": wanted.reason,
            "ticket": wanted.ticket,
            "sha256": wanted.sha256,
            "maker_id": UUID(asking.actor.id),
            "created_at": asking.now,
        },
    )
    if request.sha256 != wanted.sha256:
        raise IdempotencyMismatch
    if is_new and allowances.needs_second_person(
        request.amount_micro_rub, operator_id=request.maker_id, now=asking.now
    ):
        _journal(request, "billing.request.made", asking.actor)
    elif is_new:
        _carry_out(request, asking.now, asking.actor)
    return Asked(request, is_replay=not is_new)


def _carry_out(request: OperatorRequest, now: datetime, actor: Actor) -> None:
    """Take the ledger's step and close the row. What it raises takes the row back too: the key stays free."""
    request.ledger_entry_id = STEPS[Kind(request.kind)](request, now)
    _close(request, State.DONE, now)
    _journal(request, f"billing.{request.kind}.done", actor)


def _step_adjustment(request: OperatorRequest, _: datetime) -> UUID:
    done = ledger.adjust(
        entry_id=uuid7(),
        customer_id=request.customer_id,
        amount_micro_rub=request.amount_micro_rub,
        key=str(request.id),
        source_id=str(request.id),
    )
    return done.entry_id


def _step_bonus(request: OperatorRequest, now: datetime) -> UUID:
    end = request.parameters["expires_at"]
    expires_at = datetime.fromisoformat(end) if end is not None else None
    _require_future(expires_at, now)  # once more: it may have waited
    done = ledger.bonus(
        entry_id=uuid7(),
        customer_id=request.customer_id,
        amount_micro_rub=request.amount_micro_rub,
        key=str(request.id),
        expires_at=expires_at,
    )
    return done.entry_id


def _step_reversal(request: OperatorRequest, _: datetime) -> UUID:
    charge_id = UUID(request.parameters["charge_id"])
    done = ledger.reverse(entry_id=uuid7(), customer_id=request.customer_id, charge_id=charge_id)
    if not done.is_new:
        raise AlreadyReversed
    return done.entry_id


def _step_release(request: OperatorRequest, _: datetime) -> None:
    hold_id = UUID(request.parameters["hold_id"])
    if import_string(settings.RUN_IS_RUNNING)(hold_id):  # an ended run never runs again: no lock is needed
        raise HoldInUse
    step = ledger.settle_step(hold_id=hold_id, customer_id=request.customer_id, amount=0, usage=[])
    (answer,) = ledger.settle([step])
    if answer["outcome"] != "done":
        raise HoldClosed


def _step_chargeback(request: OperatorRequest, now: datetime) -> None:
    done = ledger.charge_back(
        customer_id=request.customer_id,
        payment_id=UUID(request.parameters["payment_id"]),
        dispute_id=request.parameters["dispute_id"],
        amount_micro_rub=-request.amount_micro_rub,
        effective_at=now,
    )
    if not done.is_new:
        raise AlreadyDisputed


# What each kind asks of the ledger; answers the entry, None for a release, which writes none,
# and for a chargeback, which writes several.
STEPS: dict[Kind, Callable[[OperatorRequest, datetime], UUID | None]] = {
    Kind.ADJUSTMENT: _step_adjustment,
    Kind.BONUS: _step_bonus,
    Kind.REVERSAL: _step_reversal,
    Kind.RELEASE: _step_release,
    Kind.CHARGEBACK: _step_chargeback,
}


def _close(request: OperatorRequest, state: State, now: datetime) -> None:
    request.state = state
    request.decided_at = now
    request.save(update_fields=["state", "decided_at", "checker_id", "refusal_reason", "ledger_entry_id"])


def _locked(request_id: UUID) -> OperatorRequest:
    found = OperatorRequest.objects.select_for_update(no_key=True).filter(pk=request_id).first()
    if found is None:
        raise OperatorRequestNotFound
    return found


def _fingerprint(request: OperatorRequest) -> str:
    """SHA-256 of what is asked for, in one canonical form."""
    facts = {
        "kind": str(request.kind),
        "customer_id": str(request.customer_id),
        "parameters": request.parameters,
        "reason": request.reason,
        "ticket": request.ticket,
    }
    return sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _require_decidable(request: OperatorRequest, now: datetime, actor: Actor) -> None:
    if request.state != State.WAITING:
        raise OperatorRequestClosed(state=request.state)
    if request.created_at <= now - REQUEST_LIFETIME:
        raise OperatorRequestClosed(state=State.EXPIRED.value)
    if str(request.maker_id) == actor.id:
        raise SecondPersonRequired
    _refuse_own(request.customer_id, actor)


def _refuse_own(customer_id: UUID, actor: Actor) -> None:
    if str(customer_id) == actor.id:
        raise OwnWallet


def _require_amount(amount_micro_rub: int, actor: Actor) -> None:
    if amount_micro_rub == 0:
        raise _wrong("amount_micro_rub", "An act moves something.")
    allowances.require_within(amount_micro_rub, operator_id=UUID(actor.id))


def _require_user(customer_id: UUID) -> None:
    if not User.objects.filter(pk=customer_id).exists():
        raise UserNotFound


def _require_future(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise _wrong("expires_at", "A bonus that is over cannot be given.")


def _wrong(name: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, errors=[{"loc": ["body", name], "msg": text, "type": "value_error"}])


def _journal(request: OperatorRequest, action: str, actor: Actor, **facts: Any) -> None:
    journal.record(
        actor=actor,
        action=action,
        subject=f"request:{request.id}",
        data={
            **request.parameters,
            "reason": request.reason,
            "ticket": request.ticket,
            "maker_id": str(request.maker_id),
            "checker_id": str(request.checker_id) if request.checker_id else None,
            "ledger_entry_id": str(request.ledger_entry_id) if request.ledger_entry_id else None,
            **facts,
        },
        target_user_id=request.customer_id,
    )
