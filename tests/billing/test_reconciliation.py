"""Usage against ledger: real damage becomes findings, which operators work on and the checks close."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client

from accounts.models import User
from auditlog.actors import Actor
from auditlog.models import AuditEvent, JobRun
from billing import reconciliation, tasks
from billing.errors import FindingClosed
from billing.models import UsageEvent
from billing.verification import BooksBrokenError, Finding
from billing.watch_models import ReconciliationFinding
from plyrum import clock as real_clock
from plyrum.errors import NotFound
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.fixtures import LedgerClock

NOON = datetime(2036, 5, 10, 9, tzinfo=UTC)  # no other test works near this time
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHARGE, USAGE = "charge", "usage"
GUARDED = ("billing_usageevent", "billing_ledgerentry")
EMPTIED = (*GUARDED, "billing_lot", "billing_hold", "billing_wallet")
# Damage to the one usage row of 10 micro-RUB: what finds it, of what, and in which words.
DAMAGE = {
    "UPDATE billing_usageevent SET charged_micro_rub = 9 WHERE customer_id = %s": {
        ("R01", "2036-05-10", "9 by usage, 10 by entries"),
        ("R03", CHARGE, "10 taken, 9"),
    },
    "UPDATE billing_usageevent SET ledger_entry_id = NULL WHERE customer_id = %s": {
        ("R02", USAGE, "charged 10, entry none"),
        ("R03", CHARGE, "10 taken, no usage"),
    },
    "UPDATE billing_usageevent SET ledger_entry_id = id WHERE customer_id = %s": {
        ("R02", USAGE, "charged 10, entry none"),
        ("R03", CHARGE, "10 taken, no usage"),
    },
    "DELETE FROM billing_usageevent WHERE customer_id = %s": {
        ("R01", "2036-05-10", "0 by usage, 10 by entries"),
        ("R03", CHARGE, "10 taken, no usage"),
    },
    "UPDATE billing_usageevent SET created_at = created_at + interval '12 hours' WHERE customer_id = %s": {
        ("R01", "2036-05-10", "0 by usage, 10 by entries"),
        ("R01", "2036-05-11", "10 by usage, 0 by entries"),
    },
}


@dataclass(frozen=True)
class Spent:
    """A customer with one charge and its usage row, and the owner's connection that can damage them."""

    customer: UUID
    charge: UUID
    usage: UUID
    owner: BaseDatabaseWrapper

    def damage(self, statement: str) -> None:
        self._run(statement)

    def mend(self) -> None:
        self._run("DELETE FROM billing_usageevent WHERE customer_id = %s")
        self._run("INSERT INTO billing_usageevent SELECT * FROM kept WHERE customer_id = %s")

    def _run(self, statement: str) -> None:
        with self.owner.cursor() as cursor:
            for table in GUARDED:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER frozen")
            cursor.execute(statement, [self.customer])
            for table in GUARDED:
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER frozen")


@pytest.fixture
def spent(clock: LedgerClock, owner: BaseDatabaseWrapper) -> Iterator[Spent]:
    """The books are right again afterwards, and no finding of that time is left."""
    clock.stand_at(NOON)
    customer = books.funded(10)
    charge = books.spend(customer, 10)
    clock.run_on()
    with owner.cursor() as cursor:
        cursor.execute("DELETE FROM billing_reconciliationfinding")  # what others left is looked for again
        cursor.execute(
            "CREATE TEMP TABLE kept AS SELECT * FROM billing_usageevent WHERE customer_id = %s", [customer]
        )
    usage = UsageEvent.objects.get(customer_id=customer).id
    found = Spent(customer, charge, usage, owner)
    yield found
    found.mend()
    for table in EMPTIED:  # the next of these tests finds an empty day
        found.damage(f"DELETE FROM {table} WHERE customer_id = %s")  # noqa: S608 - our own names
    with owner.cursor() as cursor:
        cursor.execute("DELETE FROM billing_reconciliationfinding WHERE first_seen_at > '2036-01-01'")


