"""Money for tests: own customers, steps of the ledger's functions, and the proof that the books are right.

A customer here is only an id: the ledger knows no people. Prices are such that one token costs one micro-RUB.
"""

import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction

from billing import ledger, verification
from billing.ledger_calls import SPEND_CLASS
from billing.models import CreditLot, EntryType, Hold, LedgerEntry, LotKind, PriceVersion, Wallet
from billing.pricing import Price, Usage
from payments.models import Payment
from plyrum.ids import uuid7

RUB = 1_000_000
SKU = "tests/one-micro-a-token"
HOUR = 3600

Step = dict[str, Any]
Row = dict[str, Any]


def call(function: str, steps: Sequence[Step]) -> list[Row]:
    """Call one of the ledger's array functions as the application does."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {function}(%s)", [orjson.dumps(list(steps)).decode()])  # noqa: S608
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def credit_step(
    customer: UUID,
    amount: int,
    *,
    kind: LotKind = LotKind.PURCHASED,
    expires_at: datetime | None = None,
    key: str = "",
) -> Step:
    """A step of `ledger_credit`; without a key it is a new fact. A top-up needs its payment: `topped_up`."""
    fact = key or f"test:{uuid7()}"
    return {
        "entry_id": uuid7(),
        "customer_id": customer,
        "amount": amount,
        "type": EntryType.ADMIN_ADJUSTMENT if kind == LotKind.PURCHASED else EntryType.BONUS,
        "debit_account": "adjustments" if kind == LotKind.PURCHASED else "promo",
        "lot_kind": kind,
        "spend_class": SPEND_CLASS[kind],
        "expires_at": expires_at,
        "key": fact,
        "source_type": "test",
        "source_id": fact,
        "effective_at": None,
    }


def credit(customer: UUID, amount: int, **facts: Any) -> Row:
    """Put money on a wallet; the answer of `ledger_credit`."""
    (answer,) = call("ledger_credit", [credit_step(customer, amount, **facts)])
    return answer


def topped_up(customer: UUID, amount: int, *, at: datetime | None = None) -> UUID:
    """A payment that was paid and credited; its id."""
    moment = at or datetime.now(UTC)
    payment = Payment.objects.create(
        customer_id=customer,
        provider="mock",
        provider_payment_id=str(uuid7()),
        status="succeeded",
        amount_micro_rub=amount,
        receipt_email="a@example.test",
        acceptance_id=uuid7(),
        created_at=moment,
        updated_at=moment,
        succeeded_at=moment,
    )
    with transaction.atomic():
        ledger.topup(
            entry_id=uuid7(),
            customer_id=customer,
            amount_micro_rub=amount,
            payment_id=payment.pk,
            effective_at=moment,
        )
    return payment.pk


def debit_step(
    customer: UUID,
    amount: int,
    *,
    lot: int | None = None,
    partial: bool = False,
    type: EntryType = EntryType.ADMIN_ADJUSTMENT,
    key: str = "",
) -> Step:
    """A step of `ledger_debit`; without a key it is a new fact."""
    fact = key or f"test:{uuid7()}"
    return {
        "entry_id": uuid7(),
        "customer_id": customer,
        "amount": amount,
        "type": type,
        "credit_account": "adjustments",
        "lot_id": lot,
        "partial": partial,
        "key": fact,
        "source_type": "test",
        "source_id": fact,
        "effective_at": None,
    }


def debit(customer: UUID, amount: int, **facts: Any) -> Row:
    """Take free money from a wallet; the answer of `ledger_debit`."""
    (answer,) = call("ledger_debit", [debit_step(customer, amount, **facts)])
    return answer


def reverse(customer: UUID, charge: UUID) -> Row:
    """Take a charge back; the answer of `ledger_reverse`."""
    step = {"entry_id": uuid7(), "customer_id": customer, "reversed_id": charge}
    (answer,) = call("ledger_reverse", [step])
    return answer


def expire_lots(*customers: UUID) -> int:
    """Sweep the due lots of these customers only: other tests' clocks stand elsewhere."""
    return ledger.expire(ledger.due_lots().filter(customer_id__in=customers))


def funded(*amounts: int) -> UUID:
    """A new customer with one paid lot for each amount."""
    customer = uuid7()
    call("ledger_credit", [credit_step(customer, amount) for amount in amounts])
    return customer


def hold_step(
    customer: UUID,
    amount: int,
    *,
    hold_id: UUID | None = None,
    ttl_seconds: int = HOUR,
    soft: bool = False,
    limits: Sequence[Step] = (),
) -> Step:
    return ledger.hold_step(
        hold_id=hold_id or uuid7(),
        customer_id=customer,
        amount=amount,
        ttl_seconds=ttl_seconds,
        soft=soft,
        limits=limits,
    )


