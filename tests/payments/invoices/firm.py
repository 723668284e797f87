"""What the tests of invoices say in one word: a firm, its invoice, a bank file, what became of a line."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent
from payments.invoices import bank, closing, issuing, numbers, organisations, seller
from payments.invoices.issuing import Wish
from payments.invoices.models import BankDecision, BankLine, ClosingDocument, Invoice, Organisation
from payments.invoices.requisites import Party
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.payments.shop import ORIGIN, RUB

INN = "7700000009"
BUYER = Party(
    name="ООО «Ромашка и партнёры»",
    inn=INN,
    kpp="770001001",
    ogrn="1027700000008",
    address="101000, г. Москва, ул. Проверочная, д. 10",
    signatory="Петрова А. А.",
)
PAYER_ACCOUNT = "40702810900000000001"
REASON = "Сверено с бухгалтерией"


@dataclass(frozen=True)
class Paid:
    """One document of a bank file, as the tests vary it."""

    amount: str
    purpose: str
    inn: str = INN
    number: str = ""
    account: str = PAYER_ACCOUNT
    payee: str = ""
    day: str = ""


def firm(owner: User | None = None) -> Organisation:
    owner = owner or factories.customer()
    return organisations.save(owner_id=owner.id, party=BUYER, now=clock.now(), actor=Actor.customer(owner.id))


def invoice(owner_id: UUID, rub: int = 5_000, *, key: str = "", now: datetime | None = None) -> Invoice:
    done = issuing.issue(customer_id=owner_id, wish=Wish(rub), key=key, origin=ORIGIN, now=now or clock.now())
    return done.invoice


def pays(row: Invoice, **changes: str) -> Paid:
    """The document of a payer who did everything right, except for `changes`."""
    facts = {"amount": f"{row.amount_micro_rub // RUB}.00", "purpose": row.purpose, **changes}
    return Paid(**facts)


def exchange(*paid: Paid, encoding: str = "cp1251") -> bytes:
    """A file of the bank client; every document has a number of its own unless it names one."""
    own = seller.party().account
    lines = [
        "1CClientBankExchange", "ВерсияФормата=1.03", "Кодировка=Windows", "Отправитель=Банк",
        f"РасчСчет={own}", "СекцияРасчСчет", "ДатаНачала=01.01.2026", f"РасчСчет={own}", "КонецРасчСчет",
    ]  # fmt: skip
    for each in paid:
        day = each.day or f"{date.today():%d.%m.%Y}"  # noqa: DTZ011 - any day will do
        lines += [
            "СекцияДокумент=Платежное поручение", f"Номер={each.number or uuid7().hex[-15:]}", f"Дата={day}",
            f"Сумма={each.amount}", f"ПлательщикСчет={each.account}", "Плательщик=ИНН 1 ООО Ромашка",
            f"ПлательщикИНН={each.inn}", "ПлательщикБИК=044525000", f"ДатаПоступило={day}",
            f"ПолучательСчет={each.payee or own}", f"НазначениеПлатежа={each.purpose}", "КонецДокумента",
        ]  # fmt: skip
    return "\r\n".join([*lines, "КонецФайла", ""]).encode(encoding)


def operator() -> Actor:
    return Actor.operator(factories.operator().id)


def import_(*paid: Paid) -> list[BankLine]:
    """Import a file of `paid`; its lines in their order."""
    stem = uuid7().hex[-12:]
    named = [replace(each, number=f"{stem}-{place:02d}") for place, each in enumerate(paid)]
    statement = bank.import_file(content=exchange(*named), now=clock.now(), actor=operator())
    return list(BankLine.objects.filter(statement=statement).order_by("number"))


def attach(line: BankLine, row: Invoice, actor: Actor | None = None) -> BankDecision:
    return bank.attach(
        line_id=line.id, invoice_id=row.id, reason=REASON, now=clock.now(), actor=actor or operator()
    )


def give_back(line: BankLine, actor: Actor | None = None) -> BankDecision:
    return bank.give_back(line_id=line.id, reason=REASON, now=clock.now(), actor=actor or operator())


def actions(subject: str) -> list[str]:
    rows = AuditEvent.objects.filter(subject=subject).order_by("seq")
    return list(rows.values_list("action", flat=True))


def today() -> date:
    return numbers.day_of(clock.now())


def in_months(count: int) -> datetime:
    """The second day of a month after this one."""
    month = today().replace(day=1)
    for _ in range(count):
        month = (month + timedelta(days=31)).replace(day=1)
    return datetime(month.year, month.month, 2, 9, tzinfo=UTC)


def close(organisation: Organisation, now: datetime, month: date | None = None) -> ClosingDocument | None:
    return closing.close_month(
        organisation_id=organisation.id, month=month or today().replace(day=1), now=now, actor=operator()
    )
