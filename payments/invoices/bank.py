"""Bank lines: import a file, match each line with its invoice, resolve the rest. Never a guessed wallet.

A line credits a wallet by itself only when invoice number, payer's INN and amount all agree. Everything else
waits in suspense until an operator attaches it to an invoice of that amount or returns it; above
what their role may move alone a second operator approves. Source: payments guide 5.2,
docs/decisions/0028-bank-lines.md.
"""

from collections import Counter
from dataclasses import asdict
from datetime import datetime, time
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID

import orjson
import structlog
from django.db import transaction
from django.db.models import QuerySet

from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import allowances, ledger
from billing.errors import (
    OperatorRequestChanged,
    OperatorRequestClosed,
    OperatorRequestNotFound,
    OwnWallet,
    SecondPersonRequired,
)
from billing.models import Account, SystemEntryType
from billing.vat import LAW_ZONE
from payments.invoices import bank_files, issuing, seller
from payments.invoices.errors import (
    BankLineClosed,
    BankLineNotFound,
    InvoiceClosed,
    InvoiceDiffers,
    InvoiceNotFound,
)
from payments.invoices.models import BankDecision, BankLine, BankStatement, Invoice
from payments.invoices.references import numbers_in
from payments.invoices.shapes import BankFile
from plans import packs
from plyrum.ids import uuid7
from plyrum.nudges import nudge

log = structlog.get_logger(__name__)

SOURCE_TYPE = "bank_line"  # of entries in the ledger; `verify_invoices.sql` and `closing` know it too
SETTLED_AT_ONCE = 200  # lines within the request that brings the file
LEFT_OVER_AT_ONCE = 500  # lines in one round of the worker

Status: TypeAlias = BankLine.Status
Reason: TypeAlias = BankLine.Reason
Kind: TypeAlias = BankDecision.Kind
State: TypeAlias = BankDecision.State


def import_file(*, content: bytes, now: datetime, actor: Actor) -> BankStatement:
    """Store every incoming transfer of a file once, then settle those that are new, the first ones at once.

    What is left, also by a crash, the worker settles. Raises WrongBankFile, InvoicesNotConfigured.
    """
    file = bank_files.parse(content, own_account=seller.party().account)
    statement, fresh = _store(file, sha256(content).hexdigest(), now, actor)
    _settle_each(fresh[:SETTLED_AT_ONCE], now, actor)
    return statement


@transaction.atomic(durable=True)
def settle(*, line_id: UUID, now: datetime, actor: Actor) -> BankLine:
    """Credit a new line to the invoice that it names beyond doubt, or put it into suspense; once."""
    line = _locked(line_id)
    if line.status != Status.NEW:
        return line
    invoice, reason = _match(line)
    if invoice is not None:
        _credit(line, invoice, Account.BANK, now, actor)
        return line
    ledger.book(
        entry_id=uuid7(),
        type=SystemEntryType.UNMATCHED,
        debit_account=Account.BANK,
        credit_account=Account.SUSPENSE,
        amount_micro_rub=line.amount_micro_rub,
        key=f"suspense:{line.id}",
        source_type=SOURCE_TYPE,
        source_id=str(line.id),
        effective_at=_booked_at(line),
    )
    line.reason = reason
    _close(line, Status.SUSPENSE, now)
    _journal(line, "payments.bank_line.suspended", actor, why=str(reason))
    return line


def settle_left_over(*, now: datetime, actor: Actor) -> int:
    """Settle lines that are stored and not settled, the oldest first; returns how many were."""
    left = BankLine.objects.filter(status=Status.NEW).order_by("id").values_list("pk", flat=True)
    return _settle_each(list(left[:LEFT_OVER_AT_ONCE]), now, actor)


def _settle_each(line_ids: list[UUID], now: datetime, actor: Actor) -> int:
    """One that fails is logged, stays for the next time and does not keep the others waiting."""
    settled = 0
    for line_id in line_ids:
        try:
            settle(line_id=line_id, now=now, actor=actor)
            settled += 1
        except Exception:  # the edge of a loop over rows: a fault of one stays with it
            log.exception("bank_line_failed", line_id=str(line_id))
    return settled


