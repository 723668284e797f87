"""Invoices: a frozen snapshot, a number, VAT by the dated table; issued once for each key, closed once."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from accounts.models import Notice
from auditlog.actors import Actor
from billing.errors import IdempotencyMismatch
from billing.models import VatRate
from payments.invoices import issuing, organisations
from payments.invoices.errors import (
    InvoiceAmountOutOfRange,
    InvoiceClosed,
    InvoiceNotFound,
    InvoicesNotConfigured,
    OrganisationRequired,
    WrongRequisites,
)
from payments.invoices.models import DocumentCounter, Invoice
from payments.invoices.requisites import Party
from plyrum import clock
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from tests import factories
from tests.payments.invoices.firm import BUYER, REASON, actions, firm, invoice, operator
from tests.payments.shop import RUB

# A Friday to come, for the offer is in force since the suite began; in Moscow it is Saturday already.
FRIDAY = (clock.now() + timedelta(days=7 - (clock.now().weekday() - 4) % 7)).replace(hour=22, minute=30)
SATURDAY = FRIDAY.date() + timedelta(days=1)
LAST_DAY = SATURDAY + timedelta(days=6)


def test_an_invoice_says_everything_an_accountant_needs() -> None:
    organisation = firm()

    row = invoice(organisation.owner_id, 25_000, now=FRIDAY)

    assert (row.status, row.amount_micro_rub, row.vat_rate_bp) == ("issued", 25_000 * RUB, 2200)
    assert row.vat_micro_rub == 4_508_200_000  # 22/122, half up to a kopeck
    assert (row.document_date, row.valid_until) == (SATURDAY, LAST_DAY)
    assert row.title == f"{SATURDAY:%y}-{row.number:06d}"
    assert row.buyer["inn"] == BUYER.inn
    assert row.seller["account"] == "40702810600000000001"
    assert row.purpose == (
        f"Оплата по счёту {row.title} от {SATURDAY:%d.%m.%Y}, аванс за услуги сервиса Plyrum. "
        "В т.ч. НДС 22 % – 4 508,20 руб."
    )
    assert len(row.purpose) <= 210
    assert actions(f"invoice:{row.id}") == ["payments.invoice.issued"]
    notice = Notice.objects.get(key=f"invoice_issued:{row.id}")
    assert (notice.user_id, notice.facts["number"]) == (organisation.owner_id, row.title)


def test_later_requisites_do_not_reach_an_issued_invoice() -> None:
    organisation = firm()
    row = invoice(organisation.owner_id)
    changed = Party.of(BUYER.as_dict() | {"name": "АО «Ромашка»"})
    customer = Actor.customer(organisation.owner_id)

    organisations.save(owner_id=organisation.owner_id, party=changed, now=clock.now(), actor=customer)
    organisations.save(owner_id=organisation.owner_id, party=changed, now=clock.now(), actor=customer)

    row.refresh_from_db()
    assert row.buyer["name"] == BUYER.name
    assert invoice(organisation.owner_id).buyer["name"] == "АО «Ромашка»"
    assert actions(f"organisation:{organisation.id}") == [
        "payments.organisation.made",
        "payments.organisation.changed",
    ]
    wrong = Party.of(BUYER.as_dict() | {"inn": "7700000008"})
    with pytest.raises(WrongRequisites) as refused:
        organisations.save(owner_id=organisation.owner_id, party=wrong, now=clock.now(), actor=customer)
    assert [each["loc"] for each in refused.value.extra["errors"]] == [["body", "inn"]]


@pytest.mark.parametrize("field", ["amount_micro_rub = 1", "number = 999999", "buyer = '{}'", "purpose = ''"])
def test_the_database_refuses_to_rewrite_an_invoice(field: str) -> None:
    row = invoice(firm().owner_id)

    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE payments_invoice SET {field} WHERE id = %s", [row.id])  # noqa: S608
    with pytest.raises(IntegrityError), transaction.atomic():
        Invoice.objects.filter(pk=row.pk).delete()


def test_numbers_follow_one_another_and_a_failed_issue_takes_none(settings: Settings) -> None:
    owner = firm().owner_id
    first = invoice(owner)
    with pytest.raises(InvoiceAmountOutOfRange):
        invoice(owner, 5_000_001)
    with pytest.raises(InvoiceAmountOutOfRange):
        invoice(owner, 99)
    with pytest.raises(OrganisationRequired):
        invoice(factories.customer().id)
    settings.IS_PRODUCTION = True
    with pytest.raises(InvoicesNotConfigured):
        invoice(owner)
    settings.IS_PRODUCTION = False

    assert invoice(owner).number == first.number + 1
    counter = DocumentCounter.objects.get(kind="invoice", year=first.year)
    assert str(counter) == f"invoice {first.year}: {counter.last}"


def test_the_same_key_is_the_same_invoice_and_another_wish_is_refused() -> None:
    owner, key = firm().owner_id, str(uuid7())

    first = invoice(owner, key=key)

    assert invoice(owner, key=key).id == first.id
    assert invoice(firm().owner_id, key=key).id != first.id
    with pytest.raises(IdempotencyMismatch):
        invoice(owner, 6_000, key=key)


def test_a_counter_that_fell_behind_gives_no_number_twice_and_uses_up_no_key() -> None:
    owner, key, now = firm().owner_id, str(uuid7()), FRIDAY.replace(year=FRIDAY.year + 9, day=1)
    first = invoice(owner, now=now)
    counter = DocumentCounter.objects.filter(kind="invoice", year=first.year)
    counter.update(last=first.number - 1)  # as if restored from an older copy

    for each in ("", key):
        with pytest.raises(IntegrityError, match="payments_invoice_one_per_number"):
            invoice(owner, key=each, now=now)
    counter.update(last=first.number)

    assert list(Invoice.objects.filter(customer_id=owner)) == [first]
    assert Notice.objects.filter(user_id=owner, letter="invoice_issued").count() == 1
    assert invoice(owner, key=key, now=now).number == first.number + 1


def test_an_invoice_without_vat_says_so() -> None:
    """The table is append-only: the row is added in a transaction that is taken back."""
    organisation = firm()
    with transaction.atomic():
        VatRate.objects.create(valid_from=date(2031, 1, 1), rate_bp=0)
        facts = issuing.snapshot(
            organisation,
            BUYER,
            services={"Услуги": RUB},
            day=date(2031, 1, 1),
            taxed_on=date(2031, 1, 1),
            now=clock.now(),
        )
        row = Invoice(number=1, **facts)
        assert (row.vat_rate_bp, row.vat_micro_rub) == (0, 0)
        assert issuing.purpose(row).endswith("НДС не облагается.")
        transaction.set_rollback(True)


def test_voiding_needs_a_reason_and_happens_once() -> None:
    row = invoice(firm().owner_id)
    with pytest.raises(InvalidRequest):
        issuing.void(invoice_id=row.id, reason="  коротко ", now=clock.now(), actor=operator())

    voided = issuing.void(invoice_id=row.id, reason=REASON, now=clock.now(), actor=operator())

    assert (voided.status, voided.closed_at is not None) == ("void", True)
    with pytest.raises(InvoiceClosed) as refused:
        issuing.void(invoice_id=row.id, reason=REASON, now=clock.now(), actor=operator())
    assert refused.value.extra == {"status": "void"}
    with pytest.raises(InvoiceNotFound):
        issuing.void(invoice_id=uuid7(), reason=REASON, now=clock.now(), actor=operator())
    assert actions(f"invoice:{row.id}") == ["payments.invoice.issued", "payments.invoice.voided"]


def test_invoices_expire_after_their_last_day_in_moscow() -> None:
    row = invoice(firm().owner_id, now=FRIDAY)
    last_moment = datetime.combine(LAST_DAY, time(20, 59), UTC)

    issuing.expire(now=last_moment, actor=operator())
    row.refresh_from_db()
    assert row.status == "issued"
    assert issuing.expire(now=last_moment + timedelta(minutes=1), actor=operator()) >= 1

    row.refresh_from_db()
    assert (row.status, row.closed_at) == ("expired", None)
