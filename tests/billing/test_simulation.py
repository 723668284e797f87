"""The ledger against its model: random work, many seeds, equal answers and equal books after each.

More seeds: `make simulate N=10000`. One seed again: LEDGER_SEEDS=17-17, which a failure prints.
"""

import copy
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing import ledger, queries
from billing.errors import InsufficientBalance, LedgerConflict, ReservedInFlight
from billing.models import Hold, LedgerEntry, LimitCounter, LotKind
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.billing.model import Model

pytestmark = pytest.mark.heavy

BEGIN = datetime(2031, 1, 1, tzinfo=UTC)
OPERATIONS = 120
TTLS = (1, 60, 900)
Row = dict[str, Any]


def seeds() -> list[int]:
    """LEDGER_SEEDS is how many, or "first-last"."""
    first, dash, last = os.environ.get("LEDGER_SEEDS", "200").partition("-")
    return list(range(int(first), int(last) + 1)) if dash else list(range(int(first)))


@pytest.mark.parametrize("seed", seeds())
def test_ledger_and_model_agree(clock: LedgerClock, seed: int) -> None:
    try:
        Simulation(random.Random(seed), clock).run()  # noqa: S311 - repeatable, not secret
    except Exception:
        print(  # noqa: T201 - one command repeats the failure
            f"repeat: LEDGER_SEEDS={seed}-{seed} python -m pytest tests/billing/test_simulation.py"
        )
        raise


