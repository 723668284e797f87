"""The thin Python face of the ledger's database functions: the only module through which money moves.

Each call joins the caller's transaction, so that balance, entry, work row and journal entry stand or fall
together; only the sweeps open their own, one for each batch or customer. The engine sends the steps built
here through its own functions in the same database call (`orchestration/sql/`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, DateTimeField, Exists, F, Func, OuterRef, Q, QuerySet, Sum, UUIDField, When
from django.db.models.functions import Cast
from django.utils.module_loading import import_string

from billing import ledger_calls as calls
from billing import queries
from billing.errors import ChargeNotFound, LedgerConflict
from billing.models import Account, CreditLot, EntryType, LedgerEntry, LotKind, SystemEntryType, Wallet
from billing.pricing import Price, Usage
from billing.shapes import ChargedBack, Credited, Debited
from plyrum.ids import uuid7
from plyrum.transactions import require_transaction

NO_LOT = 0  # the number of no lot: a payment that was never credited has no money to give
LEDGER_NOW = Func(function="ledger_clock", output_field=DateTimeField())


def open_wallet(*, customer_id: UUID) -> None:
    """Make the customer's empty wallet; a wallet that exists stays as it is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_open_wallet(%s)", [customer_id])


def topup(
    *,
    entry_id: UUID,
    customer_id: UUID,
    amount_micro_rub: int,
    payment_id: UUID,
    effective_at: datetime,
    debit_account: Account = Account.PROVIDER_CLEARING,
    source_type: str = "payment",
) -> Credited:
    """Credit a succeeded payment, or a line of a bank statement with its own account and type, once each.

    Must run inside the caller's transaction. Raises LedgerConflict if it was credited with another amount or
    to another wallet.
    """
    return calls.credit(
        entry_id=entry_id,
        customer_id=customer_id,
        amount=amount_micro_rub,
        type=EntryType.TOPUP,
        debit_account=debit_account,
        lot_kind=LotKind.PURCHASED,
        key=f"topup:{payment_id}",
        source_type=source_type,
        source_id=str(payment_id),
        effective_at=effective_at,
    )


def bonus(
    *,
    entry_id: UUID,
    customer_id: UUID,
    amount_micro_rub: int,
    key: str,
    expires_at: datetime | None,
    payment_id: UUID | None = None,
    source_type: str = "payment",
) -> Credited:
    """Give bonus money, once per key. Must run inside the caller's transaction.

    `payment_id` is the top-up that it came with: refunds of that take their part of it back. `source_type`
    is then that of the top-up.
    """
    return calls.credit(
        entry_id=entry_id,
        customer_id=customer_id,
        amount=amount_micro_rub,
        type=EntryType.BONUS,
        debit_account=Account.PROMO,
        lot_kind=LotKind.BONUS,
        key=f"bonus:{key}",
        source_type=source_type if payment_id is not None else "bonus",
        source_id=str(payment_id) if payment_id is not None else key,
        expires_at=expires_at,
    )


def adjust(
    *, entry_id: UUID, customer_id: UUID, amount_micro_rub: int, key: str, source_id: str
) -> Credited | Debited:
    """An operator's correction, once per key: above zero it gives, below zero it takes what is free.

    Must run inside the caller's transaction. Raises InsufficientBalance or ReservedInFlight if less is free.
    """
    if amount_micro_rub > 0:
        return calls.credit(
            entry_id=entry_id,
            customer_id=customer_id,
            amount=amount_micro_rub,
            type=EntryType.ADMIN_ADJUSTMENT,
            debit_account=Account.ADJUSTMENTS,
            lot_kind=LotKind.PURCHASED,  # what it replaces was paid for: it never expires
            key=f"adjustment:{key}",
            source_type="operator",
            source_id=source_id,
        )
    return calls.debit(
        entry_id=entry_id,
        customer_id=customer_id,
        amount=-amount_micro_rub,
        type=EntryType.ADMIN_ADJUSTMENT,
        credit_account=Account.ADJUSTMENTS,
        key=f"adjustment:{key}",
        source_type="operator",
        source_id=source_id,
    )


