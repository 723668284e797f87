"""Plain values of invoices: a line of a bank file, a reconciliation act."""

from dataclasses import dataclass
from datetime import date

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