def standing() -> dict[str, ReconciliationFinding]:
    rows = ReconciliationFinding.objects.standing().filter(first_seen_at__gte=NOON)
    return {f"{row.check_id} {row.object}": row for row in rows}


@pytest.mark.parametrize("statement", DAMAGE, ids=range(len(DAMAGE)))
def test_damage_becomes_findings_which_go_when_it_is_mended(spent: Spent, statement: str) -> None:
    now = NOON + DAY
    assert reconciliation.reconcile(now=now) == {"found": 0, "new": 0, "gone": 0}

    spent.damage(statement)
    counts = reconciliation.reconcile(now=now + HOUR)

    names = {str(spent.charge): CHARGE, str(spent.usage): USAGE}
    found = {(row.check_id, names.get(row.object, row.object), row.detail) for row in standing().values()}
    assert found == DAMAGE[statement]
    assert counts == {"found": len(found), "new": len(found), "gone": 0}

    spent.mend()
    assert reconciliation.reconcile(now=now + 2 * HOUR) == {"found": 0, "new": 0, "gone": len(found)}
    assert standing() == {}
    row = ReconciliationFinding.objects.filter(first_seen_at=now + HOUR).first()
    assert row is not None
    assert (row.state, row.decided_by_id, row.decided_at) == ("closed", None, now + 2 * HOUR)


def test_finding_lives_as_long_as_its_damage(spent: Spent) -> None:
    operator = Actor.operator(uuid7())
    spent.damage("DELETE FROM billing_usageevent WHERE customer_id = %s")
    name, first = f"R03 {spent.charge}", NOON + HOUR

    def run(after: timedelta) -> ReconciliationFinding:
        reconciliation.reconcile(now=first + after)
        return standing()[name]

    found = run(0 * HOUR)
    again = run(HOUR)
    assert (again.pk, again.first_seen_at, again.last_seen_at) == (found.pk, first, first + HOUR)
    reconciliation.take(finding_id=found.pk, now=first, actor=operator)
    reconciliation.explain(finding_id=found.pk, reason="Перенос данных", now=first, actor=operator)
    assert str(run(20 * DAY).owner_id) == operator.id  # long after the window of five days
    assert run(21 * DAY).state == "explained"

    spent.mend()
    spent.damage("UPDATE billing_usageevent SET charged_micro_rub = 8 WHERE customer_id = %s")
    assert run(22 * DAY).state == "open"  # it says something else than what was explained
    reconciliation.close(finding_id=found.pk, evidence="Исправлено", now=first, actor=operator)
    with pytest.raises(FindingClosed):
        reconciliation.take(finding_id=found.pk, now=first, actor=operator)
    with pytest.raises(NotFound):
        reconciliation.take(finding_id=uuid7(), now=first, actor=operator)

    closed_too_early = reconciliation.store(
        [Finding("R03", "", str(spent.charge), "10 taken, 8")], covered=["R03"], now=first + 23 * DAY
    )
    assert closed_too_early == {"found": 1, "new": 0, "gone": 0}
    assert standing()[name].state == "open"
    reconciliation.store([], covered=["R03"], now=first)  # a run that began long ago and ends late
    assert name in standing()
    cut = [Finding("R03", "", "...", "and more")]
    reconciliation.store(cut, covered=["R03"], now=first + 24 * DAY)
    assert name in standing()
    actions = AuditEvent.objects.filter(subject=f"finding:{found.pk}").order_by("seq")
    assert [event.action.rpartition(".")[2] for event in actions] == ["taken", "explained", "closed"]