def refund(
    *,
    entry_id: UUID,
    customer_id: UUID,
    payment_id: UUID,
    refund_id: UUID,
    amount_micro_rub: int,
    effective_at: datetime,
) -> Debited:
    """Money of a top-up goes back to who paid it, once per refund, out of that top-up's own lot.

    What the top-up brought as a bonus goes back in proportion, as far as it is left. Must run inside the
    caller's transaction. Raises InsufficientBalance or ReservedInFlight when less of that top-up is free
    (`queries.refundable`).
    """
    refunded = calls.debit(
        entry_id=entry_id,
        customer_id=customer_id,
        amount=amount_micro_rub,
        type=EntryType.REFUND,
        credit_account=Account.PROVIDER_CLEARING,
        key=f"refund:{refund_id}",
        source_type="refund",
        source_id=str(refund_id),
        effective_at=effective_at,
        lot_id=_lot_of(payment_id),
    )
    if refunded.is_new:
        back = _given_back(customer_id, payment_id)
        _take_bonus_back(customer_id, payment_id, str(refund_id), back, effective_at)
    return refunded


def buy_plan(
    *, customer_id: UUID, amount_micro_rub: int, key: str, period_id: UUID, effective_at: datetime
) -> Debited:
    """Pay a plan's period with paid money alone, once per key. Must run inside the caller's transaction.

    Raises InsufficientBalance, ReservedInFlight. Source: docs/decisions/0021-plans-in-an-app-of-their-own.md.
    """
    return calls.debit(
        entry_id=uuid7(),
        customer_id=customer_id,
        amount=amount_micro_rub,
        type=EntryType.PLAN_PURCHASE,
        credit_account=Account.PLAN_REVENUE,
        lot_kind=LotKind.PURCHASED,
        key=key,
        source_type="period",
        source_id=str(period_id),
        effective_at=effective_at,
    )


def grant(
    *,
    customer_id: UUID,
    amount_micro_rub: int,
    key: str,
    period_id: UUID,
    expires_at: datetime,
    effective_at: datetime,
) -> Credited:
    """Give what a plan's period includes, once per key. Must run inside the caller's transaction."""
    return calls.credit(
        entry_id=uuid7(),
        customer_id=customer_id,
        amount=amount_micro_rub,
        type=EntryType.PLAN_GRANT,
        debit_account=Account.PLAN_REVENUE,
        lot_kind=LotKind.MONTHLY,
        key=key,
        source_type="period",
        source_id=str(period_id),
        expires_at=expires_at,
        effective_at=effective_at,
    )


def carry_over(
    *,
    customer_id: UUID,
    lot_ids: list[int],
    at_most: int,
    lot_kind: LotKind,
    key: str,
    period_id: UUID,
    expires_at: datetime,
    effective_at: datetime,
) -> int:
    """Move what is free in these lots, up to `at_most`, to a new lot with another end; returns how much.

    Must run inside the caller's transaction, which makes it once: what a second call finds is not the same.
    """
    source = {"source_type": "period", "source_id": str(period_id), "effective_at": effective_at}
    moved = 0
    for lot_id in lot_ids:
        if moved < at_most:
            moved += calls.take(
                customer_id=customer_id,
                amount=at_most - moved,
                type=EntryType.ROLLOVER,
                credit_account=Account.ROLLOVER_CLEARING,
                lot_id=lot_id,
                key=f"{key}:{lot_id}",
                **source,
            )
    if moved:
        calls.credit(
            entry_id=uuid7(),
            customer_id=customer_id,
            amount=moved,
            type=EntryType.ROLLOVER,
            debit_account=Account.ROLLOVER_CLEARING,
            lot_kind=lot_kind,
            key=key,
            expires_at=expires_at,
            **source,
        )
    return moved