@transaction.atomic(durable=True)
def attach(*, line_id: UUID, invoice_id: UUID, reason: str, now: datetime, actor: Actor) -> BankDecision:
    """Credit a line in suspense to the owner of an open invoice of the same amount.

    Raises BankLineNotFound, BankLineClosed, InvoiceNotFound, InvoiceClosed, InvoiceDiffers, OwnWallet,
    InvalidRequest (reason).
    """
    return _decide(Kind.ATTACH, line_id, invoice_id, reason, now, actor)


@transaction.atomic(durable=True)
def give_back(*, line_id: UUID, reason: str, now: datetime, actor: Actor) -> BankDecision:
    """Note that a line in suspense was sent back to its payer by a bank order.

    Raises BankLineNotFound, BankLineClosed, InvalidRequest (reason).
    """
    return _decide(Kind.RETURN, line_id, None, reason, now, actor)


@transaction.atomic(durable=True)
def approve(*, decision_id: UUID, shown_sha256: str, now: datetime, actor: Actor) -> BankDecision:
    """Carry out what another operator decided; `shown_sha256` is `fingerprint` of what was shown.

    A second click of the same person changes nothing. Raises OperatorRequestNotFound, OperatorRequestClosed,
    SecondPersonRequired, OperatorRequestChanged, and as `attach`.
    """
    decision = _decision(decision_id)
    if decision.state == State.DONE and str(decision.checker_id) == actor.id:
        return decision
    _require_second_person(decision, actor)
    if shown_sha256 != fingerprint(decision):
        raise OperatorRequestChanged
    decision.checker_id = UUID(actor.id)
    _carry_out(decision, _locked(decision.line_id), now, actor)
    return decision


@transaction.atomic(durable=True)
def refuse(*, decision_id: UUID, reason: str, now: datetime, actor: Actor) -> BankDecision:
    """Say no to what another operator decided; the line stays in suspense. Raises as `approve`."""
    decision = _decision(decision_id)
    _require_second_person(decision, actor)
    decision.checker_id = UUID(actor.id)
    _finish(decision, State.REFUSED, now)
    why = reasons.required(reason)
    _journal(_locked(decision.line_id), "payments.bank_line.refused", actor, decision, refusal_reason=why)
    return decision


@transaction.atomic(durable=True)
def _store(file: BankFile, digest: str, now: datetime, actor: Actor) -> tuple[BankStatement, list[UUID]]:
    """The statement and its lines; the ids of the lines that no statement had before."""
    statement = BankStatement.objects.create(
        format=file.format,
        sha256=digest,
        imported_by=UUID(actor.id),
        imported_at=now,
        incoming=len(file.transfers),
        fresh=0,
        outgoing=file.outgoing,
        foreign=file.foreign,
    )
    lines = [BankLine(statement=statement, **asdict(transfer)) for transfer in file.transfers]
    # Equal documents of one file are as many transfers: each has its place among them.
    seen: Counter[tuple[object, ...]] = Counter()
    for line in lines:
        seen[line.document] += 1
        line.ordinal = seen[line.document]
    # Written in one order: two files that tell the same lines differently would else wait in a circle.
    lines.sort(key=lambda line: (*line.document, line.ordinal))
    BankLine.objects.bulk_create(lines, ignore_conflicts=True)
    fresh = list(BankLine.objects.filter(statement=statement).order_by("id").values_list("pk", flat=True))
    statement.fresh = len(fresh)
    statement.save(update_fields=["fresh"])
    journal.record(
        actor=actor,
        action="payments.bank.imported",
        subject=f"bank_statement:{statement.id}",
        data={
            "sha256": digest,
            "format": file.format,
            "incoming": statement.incoming,
            "fresh": statement.fresh,
            "outgoing": statement.outgoing,
            "foreign": statement.foreign,
        },
    )
    if len(fresh) > SETTLED_AT_ONCE:
        nudge("payments.tasks.settle_bank_lines")
    return statement, fresh


