"""The ledger as a small model in memory: what the database's functions must answer and what must be left.

Written from the rules alone (ledger guide 5, 7, 13), not from the SQL, so that the two can disagree.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

SPEND_CLASS = {"monthly": 1, "rollover": 2, "purchased": 3, "bonus": 4}


@dataclass
class Lot:
    kind: str
    amount: int
    age: int  # the place in which it came
    expires_at: datetime | None
    remaining: int = 0
    reserved: int = 0

    def is_usable(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at

    @property
    def order(self) -> tuple[int, bool, datetime | None, int]:
        return (SPEND_CLASS[self.kind], self.expires_at is None, self.expires_at, self.age)


@dataclass
class Hold:
    customer: UUID
    amount: int
    ends_at: datetime
    shares: list[tuple[Lot, int]]
    counter: "Counter | None" = None
    status: str = "open"
    captured: int = 0


@dataclass
class Counter:
    spent: int = 0
    reserved: int = 0


@dataclass
class Wallet:
    lots: list[Lot] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)  # signed amounts

    @property
    def balance(self) -> int:
        return sum(self.entries)


@dataclass
class Model:
    """All wallets of one simulation and its clock."""

    now: datetime
    wallets: dict[UUID, Wallet] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    credits: dict[str, tuple[UUID, int]] = field(default_factory=dict)
    debits: dict[str, tuple[UUID, int]] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)
    debts: dict[UUID, int] = field(default_factory=dict)
    topups: dict[UUID, tuple[UUID, Lot]] = field(default_factory=dict)  # by payment
    refunds: dict[UUID, tuple[UUID, int]] = field(default_factory=dict)
    counters: dict[tuple[UUID, str], Counter] = field(default_factory=dict)  # of a customer's month

    def credit(self, customer: UUID, amount: int, kind: str, expires_at: datetime | None, key: str) -> str:
        """Answers the outcome."""
        wallet = self.wallets.setdefault(customer, Wallet())
        if key in self.credits:
            return "replayed" if self.credits[key] == (customer, amount) else "mismatch"
        self.credits[key] = (customer, amount)
        wallet.lots.append(Lot(kind, amount, len(wallet.lots), expires_at, remaining=amount))
        wallet.entries.append(amount)
        return "done"

    def top_up(self, customer: UUID, amount: int, payment: UUID) -> None:
        """Paid money, which repays what is owed."""
        self.credit(customer, amount, "purchased", None, f"topup:{payment}")
        del self.credits[f"topup:{payment}"]  # the act is not repeated
        self.topups[payment] = (customer, self.wallets[customer].lots[-1])
        self.repay(customer)

    def refund(self, refund: UUID, payment: UUID, amount: int) -> str:
        """Out of the top-up's own lot; answers the outcome."""
        if refund in self.refunds:
            return "replayed" if self.refunds[refund] == (payment, amount) else "mismatch"
        customer, lot = self.topups[payment]
        if lot.remaining - lot.reserved < amount:
            return "reserved_in_flight" if lot.remaining >= amount else "insufficient_balance"
        self._take(customer, [lot], amount)
        self.refunds[refund] = (payment, amount)
        return "done"

    def debit(
        self, customer: UUID, amount: int, key: str, *, lot: int | None, partial: bool
    ) -> tuple[str, int]:
        """Answers the outcome and what is taken; `lot` is a place among the customer's lots."""
        if key in self.debits:
            owner, taken = self.debits[key]
            is_same = owner == customer and (taken == amount or (partial and taken < amount))
            return ("replayed", taken) if is_same else ("mismatch", 0)
        lots = self._lots(customer)
        chosen = [lots[lot]] if lot is not None else [each for each in lots if each.is_usable(self.now)]
        free = sum(each.remaining - each.reserved for each in chosen)
        if partial and free == 0:
            return "nothing", 0
        if free < amount and not partial:
            there = sum(each.remaining for each in chosen)
            return ("reserved_in_flight" if there >= amount else "insufficient_balance"), 0
        taken = min(amount, free)
        self._take(customer, chosen, taken)
        self.debits[key] = (customer, taken)
        return "done", taken

    def reverse(self, hold_id: UUID, customer: UUID) -> tuple[str, int]:
        """Take the capture of a hold back; answers the outcome and what came back."""
        hold = self.holds[hold_id]
        if hold.captured == 0 or hold.customer != customer:
            return "unknown", 0
        if hold_id in self.reversed:
            return "replayed", hold.captured
        self.reversed.add(hold_id)
        rest = hold.captured
        for lot, share in hold.shares:
            lot.remaining += min(rest, share)
            rest -= min(rest, share)
        self.wallets[customer].entries.append(hold.captured)
        return "done", hold.captured

    def charge_back(self, customer: UUID, amount: int) -> tuple[int, int]:
        """Answers what free money covered and what is owed."""
        covered = min(amount, self.spendable(customer))
        if covered:
            self._take(customer, [lot for lot in self._lots(customer) if lot.is_usable(self.now)], covered)
        owed = amount - covered
        self.debts[customer] = self.debts.get(customer, 0) + owed
        return covered, owed

    def repay(self, customer: UUID) -> None:
        """What is free repays what is owed."""
        if amount := min(self.debts.get(customer, 0), self.spendable(customer)):
            self._take(customer, [lot for lot in self._lots(customer) if lot.is_usable(self.now)], amount)
            self.debts[customer] -= amount

    def expire_lots(self) -> None:
        for wallet in self.wallets.values():
            due = [lot for lot in wallet.lots if not lot.is_usable(self.now) and lot.remaining > lot.reserved]
            for lot in sorted(due, key=lambda lot: lot.order[2] or self.now):
                wallet.entries.append(lot.reserved - lot.remaining)
                lot.remaining = lot.reserved

    def hold(
        self, hold_id: UUID, customer: UUID, amount: int, ttl_seconds: int, *, soft: bool, limit: int | None
    ) -> tuple[str, int]:
        """Answers the outcome and what is held; `limit` is of the customer's month."""
        known = self.holds.get(hold_id)
        if known is not None:
            is_same = known.customer == customer and (soft or known.amount == amount)
            return ("replayed" if is_same else "mismatch"), known.amount
        usable = [lot for lot in self._lots(customer) if lot.is_usable(self.now)]
        free = sum(lot.remaining - lot.reserved for lot in usable)
        if free < amount and not soft:
            there = sum(lot.remaining for lot in usable)
            return ("reserved_in_flight" if there >= amount else "insufficient_balance"), 0
        shares, missing = [], min(amount, free)
        counter = self.counter(customer) if limit is not None else None
        if counter is not None and limit is not None:
            if counter.spent + counter.reserved + missing > limit:
                return "limit_exceeded", 0
            counter.reserved += missing
        for lot in sorted(usable, key=lambda lot: lot.order):
            if share := min(missing, lot.remaining - lot.reserved):
                shares.append((lot, share))
                lot.reserved += share
                missing -= share
        ends_at = self.now + timedelta(seconds=ttl_seconds)
        self.holds[hold_id] = Hold(customer, min(amount, free), ends_at, shares, counter)
        return "held", min(amount, free)

    def renew(self, hold_ids: list[UUID], ttl_seconds: int) -> int:
        """Answers how many ends moved."""
        until = self.now + timedelta(seconds=ttl_seconds)
        holds = [self.holds[hold_id] for hold_id in hold_ids]
        moved = [hold for hold in holds if hold.status == "open" and self.now < hold.ends_at < until]
        for hold in moved:
            hold.ends_at = until
        return len(moved)

    def counted(self, customer: UUID) -> list[tuple[int, int]]:
        """Spent and reserved of each month in which something was, the oldest first."""
        months = sorted(item for item in self.counters.items() if item[0][0] == customer)
        found = [(counter.spent, counter.reserved) for _, counter in months]
        return [counts for counts in found if counts != (0, 0)]

    def counter(self, customer: UUID) -> Counter:
        """Of the month of Moscow that runs."""
        month = f"{self.now + timedelta(hours=3):%Y-%m}"
        return self.counters.setdefault((customer, month), Counter())

    def settle(self, hold_id: UUID, customer: UUID, amount: int) -> tuple[str, int, int]:
        """Answers the outcome, what was charged and what went back."""
        hold = self.holds.get(hold_id)
        if hold is None or hold.customer != customer:
            return "unknown_hold", 0, 0
        if hold.status != "open":
            if hold.captured == amount:
                return "replayed", amount, 0
            return ("expired" if hold.status == "expired" else "mismatch"), 0, 0
        if amount > 0 and self.now >= hold.ends_at:
            return "expired", 0, 0
        if amount > hold.amount:
            return "over_hold", 0, 0
        self._resolve(hold, "captured" if amount else "released", amount)
        return "done", amount, hold.amount - amount

    def sweep(self) -> None:
        for hold in self.holds.values():
            if hold.status == "open" and self.now >= hold.ends_at:
                self._resolve(hold, "expired", 0)

    def spendable(self, customer: UUID) -> int:
        return sum(lot.remaining - lot.reserved for lot in self._lots(customer) if lot.is_usable(self.now))

    def state(self, customer: UUID) -> dict[str, Any]:
        """Everything that must be equal in the database."""
        wallet = self.wallets[customer]
        return {
            "balance": wallet.balance,
            "entries": wallet.entries,
            "lots": [(lot.kind, lot.amount, lot.remaining, lot.reserved) for lot in wallet.lots],
            "holds": {
                hold_id: (hold.status, hold.amount, hold.captured, [share for _, share in hold.shares])
                for hold_id, hold in self.holds.items()
                if hold.customer == customer
            },
        }

    def _take(self, customer: UUID, lots: list[Lot], amount: int) -> None:
        self.wallets[customer].entries.append(-amount)
        for lot in sorted(lots, key=lambda lot: lot.order):
            share = min(amount, lot.remaining - lot.reserved)
            lot.remaining -= share
            amount -= share

    def _lots(self, customer: UUID) -> list[Lot]:
        return self.wallets[customer].lots if customer in self.wallets else []

    def _resolve(self, hold: Hold, status: str, captured: int) -> None:
        hold.status, hold.captured = status, captured
        rest = captured
        for lot, share in hold.shares:
            taken = min(rest, share)
            lot.reserved -= share
            lot.remaining -= taken
            rest -= taken
        if hold.counter is not None:
            hold.counter.reserved -= hold.amount
            hold.counter.spent += captured
        if captured:
            self.wallets[hold.customer].entries.append(-captured)