def charge_back(
    *, customer_id: UUID, payment_id: UUID, dispute_id: str, amount_micro_rub: int, effective_at: datetime
) -> ChargedBack:
    """The bank took a payment back: not in our hands, so it always books, once per dispute.

    Free money covers it, that of the payment first; the rest is a debt that whatever comes in repays first.
    The payment's bonus goes back as with a refund, and covers nothing. Must run inside the caller's
    transaction. Raises LedgerConflict for a known dispute of another customer, payment or amount.
    """
    require_transaction()
    open_wallet(customer_id=customer_id)  # its lock is what makes a dispute told twice one
    lock([customer_id])
    own, others, owed = (f"chargeback:{dispute_id}:{part}" for part in ("own", "rest", f"debt:{payment_id}"))
    debts = Q(type=SystemEntryType.DEBT, key__startswith=f"chargeback:{dispute_id}:debt:")
    known = list(queries.by_key(own, others) | LedgerEntry.objects.filter(debts))
    if known:
        debt = sum(entry.amount_micro_rub for entry in known if entry.key == owed)
        same = all(
            entry.source_id == str(customer_id)
            if entry.key == owed
            else (entry.customer_id, entry.source_id) == (customer_id, str(payment_id))
            for entry in known
        )
        if not same or sum(entry.amount_micro_rub for entry in known) != amount_micro_rub:
            raise LedgerConflict(f"The dispute {dispute_id} was recorded with other content.")
        return ChargedBack(False, amount_micro_rub - debt, debt)
    back = _given_back(customer_id, payment_id) + amount_micro_rub
    rest = amount_micro_rub
    for key, lot_id in ((own, _lot_of(payment_id)), (others, None)):
        if key == others:
            _take_bonus_back(customer_id, payment_id, dispute_id, back, effective_at)
        if rest:
            rest -= calls.take(
                customer_id=customer_id,
                amount=rest,
                credit_account=Account.PROVIDER_CLEARING,
                lot_id=lot_id,
                key=key,
                source_type="payment",
                source_id=str(payment_id),
                effective_at=effective_at,
            )
    if rest:
        book(
            entry_id=uuid7(),
            type=SystemEntryType.DEBT,
            debit_account=Account.RECEIVABLE,
            credit_account=Account.PROVIDER_CLEARING,
            amount_micro_rub=rest,
            key=owed,
            source_type="debt",
            source_id=str(customer_id),
            effective_at=effective_at,
        )
    return ChargedBack(True, amount_micro_rub - rest, rest)


def debtors() -> QuerySet[LedgerEntry, UUID]:
    """Ids of customers who owe something and have something free that can still be spent."""
    movements = LedgerEntry.objects.filter(queries.DEBT | queries.REPAYMENT)
    debtor = Cast("source_id", UUIDField())
    signed = Case(When(type=SystemEntryType.DEBT, then=F("amount_micro_rub")), default=-F("amount_micro_rub"))
    free = CreditLot.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=LEDGER_NOW),
        customer_id=OuterRef("debtor"),
        is_spent=False,
        remaining_micro_rub__gt=F("reserved_micro_rub"),
    )
    found = movements.annotate(debtor=debtor).filter(Exists(free)).values("debtor")
    return (
        found.annotate(owed=Sum(signed))
        .filter(owed__gt=0)
        .order_by("debtor")
        .values_list("debtor", flat=True)
    )


@transaction.atomic
def collect(customer_id: UUID) -> bool:
    """Repay the debts of a customer with what is free by now; whether something was repaid. It has a wallet.

    A running request keeps what it holds in a dispute; what it gives back afterwards is collected here.
    """
    lock([customer_id])
    wallet = Wallet.objects.get(pk=customer_id)
    return calls.repay(customer_id, key=f"repay:{customer_id}:{wallet.seq}") > 0