def _match(line: BankLine) -> tuple[Invoice | None, Reason]:
    """The invoice that a line pays beyond doubt, locked; otherwise None and the first thing that differs."""
    named = numbers_in(line.purpose)
    if len(named) != 1:
        return None, Reason.SEVERAL_INVOICES if named else Reason.NO_NUMBER
    ((year, number),) = named
    invoice = _invoices().filter(year=year, number=number).first()
    if invoice is None:
        return None, Reason.UNKNOWN_INVOICE
    differs = (
        (invoice.buyer["inn"] != line.payer_inn, Reason.OTHER_PAYER),
        (invoice.amount_micro_rub != line.amount_micro_rub, Reason.OTHER_AMOUNT),
        (invoice.status not in Invoice.PAYABLE, Reason.INVOICE_CLOSED),
    )
    reason = next((reason for is_so, reason in differs if is_so), Reason.NONE)
    return (None, reason) if reason else (invoice, reason)


def _credit(line: BankLine, invoice: Invoice, source: Account, now: datetime, actor: Actor) -> None:
    """Put a locked line's money on the wallet of a locked invoice's owner; the ledger's key makes it once.

    The bonus of a pack of this sum comes with it, as with a payment.
    """
    issuing.move(invoice.id, Invoice.Status.PAID, now)
    ledger.topup(
        entry_id=uuid7(),
        customer_id=invoice.customer_id,
        amount_micro_rub=line.amount_micro_rub,
        payment_id=line.id,
        effective_at=_booked_at(line),
        debit_account=source,
        source_type=SOURCE_TYPE,
    )
    bonus = packs.give(
        customer_id=invoice.customer_id,
        payment_id=line.id,
        amount_micro_rub=line.amount_micro_rub,
        now=now,
        source_type=SOURCE_TYPE,
    )
    line.invoice, line.reason = invoice, Reason.NONE
    _close(line, Status.CREDITED, now)
    _journal(line, "payments.bank_line.credited", actor, bonus_micro_rub=bonus)
    issuing.tell(invoice, "invoice_paid", now)


def _decide(
    kind: Kind, line_id: UUID, invoice_id: UUID | None, reason: str, now: datetime, actor: Actor
) -> BankDecision:
    reason = reasons.required(reason)
    line = _locked(line_id)
    _require_undecided(line)
    decision = BankDecision(
        line=line,
        kind=kind,
        invoice_id=_invoice_for(line, invoice_id, actor).id if invoice_id else None,
        amount_micro_rub=line.amount_micro_rub,
        reason=reason,
        maker_id=UUID(actor.id),
        created_at=now,
    )
    decision.save(force_insert=True)
    if allowances.needs_second_person(decision.amount_micro_rub, operator_id=decision.maker_id, now=now):
        _journal(line, "payments.bank_line.asked", actor, decision)
    else:
        _carry_out(decision, line, now, actor)
    return decision


def _carry_out(decision: BankDecision, line: BankLine, now: datetime, actor: Actor) -> None:
    """Move the money of a locked line in suspense: no other decision can be made while one waits."""
    if decision.invoice_id is not None:
        invoice = _invoice_for(line, decision.invoice_id, actor)
        _finish(decision, State.DONE, now)
        _credit(line, invoice, Account.SUSPENSE, now, actor)
    else:
        ledger.book(
            entry_id=uuid7(),
            type=SystemEntryType.BANK_RETURN,
            debit_account=Account.SUSPENSE,
            credit_account=Account.BANK,
            amount_micro_rub=line.amount_micro_rub,
            key=f"bank_return:{line.id}",
            source_type=SOURCE_TYPE,
            source_id=str(line.id),
            effective_at=now,
        )
        _finish(decision, State.DONE, now)
        _close(line, Status.RETURNED, now)
    _journal(line, "payments.bank_line.resolved", actor, decision)


