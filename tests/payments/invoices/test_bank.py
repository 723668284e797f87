"""Bank lines: what agrees is credited once, the rest waits in suspense for people. Never a guessed wallet."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import Settings

from accounts.models import Notice
from auditlog.actors import Actor
from billing import acts, verification
from billing import queries as money_queries
from billing.acts import Asking
from billing.errors import (
    OperatorRequestChanged,
    OperatorRequestClosed,
    OperatorRequestNotFound,
    OwnWallet,
    SecondPersonRequired,
)
from billing.models import LedgerEntry
from payments.invoices import bank, bank_files, closing, issuing, queries, seller
from payments.invoices.errors import (
    BankLineClosed,
    BankLineNotFound,
    InvoiceClosed,
    InvoiceDiffers,
    InvoiceNotFound,
    WrongBankFile,
)
from payments.invoices.models import BankDecision, BankLine, BankStatement, Organisation
from payments.tasks import settle_bank_lines
from plans import offers
from plyrum import clock
from plyrum.errors import InvalidRequest
from plyrum.ids import uuid7
from tests.billing import books
from tests.payments.invoices.firm import (
    INN,
    REASON,
    Paid,
    actions,
    attach,
    exchange,
    firm,
    give_back,
    import_,
    invoice,
    operator,
    pays,
    today,
)
from tests.payments.shop import RUB
from tests.threads import at_once

ABOVE = 100_001


def balance(owner: UUID) -> int:
    return money_queries.balance(owner, now=clock.now()).balance_micro_rub


def moves(line: BankLine) -> list[tuple[str, str, int]]:
    """What the ledger says about a line: (debit, credit, micro-RUB), in order."""
    rows = LedgerEntry.objects.filter(source_type="bank_line", source_id=str(line.id)).order_by("created_at")
    return [(row.debit_account, row.credit_account, row.amount_micro_rub) for row in rows]


def test_a_line_that_names_invoice_payer_and_sum_is_credited() -> None:
    row = invoice(firm().owner_id, 5_000)

    (line,) = import_(pays(row))

    assert (line.status, line.reason, line.invoice_id) == ("credited", "", row.id)
    assert moves(line) == [("bank", "wallet", 5_000 * RUB)]
    assert balance(row.customer_id) == 5_000 * RUB
    row.refresh_from_db()
    assert row.status == "paid"
    assert actions(f"bank_line:{line.id}") == ["payments.bank_line.credited"]
    assert Notice.objects.get(key=f"invoice_paid:{row.id}").user_id == row.customer_id
    books.assert_right(row.customer_id)


def test_a_transfer_of_a_packs_sum_brings_its_bonus_once() -> None:
    row = invoice(firm().owner_id, 6_543)
    pack = offers.offer_pack(
        amount_micro_rub=6_543 * RUB,
        bonus_micro_rub=43 * RUB,
        bonus_days=None,
        reason=REASON,
        actor=operator(),
    )
    content = exchange(pays(row, number="6543"))

    for _ in range(2):
        bank.import_file(content=content, now=clock.now(), actor=operator())
    other = invoice(row.customer_id, 6_543)
    (line,) = import_(pays(other, purpose="за услуги"))
    attach(line, other)

    assert [(lot.kind, lot.amount_micro_rub // RUB) for lot in books.lots(row.customer_id)] == [
        ("purchased", 6_543), ("bonus", 43), ("purchased", 6_543), ("bonus", 43)
    ]  # fmt: skip
    bonus = LedgerEntry.objects.get(key=f"bonus:pack:{line.id}")
    assert (bonus.source_type, bonus.source_id) == ("bank_line", str(line.id))
    assert not verification.examine(wallets=[row.customer_id]).findings
    told = closing.reconcile(
        organisation=Organisation.objects.get(owner_id=row.customer_id),
        first_day=today(), last_day=today(), now=clock.now(),
    )  # fmt: skip
    assert {each.name: each.amount_micro_rub // RUB for each in told.rows} == {
        closing.BANK_TRANSFER: 13_086, "Бонус": 86
    }  # fmt: skip
    offers.withdraw_pack(pack_id=pack.pk, reason=REASON, actor=operator())


def test_the_same_file_imported_twice_credits_once() -> None:
    """Named regression: redelivered success credits twice."""
    row = invoice(firm().owner_id)
    content = exchange(pays(row, number="42"))

    first, second = (bank.import_file(content=content, now=clock.now(), actor=operator()) for _ in range(2))
    other = bank.import_file(
        content=exchange(pays(row, number="42"), Paid("1.00", "x")), now=clock.now(), actor=operator()
    )

    assert [(each.incoming, each.fresh) for each in (first, second, other)] == [(1, 1), (1, 0), (2, 1)]
    assert balance(row.customer_id) == 5_000 * RUB
    assert BankLine.objects.filter(invoice=row).count() == 1


def test_equal_lines_of_one_file_are_as_many_transfers_and_counted_once() -> None:
    row = invoice(firm().owner_id)
    equal, other = pays(row, number="4242", amount="5000.00"), Paid("3.00", "x", number="4343")

    def told(*paid: Paid) -> BankStatement:
        return bank.import_file(content=exchange(*paid), now=clock.now(), actor=operator())

    statements = [
        told(equal), told(equal, other, equal), told(equal, other, equal), told(equal), told(other, equal),
        told(equal, equal, equal),
    ]  # fmt: skip

    assert [each.fresh for each in statements] == [1, 2, 0, 0, 0, 1]
    lines = list(BankLine.objects.filter(number="4242", payer_account=equal.account).order_by("ordinal"))
    assert [(line.ordinal, line.status, line.reason) for line in lines] == [
        (1, "credited", ""), (2, "suspense", "invoice_closed"), (3, "suspense", "invoice_closed")
    ]  # fmt: skip
    assert [moves(line) for line in lines] == [
        [("bank", "wallet", 5_000 * RUB)], *[[("bank", "suspense", 5_000 * RUB)]] * 2
    ]  # fmt: skip
    again = invoice(row.customer_id)
    attach(lines[1], again)
    assert balance(row.customer_id) == 10_000 * RUB
    books.assert_right(row.customer_id)


def test_a_number_filled_up_with_zeros_is_the_same_number() -> None:
    row = invoice(firm().owner_id)

    told = [
        bank.import_file(content=exchange(pays(row, number=number)), now=clock.now(), actor=operator())
        for number in ("000142", "142", "0142")
    ]

    assert [each.fresh for each in told] == [1, 0, 0]
    assert BankLine.objects.get(invoice=row).number == "142"


def test_what_does_not_agree_goes_to_suspense_with_its_reason() -> None:
    mine, theirs, paid, void = (invoice(firm().owner_id) for _ in range(4))
    import_(pays(paid))
    issuing.void(invoice_id=void.id, reason=REASON, now=clock.now(), actor=operator())
    cases = {
        "no_number": pays(mine, purpose="за услуги"),
        "unknown_invoice": pays(mine, purpose="по счёту 25-000001"),
        "several_invoices": pays(mine, purpose=f"{mine.title} и {theirs.title}"),
        "other_payer": pays(mine, inn="7830002293"),
        "other_amount": pays(mine, amount="4999.99"),
        "invoice_closed": pays(paid),
    }

    lines = import_(*cases.values(), pays(void), pays(mine, inn=""))

    assert [line.reason for line in lines] == [*cases, "invoice_closed", "other_payer"]
    assert {line.status for line in lines} == {"suspense"}
    for line in lines:
        assert moves(line) == [("bank", "suspense", line.amount_micro_rub)]
    assert [balance(row.customer_id) for row in (mine, theirs, paid, void)] == [0, 0, 5_000 * RUB, 0]
    mine.refresh_from_db()
    assert mine.status == "issued"
    assert mine in queries.suggestions(lines[4])
    assert queries.suggestions(lines[7]) == [mine]
    assert paid not in queries.suggestions(lines[5])


def test_a_late_payment_of_an_expired_invoice_is_credited() -> None:
    row = invoice(firm().owner_id)
    issuing.expire(now=clock.now() + timedelta(days=30), actor=operator())
    row.refresh_from_db()
    assert row.status == "expired"

    (line,) = import_(pays(row))

    assert line.status == "credited"
    assert balance(row.customer_id) == 5_000 * RUB


def test_a_wrong_file_stores_nothing_and_a_crash_is_made_good() -> None:
    row = invoice(firm().owner_id)
    statements = BankStatement.objects.count()
    with pytest.raises(WrongBankFile):
        bank.import_file(content=exchange(pays(row))[:-20], now=clock.now(), actor=operator())
    assert BankStatement.objects.count() == statements

    file = bank_files.parse(exchange(pays(row)), own_account=row.seller["account"])
    _, (line_id,) = bank._store(file, "0" * 64, clock.now(), operator())  # and then the process dies
    assert balance(row.customer_id) == 0
    assert bank.settle_left_over(now=clock.now(), actor=operator()) >= 1

    assert BankLine.objects.get(pk=line_id).status == "credited"
    assert bank.settle(line_id=line_id, now=clock.now(), actor=operator()).status == "credited"
    assert balance(row.customer_id) == 5_000 * RUB


def test_the_rest_of_a_large_file_is_settled_by_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "SETTLED_AT_ONCE", 1)

    lines = import_(*(Paid("1.00", "x") for _ in range(3)))
    assert sorted(line.status for line in lines) == ["new", "new", "suspense"]
    settle_bank_lines()

    assert set(
        BankLine.objects.filter(pk__in=[line.pk for line in lines]).values_list("status", flat=True)
    ) == {"suspense"}


def test_an_operator_attaches_a_line_to_an_invoice_of_its_amount() -> None:
    row, dearer, done = (invoice(firm().owner_id, rub) for rub in (5_000, 6_000, 5_000))
    import_(pays(done))
    (line,) = import_(pays(row, purpose="за услуги", inn="7830002293"))

    with pytest.raises(InvoiceDiffers):
        attach(line, dearer)
    with pytest.raises(InvoiceClosed):
        attach(line, done)
    with pytest.raises(OwnWallet):
        attach(line, row, Actor.operator(row.customer_id))
    with pytest.raises(InvoiceNotFound):
        bank.attach(line_id=line.id, invoice_id=uuid7(), reason=REASON, now=clock.now(), actor=operator())
    with pytest.raises(BankLineNotFound):
        bank.attach(line_id=uuid7(), invoice_id=row.id, reason=REASON, now=clock.now(), actor=operator())
    with pytest.raises(InvalidRequest):
        bank.attach(line_id=line.id, invoice_id=row.id, reason="так", now=clock.now(), actor=operator())
    decision = attach(line, row)

    assert (decision.state, decision.checker_id) == ("done", None)
    assert moves(line) == [("bank", "suspense", 5_000 * RUB), ("suspense", "wallet", 5_000 * RUB)]
    assert balance(row.customer_id) == 5_000 * RUB
    line.refresh_from_db()
    assert (line.status, line.invoice_id, line.reason) == ("credited", row.id, "")
    with pytest.raises(BankLineClosed):
        give_back(line)
    assert actions(f"bank_line:{line.id}")[1:] == [
        "payments.bank_line.credited",
        "payments.bank_line.resolved",
    ]
    books.assert_right(row.customer_id)


def test_a_returned_line_leaves_suspense_and_no_wallet_moves() -> None:
    row = invoice(firm().owner_id)
    (line,) = import_(pays(row, amount="1.00"))

    assert give_back(line).state == "done"

    line.refresh_from_db()
    assert (line.status, line.invoice_id) == ("returned", None)
    assert moves(line) == [("bank", "suspense", RUB), ("suspense", "bank", RUB)]
    with pytest.raises(BankLineClosed):
        attach(line, row)
    assert balance(row.customer_id) == 0


def approve(decision: BankDecision, actor: Actor) -> BankDecision:
    shown = bank.fingerprint(decision)
    return bank.approve(decision_id=decision.id, shown_sha256=shown, now=clock.now(), actor=actor)


def test_a_large_sum_waits_for_a_second_person() -> None:
    row = invoice(firm().owner_id, ABOVE)
    (line,) = import_(pays(row, purpose="за услуги"))
    maker, checker = operator(), operator()
    decision = attach(line, row, maker)
    assert decision.state == "waiting"
    assert balance(row.customer_id) == 0
    with pytest.raises(BankLineClosed):
        give_back(line)
    for wrong, error in ((maker, SecondPersonRequired), (Actor.operator(row.customer_id), OwnWallet)):
        with pytest.raises(error):
            approve(decision, wrong)

    done = approve(decision, checker)
    again = approve(decision, checker)

    assert (done.state, again.state, str(again.checker_id)) == ("done", "done", checker.id)
    assert balance(row.customer_id) == ABOVE * RUB
    with pytest.raises(OperatorRequestClosed):
        bank.refuse(decision_id=decision.id, reason=REASON, now=clock.now(), actor=operator())
    with pytest.raises(OperatorRequestNotFound):
        bank.approve(decision_id=uuid7(), shown_sha256="", now=clock.now(), actor=checker)


def test_only_what_was_shown_can_be_approved() -> None:
    row = invoice(firm().owner_id, ABOVE)
    (line,) = import_(pays(row, purpose="за услуги"))
    decision = attach(line, row)
    shown = BankDecision.objects.get(pk=decision.id)
    other = invoice(firm().owner_id, ABOVE)
    changes: list[dict[str, object]] = [{"reason": "Совсем другая"}, {"invoice": other}, {"kind": "return"}]
    for change in changes:
        BankDecision.objects.filter(pk=decision.id).update(**change)
        with pytest.raises(OperatorRequestChanged):
            approve(shown, operator())
        BankDecision.objects.filter(pk=decision.id).update(
            reason=shown.reason, invoice_id=shown.invoice_id, kind=shown.kind
        )
    assert (balance(row.customer_id), balance(other.customer_id)) == (0, 0)

    assert approve(shown, operator()).state == "done"


def test_a_refused_decision_leaves_the_line_in_suspense() -> None:
    row = invoice(firm().owner_id, ABOVE)
    (line,) = import_(pays(row, purpose="за услуги"))
    decision = give_back(line)

    with pytest.raises(InvalidRequest):
        bank.refuse(decision_id=decision.id, reason="нет", now=clock.now(), actor=operator())
    refused = bank.refuse(decision_id=decision.id, reason=REASON, now=clock.now(), actor=operator())

    assert refused.state == "refused"
    line.refresh_from_db()
    assert line.status == "suspense"
    assert attach(line, row).state == "waiting"
    assert moves(line) == [("bank", "suspense", ABOVE * RUB)]


def test_an_approval_that_comes_too_late_moves_nothing() -> None:
    row = invoice(firm().owner_id, ABOVE)
    (line,) = import_(pays(row, purpose="за услуги"))
    decision = attach(line, row)
    issuing.void(invoice_id=row.id, reason=REASON, now=clock.now(), actor=operator())

    with pytest.raises(InvoiceClosed):
        approve(decision, operator())

    line.refresh_from_db()
    decision.refresh_from_db()
    assert (line.status, decision.state, balance(row.customer_id)) == ("suspense", "waiting", 0)


def test_a_large_sum_in_small_parts_needs_the_second_person_too(settings: Settings) -> None:
    settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = 2
    lines = import_(*(Paid("1.50", "x") for _ in range(2)), Paid("0.50", "x"))
    maker = operator()

    states = [give_back(line, maker).state for line in lines]

    assert states == ["done", "waiting", "done"]
    assert lines[0].payer_inn == INN
    asking = Asking(reason=REASON, ticket="", key=str(uuid7()), now=clock.now(), actor=maker)
    assert (
        acts.credit(customer_id=firm().owner_id, amount_micro_rub=1, asking=asking).request.state == "waiting"
    )
    other = replace(asking, key=str(uuid7()), actor=operator())
    assert (
        acts.credit(customer_id=firm().owner_id, amount_micro_rub=2 * RUB, asking=other).request.state
        == "done"
    )
    (late,) = import_(Paid("0.01", "x"))
    assert give_back(late, other.actor).state == "waiting"


@pytest.mark.parametrize("at_once", [0, 200])
def test_a_line_that_fails_does_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch, owner: BaseDatabaseWrapper, at_once: int
) -> None:
    monkeypatch.setattr(bank, "SETTLED_AT_ONCE", at_once)
    refuse = """
        CREATE FUNCTION refuse_a_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.purpose = 'refused' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse_a_line BEFORE UPDATE ON payments_bankline
            FOR EACH ROW EXECUTE FUNCTION refuse_a_line()"""
    with owner.cursor() as cursor:
        cursor.execute(refuse)
        try:
            lines = import_(Paid("1.00", "refused"), Paid("1.00", "x"))
            if not at_once:
                settle_bank_lines()
        finally:
            cursor.execute("DROP FUNCTION refuse_a_line() CASCADE")

    assert [BankLine.objects.get(pk=line.pk).status for line in lines] == ["new", "suspense"]
    settle_bank_lines()
    assert BankLine.objects.get(pk=lines[0].pk).status == "suspense"


def test_one_file_in_two_orders_at_once_is_stored_once() -> None:
    paid = [Paid("3.00", "x", number=f"n{uuid7().hex[-15:]}") for _ in range(1500)]
    account = seller.party().account
    turns = [
        bank_files.parse(exchange(*order), own_account=account) for order in (paid, paid[::-1]) for _ in "ab"
    ]
    actor = operator()

    found = at_once(4, lambda: len(bank._store(turns.pop(), "0" * 64, clock.now(), actor)[1]))

    assert sorted(found) == [0, 0, 0, 1500]
    BankLine.objects.filter(number__in=[each.number for each in paid]).delete()