def lock(customers: list[UUID]) -> None:
    """Take the wallets' locks, in their order: before more than one step in a transaction.

    Not before a hold is resolved: holds are locked before wallets everywhere.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_lock(%s::uuid[])", [customers])


def reverse(*, entry_id: UUID, customer_id: UUID, charge_id: UUID) -> Credited:
    """Take a charge for an answer back, whole and once: its lots get what they gave.

    Must run inside the caller's transaction. Raises ChargeNotFound unless it is a charge of this customer.
    """
    require_transaction()
    step = {"entry_id": entry_id, "customer_id": customer_id, "reversed_id": charge_id}
    (answer,) = calls.call("ledger_reverse", [step])
    if answer["outcome"] == "unknown":
        raise ChargeNotFound
    is_new = answer["outcome"] == "done"
    if is_new:
        calls.repay(customer_id, key=f"repay:{entry_id}")
    return Credited(answer["entry_id"], is_new, answer["balance_after"])


def book(
    *,
    entry_id: UUID,
    type: SystemEntryType,
    debit_account: Account,
    credit_account: Account,
    amount_micro_rub: int,
    key: str,
    source_type: str,
    source_id: str,
    effective_at: datetime,
) -> bool:
    """Move money between system accounts, once per key; False when the key was seen with the same content.

    Must run inside the caller's transaction. Raises LedgerConflict for other content.
    """
    require_transaction()
    step = {
        "entry_id": entry_id,
        "amount": amount_micro_rub,
        "type": type,
        "debit_account": debit_account,
        "credit_account": credit_account,
        "key": key,
        "source_type": source_type,
        "source_id": source_id,
        "effective_at": effective_at,
    }
    (answer,) = calls.call("ledger_book", [step])
    calls.refuse_mismatch(answer, key)
    return bool(answer["outcome"] == "done")


def due_lots() -> QuerySet[CreditLot]:
    """Lots whose time is over and in which something is free, the earliest first.

    Not those that wait for something else (LOTS_THAT_WAIT): a rollover comes first, whenever it comes.
    """
    due = CreditLot.objects.filter(
        is_spent=False,
        expires_at__lte=LEDGER_NOW,
        remaining_micro_rub__gt=F("reserved_micro_rub"),
    )
    return due.exclude(import_string(settings.LOTS_THAT_WAIT)()).order_by("expires_at", "pk")


def expire(lots: QuerySet[CreditLot]) -> int:
    """Move what is free in due `lots` to the breakage; returns how many gave something.

    What a running request holds stays for it; what it gives back goes with the next sweep.
    """
    due = list(lots)
    wallets = {
        row.customer_id: row.seq
        for row in Wallet.objects.filter(customer_id__in=[lot.customer_id for lot in due])
    }
    steps = [
        {
            "entry_id": uuid7(),
            "customer_id": lot.customer_id,
            "amount": lot.remaining_micro_rub,
            "type": EntryType.EXPIRY,
            "credit_account": Account.BREAKAGE,
            "lot_id": lot.pk,
            "partial": True,
            # With the wallet's number: after a reversal a lot may be left with the same rest a second time.
            "key": f"expire:{lot.pk}:{lot.remaining_micro_rub}:{wallets[lot.customer_id]}",
            "source_type": "lot",
            "source_id": str(lot.pk),
            "effective_at": lot.expires_at,
        }
        for lot in due
    ]
    return sum(answer["outcome"] == "done" for answer in calls.call("ledger_debit", steps)) if steps else 0


def hold_step(
    *,
    hold_id: UUID,
    customer_id: UUID,
    amount: int,
    ttl_seconds: int,
    soft: bool,
    limits: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A step of `ledger_hold`. `soft` reserves what is there instead of refusing.

    `hold_id` is a UUIDv7: open holds are looked for by the time of their ids.
    `limits`: {subject, window (hour, day, month), limit (micro-RUB)}; it is counted in each, or refused.
    """
    step = {
        "id": hold_id,
        "customer_id": customer_id,
        "amount": amount,
        "ttl_seconds": ttl_seconds,
        "soft": soft,
    }
    return {**step, "limits": limits} if limits else step