def _invoice_for(line: BankLine, invoice_id: UUID, actor: Actor) -> Invoice:
    """The invoice, locked, if this line may pay it: whole, open, and not the operator's own."""
    invoice = _invoices().filter(pk=invoice_id).first()
    if invoice is None:
        raise InvoiceNotFound
    if str(invoice.customer_id) == actor.id:
        raise OwnWallet
    if invoice.status not in Invoice.PAYABLE:
        raise InvoiceClosed(status=invoice.status)
    if invoice.amount_micro_rub != line.amount_micro_rub:
        raise InvoiceDiffers
    return invoice


def moved_alone(operator_id: UUID, *, since: datetime) -> int:
    """Micro-RUB of lines that this operator decided without a second person."""
    alone = BankDecision.objects.filter(
        maker_id=operator_id, checker_id=None, state=State.DONE, decided_at__gt=since
    )
    return sum(alone.values_list("amount_micro_rub", flat=True))


def fingerprint(decision: BankDecision) -> str:
    """SHA-256 of everything that the form of approval shows, in one canonical form."""
    line, invoice = decision.line, decision.invoice
    facts = {
        "kind": str(decision.kind),
        "amount_micro_rub": decision.amount_micro_rub,
        "reason": decision.reason,
        "line": [str(line.id), line.payer_name, line.payer_inn, line.purpose],
        "invoice": [str(invoice.id), str(invoice.customer_id), invoice.title] if invoice else None,
    }
    return sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _require_undecided(line: BankLine) -> None:
    if line.status != Status.SUSPENSE:
        raise BankLineClosed(status=line.status)
    if line.decisions.filter(state=State.WAITING).exists():
        raise BankLineClosed("A decision about this line waits for a second person.", status=line.status)


def _require_second_person(decision: BankDecision, actor: Actor) -> None:
    if decision.state != State.WAITING:
        raise OperatorRequestClosed(state=decision.state)
    if str(decision.maker_id) == actor.id:
        raise SecondPersonRequired


def _invoices() -> QuerySet[Invoice]:
    return Invoice.objects.select_for_update(of=("self",), no_key=True)


def _locked(line_id: UUID) -> BankLine:
    """The line's row, locked before invoice and wallet. Raises BankLineNotFound."""
    found = BankLine.objects.select_for_update(of=("self",), no_key=True).filter(pk=line_id).first()
    if found is None:
        raise BankLineNotFound
    return found


def _decision(decision_id: UUID) -> BankDecision:
    """The decision behind the lock of its line, which every act about the line takes first."""
    line_id = BankDecision.objects.filter(pk=decision_id).values_list("line_id", flat=True).first()
    if line_id is None:
        raise OperatorRequestNotFound
    _locked(line_id)
    return BankDecision.objects.get(pk=decision_id)


def _close(line: BankLine, status: Status, now: datetime) -> None:
    line.status, line.decided_at = status, now
    line.save(update_fields=["status", "reason", "invoice", "decided_at"])


def _finish(decision: BankDecision, state: State, now: datetime) -> None:
    decision.state, decision.decided_at = state, now
    decision.save(update_fields=["state", "checker_id", "decided_at"])


def _booked_at(line: BankLine) -> datetime:
    return datetime.combine(line.booked_on, time(), LAW_ZONE)


def _journal(
    line: BankLine, action: str, actor: Actor, decision: BankDecision | None = None, **facts: object
) -> None:
    if decision is not None:
        facts |= {
            "decision_id": str(decision.id),
            "decision": decision.kind,
            "reason": decision.reason,
            "maker_id": str(decision.maker_id),
            "checker_id": str(decision.checker_id) if decision.checker_id else None,
        }
    journal.record(
        actor=actor,
        action=action,
        subject=f"bank_line:{line.id}",
        data={
            "amount_micro_rub": line.amount_micro_rub,
            "invoice_id": str(line.invoice_id) if line.invoice_id else None,
            **facts,
        },
        target_user_id=line.invoice.customer_id if line.invoice else None,
    )
