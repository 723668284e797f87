"""Closing documents and the reconciliation act: equal to the ledger, frozen, corrected by new ones only."""

import inspect
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import Notice, User
from billing import acts, daily_roots
from billing import queries as money_queries
from billing.acts import Asking
from billing.models import LotKind, VatRate
from payments.invoices import closing, in_words
from payments.invoices.models import ClosingDocument, Organisation
from payments.invoices.numbers import day_of
from payments.invoices.schemas import closing_document_out
from plans import offers
from plyrum import clock
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing.fixtures import LedgerClock
from tests.payments.invoices.firm import (
    actions,
    close,
    firm,
    import_,
    in_months,
    invoice,
    operator,
    pays,
    today,
)
from tests.payments.shop import RUB
from tests.plans import world


@pytest.fixture
def organisation() -> Organisation:
    """A firm that paid an invoice of 5 000 roubles."""
    found = firm()
    import_(pays(invoice(found.owner_id)))
    return found


def test_a_month_is_closed_once_after_its_end(organisation: Organisation) -> None:
    books.spend(organisation.owner_id, 1_220_005_000)
    books.spend(organisation.owner_id, 4_999)
    assert close(organisation, clock.now()) is None

    made = closing.close_months(now=in_months(1), actor=operator())
    document = ClosingDocument.objects.get(organisation=organisation)

    assert made >= 1
    assert (document.rendered_micro_rub, document.amount_micro_rub) == (1_220_009_999, 1_220_000_000)
    assert (document.vat_rate_bp, document.vat_micro_rub) == (2200, 220_000_000)
    assert document.month == today().replace(day=1)
    assert document.document_date + timedelta(days=1) == day_of(in_months(1)).replace(day=1)
    assert document.title.startswith(f"{today().year % 100}-")
    assert close(organisation, in_months(1)) is None
    assert closing.close_months(now=in_months(2), actor=operator()) == 0
    assert actions(f"closing_document:{document.id}") == ["payments.closing_document.issued"]
    notice = Notice.objects.get(key=f"closing_document_ready:{document.id}")
    assert notice.facts["is_correction"] is False
    out = closing_document_out(document)
    assert (out.net_micro_rub, out.upd_status, out.upd_function) == (1_000_000_000, 1, "СЧФДОП")