def settle_step(
    *,
    hold_id: UUID | None,
    customer_id: UUID,
    amount: int,
    usage: list[dict[str, Any]],
    source_type: str = "run",
) -> dict[str, Any]:
    """A step of `ledger_settle`: capture `amount` of the hold and release the rest; 0 only releases.

    The entry of a charge has the id of its hold.
    """
    paid_by = hold_id if amount > 0 else None
    return {
        "hold_id": hold_id,
        "customer_id": customer_id,
        "amount": amount,
        "source_type": source_type,
        "usage": [{**row, "customer_id": customer_id, "ledger_entry_id": paid_by} for row in usage],
    }


def usage_row(
    *,
    run_id: UUID,
    model: str,
    provider: str,
    usage: Usage,
    price: Price,
    cost: int,
    charged: int,
    api_key_id: UUID | None,
    estimated: bool,
) -> dict[str, Any]:
    """A usage row of a settle step: what one call consumed, by which price it cost what."""
    return {
        "id": uuid7(),
        "run_id": run_id,
        "model": model,
        "provider": provider,
        "kind": "chat",
        **usage.counts(),
        "cost_micro_rub": cost,
        "charged_micro_rub": charged,
        "price_version_id": price.version_id,
        "fx_rate_id": price.fx_rate_id,
        "api_key_id": api_key_id,
        "estimated": estimated,
    }


def hold(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reserve money: for each step by itself {hold_id, outcome, held, spendable, limit_place}."""
    return calls.call("ledger_hold", steps)


def settle(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Resolve holds; answers {settled_hold_id, entry_id, outcome, charged, released}, each step by itself."""
    return calls.call("ledger_settle", steps)


def expire_holds(*, most: int, past: int = 0) -> int:
    """Give back holds whose time is over, the oldest first, without the first `past`; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_expire_holds(%s, %s)", [most, past])
        return int(cursor.fetchone()[0])


def _lot_of(payment_id: UUID) -> int:
    """The number of the lot that a payment's top-up made, or of no lot."""
    lot = queries.lot_of(payment_id)
    return lot.pk if lot is not None else NO_LOT


def _given_back(customer_id: UUID, payment_id: UUID) -> int:
    """What went back of a payment to who paid it, by refunds and disputes, in micro-RUB."""
    returned = Q(type=EntryType.REFUND, lot_ids__contains=[_lot_of(payment_id)])
    disputed = Q(type=EntryType.CHARGEBACK, source_type="payment", source_id=str(payment_id))
    own = LedgerEntry.objects.filter(
        returned | disputed, customer_id=customer_id, type__in=(EntryType.REFUND, EntryType.CHARGEBACK)
    )
    owed = LedgerEntry.objects.filter(
        queries.DEBT, source_id=str(customer_id), key__endswith=f":debt:{payment_id}"
    )
    return sum(int(rows.aggregate(sum=Sum("amount_micro_rub"))["sum"] or 0) for rows in (own, owed))


def _take_bonus_back(
    customer_id: UUID, payment_id: UUID, cause: str, back: int, effective_at: datetime
) -> None:
    """Of each bonus of a top-up as large a part as `back` is of it, from what is free of the bonus.

    `cause` is the refund or the dispute. Source: docs/decisions/0014-paid-money-before-bonuses.md.
    """
    lot = queries.lot_of(payment_id)
    if lot is None:
        return
    bonuses = LedgerEntry.objects.filter(customer_id=customer_id, type=EntryType.BONUS)
    for entry in bonuses.filter(source_id=str(payment_id), credit_account=Account.WALLET):
        taken = bonuses.filter(source_id=str(entry.pk), debit_account=Account.WALLET)
        due = entry.amount_micro_rub * min(back, lot.amount_micro_rub) // lot.amount_micro_rub
        due -= int(taken.aggregate(sum=Sum("amount_micro_rub"))["sum"] or 0)
        if due > 0:
            calls.take(
                type=EntryType.BONUS,
                customer_id=customer_id,
                amount=due,
                credit_account=Account.PROMO,
                lot_id=CreditLot.objects.get(source_entry_id=entry.pk).pk,
                key=f"bonus_back:{cause}:{entry.pk}",
                source_type="entry",
                source_id=str(entry.pk),
                effective_at=effective_at,
            )
