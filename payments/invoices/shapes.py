"""Plain values of invoices: a line of a bank file, what a month rendered, a reconciliation act."""

from dataclasses import dataclass
from datetime import date

from billing.shapes import MICRO_PER_KOPECK
from payments.invoices.requisites import Party


@dataclass(frozen=True, slots=True)
class Transfer:
    """One incoming bank document, as the file tells it."""

    number: str
    document_date: date
    booked_on: date
    amount_micro_rub: int
    payer_account: str
    payer_inn: str
    payer_name: str
    payer_bic: str
    purpose: str


@dataclass(frozen=True, slots=True)
class BankFile:
    """What a file has for us: incoming transfers to our account, and how much of it was not for us."""

    format: str
    transfers: tuple[Transfer, ...]
    outgoing: int
    foreign: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a firm's paid money paid for in a month, to the last micro-rouble."""

    usage_micro_rub: int
    plans_micro_rub: int

    @property
    def exact_micro_rub(self) -> int:
        return self.usage_micro_rub + self.plans_micro_rub

    @property
    def told_micro_rub(self) -> int:
        """What a document says: each line in whole kopecks."""
        return whole_kopecks(self.usage_micro_rub) + whole_kopecks(self.plans_micro_rub)


NOTHING = Rendered(0, 0)


def whole_kopecks(micro_rub: int) -> int:
    """Rounded down: a document never says more than was charged."""
    return micro_rub // MICRO_PER_KOPECK * MICRO_PER_KOPECK


@dataclass(frozen=True, slots=True)
class ActRow:
    """Movements of one kind on one day; above zero they came in."""

    day: date
    name: str
    amount_micro_rub: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Opening balance, what came in and went out by days of Moscow, closing balance: equal to the ledger."""

    seller: Party
    buyer: Party
    first_day: date
    last_day: date
    opening_micro_rub: int
    rows: tuple[ActRow, ...]

    @property
    def in_micro_rub(self) -> int:
        return sum(row.amount_micro_rub for row in self.rows if row.amount_micro_rub > 0)

    @property
    def out_micro_rub(self) -> int:
        return -sum(row.amount_micro_rub for row in self.rows if row.amount_micro_rub < 0)

    @property
    def closing_micro_rub(self) -> int:
        return self.opening_micro_rub + self.in_micro_rub - self.out_micro_rub
