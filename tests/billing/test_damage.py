"""Each kind of damage to the books is told by the checks it belongs to, and by no other."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.models import Notice
from billing import verification
from plyrum.ids import uuid7
from tests.billing import books
from tests.billing import damage as damage_kinds
from tests.billing.damage import CLOSE_A_DAY, COUNTER_DAMAGE, DAMAGE, GUARD_DAMAGE, ROOT_DAMAGE
from tests.billing.damaging import Books, Damage
from tests.billing.fixtures import LedgerClock

NOON = datetime(2033, 6, 1, 12, 0, tzinfo=UTC)
LATE = NOON - timedelta(minutes=11)


def found(*customers: UUID) -> set[str]:
    return {finding.check for finding in verification.examine(wallets=customers).findings}


def test_books_of_ordinary_work_are_right(kept: Books) -> None:
    books.assert_right(kept.customer)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_rows_is_told_by_its_checks(kept: Books, damage: Damage, name: str) -> None:
    statements, expected = DAMAGE[name]
    names = kept.names

    damage(statements, names)

    stranger = names["stranger"]
    assert isinstance(stranger, UUID)
    assert found(kept.customer, stranger) == expected


@pytest.mark.parametrize("name", GUARD_DAMAGE)
@pytest.mark.usefixtures("damage")
def test_damage_to_guards_is_told_by_its_check(name: str) -> None:
    statements, expected = GUARD_DAMAGE[name]
    with connection.cursor() as cursor:
        cursor.execute(statements)

    assert found() == {expected}


@pytest.mark.parametrize("name", ROOT_DAMAGE)
def test_change_of_a_closed_day_is_told_by_its_root_alone(kept: Books, damage: Damage, name: str) -> None:
    damage(CLOSE_A_DAY, kept.names)
    assert verification.examine(only=["V44"]).findings == ()

    damage(ROOT_DAMAGE[name], kept.names)

    assert found(kept.customer) == set()
    (finding,) = verification.examine(only=["V44"]).findings
    assert (finding.check, finding.object) == ("V44", "9000-01-01")


@pytest.mark.parametrize("name", COUNTER_DAMAGE)
@pytest.mark.usefixtures("damage")
def test_counter_that_is_not_its_holds_is_told(name: str) -> None:
    subject = f"user:{uuid7()}"
    books.held(books.funded(10), 10, limits=[books.limit(subject, 10)])
    assert verification.examine(only=["V29"]).findings == ()

    with connection.cursor() as cursor:
        cursor.execute(COUNTER_DAMAGE[name], [subject])

    assert [finding.check for finding in verification.examine(only=["V29"]).findings] == ["V29"]


@pytest.mark.parametrize(
    ("facts", "is_told"),
    [
        ({"next_attempt_at": LATE}, True),
        ({"next_attempt_at": LATE + timedelta(minutes=2)}, False),
        ({"outcome": "parked", "finished_at": NOON - timedelta(days=29)}, True),
        ({"outcome": "parked", "finished_at": NOON - timedelta(days=31)}, False),
        ({"outcome": "sent", "finished_at": LATE}, False),
    ],
)
def test_letter_that_waits_too_long_or_was_given_up_is_told(
    clock: LedgerClock, facts: dict[str, object], is_told: bool
) -> None:
    clock.stand_at(NOON)
    notice = Notice.objects.create(
        user_id=uuid7(), letter="balance_low", key=str(uuid7()), created_at=LATE, **facts
    )

    findings = verification.examine(only=["V31"]).findings

    assert (str(notice.pk) in {finding.object for finding in findings}) is is_told
    assert verification.examine(wallets=[notice.user_id], only=["V31"]).findings == ()
    notice.delete()


@pytest.mark.usefixtures("damage")
def test_missing_role_is_told(settings: Settings) -> None:
    settings.PLYRUM_DATABASE_ROLE = "nobody_here"

    assert found() == {"V22"}


def test_every_check_tells_a_damage_that_no_other_check_tells() -> None:
    """V01 and V08 close a circle (entries, balance, lots, uses), which cannot break in one place only."""
    alone = {check for _, expected in DAMAGE.values() if len(expected) == 1 for check in expected}
    alone |= {check for _, check in GUARD_DAMAGE.values()} | {"V29", "V31", "V44"}
    together = {check for _, expected in DAMAGE.values() for check in expected} - alone

    assert {check.id for check in verification.checks_in(verification.SQL)} == alone | together
    assert together == {"V01", "V08"}


def test_findings_name_the_object_and_what_is_wrong(kept: Books, damage: Damage) -> None:
    damage(damage_kinds.HOLD.format("amount_micro_rub = 61", "open"), kept.names)

    (finding,) = verification.examine(wallets=[kept.customer]).findings

    assert (finding.check, finding.object, finding.detail) == ("V12", str(kept.open), "61 held, 60 in shares")


def test_only_the_wallets_asked_for_are_looked_at(kept: Books, damage: Damage) -> None:
    neighbour = books.funded(10)
    damage(damage_kinds.WALLET.format("balance_micro_rub = 1"), kept.names)

    assert found(neighbour) == set()
    assert found(kept.customer) == {"V01", "V08"}


def test_very_many_findings_are_cut(kept: Books, damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_PER_CHECK", 2)
    for _ in range(3):
        books.spend(kept.customer, 1)
    damage("UPDATE billing_usageevent SET cost_micro_rub = 900 WHERE customer_id = %(customer)s", kept.names)

    findings = verification.examine(wallets=[kept.customer], only=["V27"]).findings

    assert [finding.object == "..." for finding in findings] == [False, False, True]
    monkeypatch.setattr(verification, "MOST_PER_CHECK", 4)
    findings = verification.examine(wallets=[kept.customer], only=["V27"]).findings
    assert [finding.object == "..." for finding in findings] == [False] * 4