class Simulation:
    """Three customers, one clock; every operation is done by the ledger and by the model."""

    def __init__(self, chance: random.Random, clock: LedgerClock) -> None:
        self.chance = chance
        self.clock = clock
        self.model = Model(BEGIN)
        self.customers = sorted(uuid7() for _ in range(3))
        self.operations: list[Callable[[], None]] = [
            self.credit,
            self.credit,
            self.repeat_credit,
            self.hold,
            self.hold,
            self.hold_many,
            self.repeat_hold,
            self.settle,
            self.settle,
            self.settle_many,
            self.repeat_settle,
            self.debit,
            self.repeat_debit,
            self.reverse,
            self.charge_back,
            self.top_up,
            self.refund,
            self.repeat_refund,
            self.renew,
            self.crash,
            self.pass_time,
            self.sweep,
            self.expire_lots,
        ]

    def run(self) -> None:
        self.clock.stand_at(self.model.now)
        for _ in range(OPERATIONS):
            self.chance.choice(self.operations)()
        self.compare()
        self.end_all()
        self.compare()
        books.assert_right(*self.model.wallets)

    def credit(self) -> None:
        kind = self.chance.choice(list(LotKind))
        expires = kind != LotKind.PURCHASED and self.chance.random() < 0.8
        expires_at = self.model.now + timedelta(seconds=self.chance.choice((1, 60, 600))) if expires else None
        self._credit(self.customer(), self.chance.randint(1, 1000), kind, expires_at, f"sim:{uuid7()}")

    def repeat_credit(self) -> None:
        """The same fact again, or another one under its key."""
        if not self.model.credits:
            return
        key = self.chance.choice(list(self.model.credits))
        customer, amount = self.model.credits[key]
        if self.chance.random() < 0.3:
            customer = self.customer()
        if self.chance.random() < 0.3:
            amount += 1
        # The type is part of the fact: the model keeps to one type for each key.
        (known,) = [e for c in self.customers for e in books.entries(c) if e.key == key]
        kind = LotKind.PURCHASED if known.type == "admin_adjustment" else LotKind.BONUS
        self._credit(customer, amount, kind, None, key)

    def _credit(
        self, customer: UUID, amount: int, kind: LotKind, expires_at: datetime | None, key: str
    ) -> None:
        answer = books.credit(customer, amount, kind=kind, expires_at=expires_at, key=key)
        assert answer["outcome"] == self.model.credit(customer, amount, kind, expires_at, key)

    def hold(self) -> None:
        self._hold([self.hold_step()])

    def hold_many(self) -> None:
        self._hold([self.hold_step() for _ in range(self.chance.randint(2, 8))])

    def repeat_hold(self) -> None:
        if not self.model.holds:
            return
        hold_id, known = self.chance.choice(list(self.model.holds.items()))
        customer = known.customer if self.chance.random() < 0.7 else self.customer()
        amount = known.amount if self.chance.random() < 0.7 else known.amount + 1
        self._hold([books.hold_step(customer, amount, hold_id=hold_id, soft=self.chance.random() < 0.3)])

    def hold_step(self) -> Row:
        customer = self.customer()
        return books.hold_step(
            customer,
            self.chance.choice((0, 1, self.chance.randint(1, 1500))),
            ttl_seconds=self.chance.choice(TTLS),
            soft=self.chance.random() < 0.2,
            limits=self.limits_of(customer) if self.chance.random() < 0.5 else (),
        )

    def limits_of(self, customer: UUID) -> list[Row]:
        """Too little, met sooner or later, never met."""
        return [books.limit(f"user:{customer}", self.chance.choice((50, 600, 10**9)), "month")]

    def _hold(self, steps: list[Row]) -> None:
        answers = {row["hold_id"]: row for row in ledger.hold(steps)}
        for step in in_order(steps):
            limit = step["limits"][0]["limit"] if step.get("limits") else None
            outcome, held = self.model.hold(
                step["id"],
                step["customer_id"],
                step["amount"],
                step["ttl_seconds"],
                soft=step["soft"],
                limit=limit,
            )
            assert (answers[step["id"]]["outcome"], answers[step["id"]]["held"]) == (outcome, held)

    def settle(self) -> None:
        if steps := self.settle_steps(1):
            self._settle(steps)

    def settle_many(self) -> None:
        if steps := self.settle_steps(self.chance.randint(2, 8)):
            self._settle(steps)

    def repeat_settle(self) -> None:
        """A hold that is over already, as it ended or otherwise; or one that nobody knows."""
        over = [item for item in self.model.holds.items() if item[1].status != "open"]
        hold_id, customer, amount = uuid7(), self.customer(), 1
        if over and self.chance.random() < 0.8:
            hold_id, known = self.chance.choice(over)
            customer = known.customer if self.chance.random() < 0.8 else customer
            amount = known.captured if self.chance.random() < 0.6 else known.captured + 1
        self._settle([books.settle_step(customer, hold_id, amount)])

    def settle_steps(self, most: int) -> list[Row]:
        open_holds = [item for item in self.model.holds.items() if item[1].status == "open"]
        chosen = self.chance.sample(open_holds, min(most, len(open_holds)))
        return [
            books.settle_step(
                hold.customer,
                hold_id,
                self.chance.choice((0, hold.amount, self.chance.randint(0, hold.amount), hold.amount + 1)),
            )
            for hold_id, hold in chosen
        ]

    def _settle(self, steps: list[Row]) -> None:
        answers = {row["settled_hold_id"]: row for row in ledger.settle(steps)}
        for step in in_order(steps):
            answer = answers[step["hold_id"]]
            expected = self.model.settle(step["hold_id"], step["customer_id"], step["amount"])
            assert (answer["outcome"], answer["charged"], answer["released"]) == expected

    def debit(self) -> None:
        customer = self.customer()
        lots = books.lots(customer)
        place = self.chance.randrange(len(lots)) if lots and self.chance.random() < 0.4 else None
        self._debit(customer, self.chance.randint(1, 1500), f"sim:{uuid7()}", place)

    def repeat_debit(self) -> None:
        """The same fact again, or another one under its key."""
        if not self.model.debits:
            return
        key = self.chance.choice(list(self.model.debits))
        customer, amount = self.model.debits[key]
        if self.chance.random() < 0.3:
            customer = self.customer()
        self._debit(customer, amount + self.chance.choice((0, 0, 1, -1)), key, None)

    def _debit(self, customer: UUID, amount: int, key: str, place: int | None) -> None:
        if amount < 1:
            return
        partial = self.chance.random() < 0.4
        lot = books.lots(customer)[place].pk if place is not None else None
        answer = books.debit(customer, amount, lot=lot, partial=partial, key=key)
        expected = self.model.debit(customer, amount, key, lot=place, partial=partial)
        assert (answer["outcome"], answer["taken"]) == expected

    def reverse(self) -> None:
        """A charge, once more a charge that was taken back, or one of somebody else."""
        captured = [item for item in self.model.holds.items() if item[1].captured]
        if not captured:
            return
        hold_id, hold = self.chance.choice(captured)
        customer = hold.customer if self.chance.random() < 0.8 else self.customer()
        charge = LedgerEntry.objects.get(hold_id=hold_id)
        answer = books.reverse(customer, charge.pk)
        assert (answer["outcome"], answer["returned"]) == self.model.reverse(hold_id, customer)

    def charge_back(self) -> None:
        customer, amount = self.customer(), self.chance.randint(1, 1500)
        with transaction.atomic():
            answer = ledger.charge_back(
                customer_id=customer,
                payment_id=uuid7(),
                dispute_id=str(uuid7()),
                amount_micro_rub=amount,
                effective_at=self.model.now,
            )
        assert (answer.covered_micro_rub, answer.owed_micro_rub) == self.model.charge_back(customer, amount)

    def top_up(self) -> None:
        customer, amount = self.customer(), self.chance.randint(1, 1000)
        payment = books.topped_up(customer, amount, at=self.model.now)
        self.model.top_up(customer, amount, payment)

    def refund(self) -> None:
        if self.model.topups:
            payment, (_, lot) = self.chance.choice(list(self.model.topups.items()))
            self._refund(
                uuid7(), payment, self.chance.choice((1, lot.amount, self.chance.randint(1, lot.amount)))
            )

    def repeat_refund(self) -> None:
        """The same refund again, or another sum under its id."""
        if self.model.refunds:
            refund, (payment, amount) = self.chance.choice(list(self.model.refunds.items()))
            self._refund(refund, payment, amount + self.chance.choice((0, 0, 1)))

    def _refund(self, refund: UUID, payment: UUID, amount: int) -> None:
        try:
            with transaction.atomic():
                answer = ledger.refund(
                    entry_id=uuid7(),
                    customer_id=self.model.topups[payment][0],
                    payment_id=payment,
                    refund_id=refund,
                    amount_micro_rub=amount,
                    effective_at=self.model.now,
                )
            outcome = "done" if answer.is_new else "replayed"
        except (InsufficientBalance, ReservedInFlight) as error:
            outcome = error.code
        except LedgerConflict:
            outcome = "mismatch"
        assert outcome == self.model.refund(refund, payment, amount)

    def renew(self) -> None:
        """Some holds, whatever became of them."""
        known = list(self.model.holds)
        chosen = self.chance.sample(known, min(len(known), self.chance.randint(1, 5)))
        ttl_seconds = self.chance.choice(TTLS)
        with connection.cursor() as cursor:
            cursor.execute("SELECT ledger_renew(%s::uuid[], %s)", [chosen, ttl_seconds])
            (moved,) = cursor.fetchone()
        assert moved == self.model.renew(chosen, ttl_seconds)

    def crash(self) -> None:
        """Something is done and lost before its commit: nothing of it may stay."""
        before = copy.deepcopy(self.model)
        with transaction.atomic():
            acts = [self.credit, self.hold_many, self.settle_many, self.debit, self.reverse, self.renew]
            self.chance.choice(acts)()
            transaction.set_rollback(True)
        self.model = before

    def expire_lots(self) -> None:
        books.expire_lots(*self.customers)
        self.model.expire_lots()

    def pass_time(self) -> None:
        self.model.now += timedelta(seconds=self.chance.choice((1, 30, 59, 60, 300, 86_400)))
        self.clock.stand_at(self.model.now)

    def sweep(self) -> None:
        books.expire_holds()
        self.model.sweep()

    def end_all(self) -> None:
        """Nothing stays open for the tests that follow."""
        self.model.now += timedelta(hours=1)
        self.clock.stand_at(self.model.now)
        self.sweep()
        self.expire_lots()
        for customer in self.model.wallets:  # who ever had money
            ledger.collect(customer)
            self.model.repay(customer)
        assert all(hold.status != "open" for hold in self.model.holds.values())

    def compare(self) -> None:
        for customer in self.model.wallets:
            expected = self.model.state(customer)
            assert stored(customer) == expected
            assert queries.debt(customer) == self.model.debts.get(customer, 0)
            assert counted(customer) == self.model.counted(customer)
            assert spendable(customer) == self.model.spendable(customer)
            balance = queries.balance(customer, now=self.model.now)
            assert balance.balance_micro_rub == self.model.spendable(customer)
            assert balance.reserved_micro_rub == sum(reserved for *_, reserved in expected["lots"])
            assert balance.total_micro_rub == balance.balance_micro_rub + balance.reserved_micro_rub

    def customer(self) -> UUID:
        return self.chance.choice(self.customers)


