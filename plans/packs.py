"""Packs: a top-up of exactly a pack's sum brings its bonus, in the transaction that credits the top-up."""

from datetime import datetime, timedelta
from uuid import UUID

from billing import ledger
from plans.models import Pack
from plyrum.ids import uuid7
from plyrum.transactions import require_transaction


def give(
    *, customer_id: UUID, payment_id: UUID, amount_micro_rub: int, now: datetime, source_type: str = "payment"
) -> int:
    """Give the bonus of the pack that was paid, once per payment; micro-RUB, 0 when the sum is no pack.

    `payment_id` and `source_type` are those of the top-up (`ledger.topup`), which may be a bank line.
    Must run inside the caller's transaction.
    """
    require_transaction()
    pack = Pack.objects.filter(amount_micro_rub=amount_micro_rub, is_offered=True).first()
    if pack is None:
        return 0
    ends = now + timedelta(days=pack.bonus_days) if pack.bonus_days else None
    ledger.bonus(
        entry_id=uuid7(),
        customer_id=customer_id,
        amount_micro_rub=pack.bonus_micro_rub,
        key=f"pack:{payment_id}",
        expires_at=ends,
        payment_id=payment_id,
        source_type=source_type,
    )
    return pack.bonus_micro_rub