def test_two_things_about_one_object_are_one_row_that_says_both() -> None:
    check, now = f"T{uuid7().hex[-6:]}", real_clock.now()

    def say(*details: str) -> str:
        found = [Finding(check, "", "thing", detail) for detail in details]
        reconciliation.store(found, covered=[check], now=now)
        return ReconciliationFinding.objects.get(check_id=check).detail

    assert say("b is wrong", "a is wrong", "b is wrong") == "a is wrong; b is wrong"
    ReconciliationFinding.objects.filter(check_id=check).update(state="explained")
    assert say("b is wrong", "a is wrong") == "a is wrong; b is wrong"
    assert ReconciliationFinding.objects.get(check_id=check).state == "explained"
    long = say(*(f"{number:04} is wrong" for number in range(999)))
    assert len(long) < reconciliation.DETAIL_CHARS + 20
    assert say(*(f"{number:04} is wrong" for number in range(998))) != long  # seen behind the cut too
    assert ReconciliationFinding.objects.get(check_id=check).state == "open"
    ReconciliationFinding.objects.filter(check_id=check).delete()


def test_daily_proof_and_hourly_job_leave_findings(spent: Spent) -> None:
    spent.damage("UPDATE billing_usageevent SET charged_micro_rub = 9 WHERE customer_id = %s")
    now = real_clock.now()

    with pytest.raises(BooksBrokenError):
        tasks.prove(now)

    rows = ReconciliationFinding.objects.standing()
    proof = rows.get(check_id="V28", object=str(spent.charge))
    assert (proof.state, proof.detail) == ("open", "10 taken, 9")
    spent.mend()
    slot = str(uuid7())
    assert (tasks.reconcile(slot=slot), tasks.reconcile(slot=slot)) == ("done", "skipped")
    assert set(JobRun.objects.get(name="billing.reconcile", slot=slot).counts) == {"found", "new", "gone"}
    ReconciliationFinding.objects.filter(last_seen_at=now).delete()  # of what other tests made by hand


@pytest.fixture
def finding() -> Iterator[ReconciliationFinding]:
    now = real_clock.now()
    found = ReconciliationFinding.objects.create(
        check_id="R03", object=str(uuid7()), detail="10 taken, 9", first_seen_at=now, last_seen_at=now
    )
    yield found
    found.delete()


def page_of(finding: ReconciliationFinding) -> str:
    return f"/admin/billing/reconciliationfinding/{finding.pk}/"


def test_operators_see_take_explain_and_close(client: Client, finding: ReconciliationFinding) -> None:
    operator: User = factories.operator("finance")
    client.force_login(operator)
    form = {"_form_submitted": "True", "reason": "Разобрались с причиной"}

    index = client.get("/admin/").content.decode()
    assert "Находки сверки" in index
    listed = client.get(
        "/admin/billing/reconciliationfinding/", {"state__exact": "open", "q": finding.object}
    )
    assert "10 taken, 9" in listed.content.decode()
    shown = client.get(page_of(finding) + "change/").content.decode()
    for page in (listed.content.decode(), shown):
        assert "За ответ списано столько, сколько говорят его строки" in page

    client.post(page_of(finding) + "take/")
    short = client.post(page_of(finding) + "explain/", form | {"reason": "да"})
    assert "не менее 10" in short.content.decode()
    client.post(page_of(finding) + "explain/", form)
    finding.refresh_from_db()
    assert (finding.state, finding.owner_id, finding.reason) == ("explained", operator.id, form["reason"])
    client.post(page_of(finding) + "close/", form | {"reason": "Проводка отменена, чек 12"})
    finding.refresh_from_db()
    assert (finding.state, finding.decided_by_id) == ("closed", operator.id)
    assert "explain/" not in client.get(page_of(finding) + "change/").content.decode()


def test_support_sees_and_may_not_decide(client: Client, finding: ReconciliationFinding) -> None:
    client.force_login(factories.operator("support"))

    assert "explain/" not in client.get(page_of(finding) + "change/").content.decode()
    assert client.post(page_of(finding) + "take/").status_code == 403
    client.force_login(factories.customer())
    assert client.get(page_of(finding) + "change/").status_code in (302, 403)
    finding.refresh_from_db()
    assert (finding.state, finding.owner_id) == ("open", None)