def test_a_firm_that_cannot_be_closed_keeps_no_other_waiting(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.spend(organisation.owner_id, RUB)
    other = firm()
    import_(pays(invoice(other.owner_id)))
    books.spend(other.owner_id, RUB)
    close_month = closing.close_month

    def broken(*, organisation_id: UUID, **facts: Any) -> ClosingDocument | None:
        if organisation_id == organisation.id:
            raise RuntimeError("broken")
        return close_month(organisation_id=organisation_id, **facts)

    with monkeypatch.context() as patched:
        patched.setattr(closing, "close_month", broken)
        closing.close_months(now=in_months(1), actor=operator())

    closed = ClosingDocument.objects.values_list("organisation_id", flat=True)
    assert (other.id in closed, organisation.id in closed) == (True, False)
    closing.close_months(now=in_months(1), actor=operator())
    assert ClosingDocument.objects.filter(organisation=organisation).count() == 1


def test_a_month_is_not_closed_before_its_last_charges_are_committed(organisation: Organisation) -> None:
    books.spend(organisation.owner_id, RUB)
    over = clock.start_of(in_months(1).date().replace(day=1))

    assert close(organisation, over + daily_roots.GRACE - timedelta(microseconds=1)) is None
    assert close(organisation, over + daily_roots.GRACE) is not None


def test_a_charge_taken_back_later_is_corrected_by_a_new_document(organisation: Organisation) -> None:
    kept = books.spend(organisation.owner_id, 10 * RUB)
    gone = books.spend(organisation.owner_id, 30 * RUB)
    first = close(organisation, in_months(1))
    assert first is not None
    books.reverse(organisation.owner_id, gone)

    second = close(organisation, in_months(2))
    again = close(organisation, in_months(2))
    books.reverse(organisation.owner_id, kept)
    third = close(organisation, in_months(2))

    assert second is not None
    assert third is not None
    assert again is None
    assert [each.amount_micro_rub for each in (first, second, third)] == [40 * RUB, 10 * RUB, 0]
    assert (second.corrects_id, third.corrects_id) == (first.id, second.id)
    assert [each.month for each in (second, third)] == [first.month] * 2
    assert second.document_date == day_of(in_months(2))
    assert closing_document_out(second).corrects == first.title


def test_a_correction_is_taxed_by_the_rate_of_its_month(organisation: Organisation) -> None:
    """The table of rates is append-only: the new one is added in a transaction that is taken back."""
    books.spend(organisation.owner_id, 122 * RUB)
    gone = books.spend(organisation.owner_id, RUB)
    first = close(organisation, in_months(1))
    books.reverse(organisation.owner_id, gone)
    within = inspect.unwrap(closing.close_month)

    with transaction.atomic():
        VatRate.objects.create(valid_from=day_of(in_months(1)), rate_bp=2500)
        second = within(
            organisation_id=organisation.id,
            month=today().replace(day=1),
            now=in_months(2),
            actor=operator(),
        )
        transaction.set_rollback(True)

    assert first is not None
    assert second is not None
    assert (second.amount_micro_rub, second.document_date) == (122 * RUB, day_of(in_months(2)))
    assert (second.vat_rate_bp, second.vat_micro_rub) == (first.vat_rate_bp, 22 * RUB)


def test_a_charge_taken_back_within_its_month_was_never_rendered(organisation: Organisation) -> None:
    books.reverse(organisation.owner_id, books.spend(organisation.owner_id, RUB))

    assert close(organisation, in_months(1)) is None
    assert close(organisation, in_months(1), date(2020, 1, 1)) is None
    assert not ClosingDocument.objects.filter(organisation=organisation).exists()


def test_what_an_operator_gave_is_not_rendered_for_money() -> None:
    organisation = firm()
    owner = organisation.owner_id
    import_(pays(invoice(owner, 4_000)))
    books.topped_up(owner, 6_000 * RUB)
    asking = Asking(reason="Поздний ответ", ticket="", key=str(uuid7()), now=clock.now(), actor=operator())
    acts.adjust(customer_id=owner, amount_micro_rub=500 * RUB, asking=asking)
    books.spend(owner, 9_900 * RUB)
    books.spend(owner, 600 * RUB)  # the last of what was paid, and all that was given
    assert money_queries.balance(owner, now=clock.now()).balance_micro_rub == 0

    document = close(organisation, in_months(1))

    assert document is not None
    assert (document.rendered_micro_rub, document.amount_micro_rub) == (10_000 * RUB, 10_000 * RUB)
    assert [line["amount_micro_rub"] for line in document.lines] == [10_000 * RUB]


def test_plans_are_a_line_and_what_they_gave_is_paid_with_them(organisation: Organisation) -> None:
    owner, version = User.objects.get(pk=organisation.owner_id), world.plan(300, 200, cap=0)
    world.activate(owner, version, clock.now())
    offers.withdraw(code=version.plan_id, reason="Проверка закончилась", actor=world.OPERATOR)
    books.credit(owner.id, 40 * RUB, kind=LotKind.BONUS)
    books.spend(owner.id, 150 * RUB)  # all of it granted
    mixed = books.spend(owner.id, 80 * RUB + 1)  # 50 granted, 30 and a micro-rouble paid in

    first = close(organisation, in_months(1))
    books.reverse(owner.id, mixed)
    second = close(organisation, in_months(2))

    assert first is not None
    assert second is not None
    month = in_words.month(first.month)
    assert [(line["name"], line["amount_micro_rub"]) for line in first.lines] == [
        (f"Услуги сервиса Plyrum за {month}", 30 * RUB),
        (f"Доступ по тарифу за {month}", 300 * RUB),
    ]
    assert (first.rendered_micro_rub, first.amount_micro_rub) == (330 * RUB + 1, 330 * RUB)
    assert first.vat_micro_rub == 59_510_000  # 330 x 22 / 122
    assert [(line["name"], line["amount_micro_rub"]) for line in second.lines] == [
        (f"Доступ по тарифу за {month}", 300 * RUB)
    ]
    assert (second.corrects_id, close(organisation, in_months(2))) == (first.id, None)
    now = clock.now()
    act = closing.reconcile(organisation=organisation, first_day=today(), last_day=today(), now=now)
    assert act.closing_micro_rub == money_queries.balance(owner.id, now=now).total_micro_rub
    assert {row.name: row.amount_micro_rub for row in act.rows}["Доступ по тарифу"] == -300 * RUB


def test_gifts_alone_are_no_services_to_a_firm() -> None:
    customer = firm()
    books.credit(customer.owner_id, 40 * RUB, kind=LotKind.BONUS)
    books.spend(customer.owner_id, 30 * RUB)

    assert close(customer, in_months(1)) is None


def test_only_what_is_not_closed_is_read(organisation: Organisation, ledger_clock: LedgerClock) -> None:
    owner = organisation.owner_id
    charges = []
    for month, count in ((0, 90), (1, 90), (2, 3)):
        if month:
            ledger_clock.stand_at(in_months(month))
        charges.append([books.spend(owner, RUB) for _ in range(count)])

    def rows_to_close(at: datetime) -> int:
        with CaptureQueriesContext(connection) as asked:
            closing.close_months(now=at, actor=operator())
        return sum(
            _rows_read(each["sql"])
            for each in asked
            if "purchased" in each["sql"] and owner.hex in each["sql"]
        )

    assert rows_to_close(in_months(2)) > 360  # found to be due, and again when it is made
    assert rows_to_close(in_months(2)) == 0
    assert rows_to_close(in_months(3)) < 60
    ledger_clock.stand_at(in_months(3))
    books.reverse(owner, charges[0][0])
    assert 180 < rows_to_close(in_months(4)) < 300
    assert rows_to_close(in_months(4)) < 60  # of the month in which nothing was charged
    told = ClosingDocument.objects.filter(organisation=organisation).order_by("id")
    assert [each.amount_micro_rub // RUB for each in told] == [90, 90, 3, 89]
    assert told[3].corrects_id == told[0].id


def _rows_read(query: str) -> int:
    """Rows of the ledger that the statement reads, thrown away ones included."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the table of a test is small
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query)
        waiting, read = [cursor.fetchone()[0][0]["Plan"]], 0
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", ())
        if node.get("Relation Name") == "billing_ledgerentry":
            read += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return int(read)


@pytest.mark.parametrize("act", ["UPDATE {} SET amount_micro_rub = 1", "DELETE FROM {}"])
def test_the_database_refuses_to_change_a_closing_document(organisation: Organisation, act: str) -> None:
    books.spend(organisation.owner_id, RUB)
    document = close(organisation, in_months(1))
    assert document is not None
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(act.format("payments_closingdocument"))
    with pytest.raises(IntegrityError), transaction.atomic():
        ClosingDocument.objects.create(**_facts(document), number=10**6)


def _facts(document: ClosingDocument) -> dict[str, object]:
    """Everything of a document but its id and number."""
    names = [field.attname for field in ClosingDocument._meta.concrete_fields]
    return {name: getattr(document, name) for name in names if name not in ("id", "number")}


def test_the_reconciliation_act_equals_the_ledger(organisation: Organisation) -> None:
    owner = organisation.owner_id
    gone = books.spend(owner, 30_000_001)
    books.spend(owner, 10 * RUB)
    books.reverse(owner, gone)
    books.debit(owner, 5 * RUB)
    yesterday, now = today() - timedelta(days=1), clock.now()

    act = closing.reconcile(organisation=organisation, first_day=yesterday, last_day=today(), now=now)
    before = closing.reconcile(organisation=organisation, first_day=yesterday, last_day=yesterday, now=now)

    assert act.opening_micro_rub == before.closing_micro_rub == 0
    assert act.closing_micro_rub == money_queries.balance(owner, now=now).total_micro_rub == 4_985 * RUB
    assert {row.name: row.amount_micro_rub for row in act.rows} == {
        "Поступление на расчётный счёт": 5_000 * RUB,
        "Оказаны услуги": -40_000_001,
        "Отмена оказанных услуг": 30_000_001,
        "Корректировка": -5 * RUB,
    }
    assert {row.day for row in act.rows} == {today()}


@pytest.mark.parametrize(("first", "last"), [(1, 0), (0, -1), (400, 0)])
def test_a_period_that_is_none_is_refused(organisation: Organisation, first: int, last: int) -> None:
    days = (today() - timedelta(days=first), today() - timedelta(days=last))
    first_day, last_day = days if first == 400 else reversed(days) if first else days

    with pytest.raises(InvalidRequest):
        closing.reconcile(organisation=organisation, first_day=first_day, last_day=last_day, now=clock.now())