def limit(subject: str, most: int, window: str = "day") -> Step:
    """A limit of a hold step, in micro-RUB."""
    return {"subject": subject, "window": window, "limit": most}


def hold(customer: UUID, amount: int, **facts: Any) -> Row:
    """Set money aside; the answer of `ledger_hold`."""
    (answer,) = ledger.hold([hold_step(customer, amount, **facts)])
    return answer


def held(customer: UUID, amount: int, **facts: Any) -> UUID:
    """The id of a hold that was granted."""
    answer = hold(customer, amount, **facts)
    assert answer["outcome"] == "held", answer
    found: UUID = answer["hold_id"]
    return found


def settle_step(
    customer: UUID, hold_id: UUID | None, amount: int, *, usage: list[Step] | None = None, **facts: Any
) -> Step:
    """Capture `amount`, unless told otherwise with a usage row that costs exactly that; 0 only releases."""
    if usage is None:
        usage = [usage_row(amount, run_id=hold_id)] if amount > 0 else []
    return ledger.settle_step(hold_id=hold_id, customer_id=customer, amount=amount, usage=usage) | facts


def settle(customer: UUID, hold_id: UUID | None, amount: int, **facts: Any) -> Row:
    (answer,) = ledger.settle([settle_step(customer, hold_id, amount, **facts)])
    return answer


def spend(customer: UUID, amount: int) -> UUID:
    """Hold and capture; the id of the entry."""
    hold_id = held(customer, amount)
    entry: UUID = settle(customer, hold_id, amount)["entry_id"]
    return entry


def expire_holds() -> None:
    """All that are due, as the sweep ends them."""
    while ledger.expire_holds(most=500):
        pass


def usage_row(
    cost: int, *, charged: int | None = None, run_id: UUID | None = None, model: str = SKU
) -> dict[str, Any]:
    """One call whose tokens cost `cost` micro-RUB."""
    return ledger.usage_row(
        run_id=run_id or uuid7(),
        model=model,
        provider="tests",
        usage=Usage(input_tokens=cost),
        price=price(),
        cost=cost,
        charged=cost if charged is None else charged,
        api_key_id=None,
        estimated=False,
    )


@cache
def price() -> Price:
    """One micro-RUB for a token of input and of output. Asked once, so threads need no query."""
    version, _ = PriceVersion.objects.get_or_create(
        sku=SKU,
        number=1,
        defaults={
            "currency": "RUB",
            "input": RUB,
            "cached_input": RUB,
            "cache_write": RUB,
            "output": RUB,
            "markup_bp": 10_000,
            "valid_from": datetime.now(UTC),
        },
    )
    return Price(
        version_id=version.pk,
        currency=version.currency,
        input=version.input,
        cached_input=version.cached_input,
        cache_write=version.cache_write,
        output=version.output,
        image=version.image,
        markup_bp=version.markup_bp,
        fx_rate_id=None,
        fx_spread_bp=0,
        fx_micro_rub=RUB,
    )


_currencies = ("Q" + "".join(pair) for pair in product(string.ascii_lowercase, repeat=2))


def currency() -> str:
    """A currency that only one test sells in: the real ones belong to everybody's catalogue."""
    return next(_currencies)


def wallet(customer: UUID) -> Wallet:
    return Wallet.objects.get(pk=customer)


def lots(customer: UUID) -> list[CreditLot]:
    """In the order in which they came."""
    return list(CreditLot.objects.filter(customer_id=customer).order_by("id"))


def remaining(customer: UUID) -> list[int]:
    return [lot.remaining_micro_rub for lot in lots(customer)]


def reserved(customer: UUID) -> list[int]:
    return [lot.reserved_micro_rub for lot in lots(customer)]


def shares(customer: UUID, row: LedgerEntry | Hold) -> list[tuple[int, int]]:
    """How much an entry or a hold takes of which of the wallet's lots, by the lot's place."""
    places = {lot.pk: place for place, lot in enumerate(lots(customer))}
    return [(places[lot], amount) for lot, amount in zip(row.lot_ids, row.lot_amounts, strict=True)]


def entries(customer: UUID) -> list[LedgerEntry]:
    return list(LedgerEntry.objects.filter(customer_id=customer).order_by("seq"))


def status(hold_id: UUID) -> str:
    return Hold.objects.get(pk=hold_id).status


def assert_right(*customers: UUID) -> None:
    """The books of these wallets, and the guards of all, are right."""
    report = verification.examine(wallets=customers)
    assert report.findings == ()
    assert report.wallets == Wallet.objects.filter(pk__in=customers).count()


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def refused(act: Callable[[], object], *errors: type[Exception]) -> bool:
    """True when `act` raises one of `errors`; the connection stays usable."""
    try:
        with transaction.atomic():
            act()
    except errors:
        return True
    return False