def spendable(customer: UUID) -> int:
    """As a settlement tells it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_spendable(%s)", [customer])
        return int(cursor.fetchone()[0])


def counted(customer: UUID) -> list[tuple[int, int]]:
    """Spent and reserved of each month in which something was, the oldest first."""
    rows = LimitCounter.objects.filter(subject=f"user:{customer}").order_by("window_start")
    found = rows.values_list("spent_micro_rub", "reserved_micro_rub")
    return [counts for counts in found if counts != (0, 0)]


def in_order(steps: list[Row]) -> list[Row]:
    """As the functions promise: wallet by wallet, a wallet's steps as they came."""
    return sorted(steps, key=lambda step: step["customer_id"])


def stored(customer: UUID) -> dict[str, Any]:
    return {
        "balance": books.wallet(customer).balance_micro_rub,
        "entries": [entry.signed_micro_rub for entry in books.entries(customer)],
        "lots": [
            (lot.kind, lot.amount_micro_rub, lot.remaining_micro_rub, lot.reserved_micro_rub)
            for lot in books.lots(customer)
        ],
        "holds": {
            hold.pk: (hold.status, hold.amount_micro_rub, hold.captured_micro_rub, hold.lot_amounts)
            for hold in Hold.objects.filter(customer_id=customer)
        },
    }
