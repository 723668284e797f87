"""The proof of the books: its command, its nightly job, and the checks that other apps add."""

import io
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import Settings

from auditlog.models import JobRun
from billing import check_words, reconciliation, tasks, verification
from billing.management.commands import verify_ledger
from billing.verification import BooksBrokenError, Check
from billing.watch_models import ReconciliationFinding
from plyrum import clock as real_clock
from plyrum.ids import first_of, uuid7
from tests.billing import books
from tests.billing.damage import ENTRY, WALLET
from tests.billing.damaging import Books, Damage
from tests.billing.fixtures import LedgerClock

MOMENT = datetime(2025, 5, 5, 12, tzinfo=UTC)


def test_verification_reads_one_moment_and_cannot_write(settings: Settings) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.writing_check"]

    with pytest.raises(InternalError, match="read-only"):
        verification.verify(wallets=[])


def test_verification_may_take_its_time() -> None:
    with verification.one_moment(), connection.cursor() as cursor:
        shown = {}
        for name in ("transaction_isolation", "transaction_read_only", "statement_timeout"):
            cursor.execute(f"SHOW {name}")
            (shown[name],) = cursor.fetchone()

    assert list(shown.values()) == ["repeatable read", "on", "0"]


def test_verification_demands_a_transaction_of_its_own() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        verification.verify(wallets=[])


def test_other_apps_add_their_checks(settings: Settings) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.broken_promise"]

    report = verification.verify(wallets=[])

    assert [(finding.check, finding.object, finding.detail) for finding in report.findings] == [
        ("T01", "thing", "is broken")
    ]


def test_every_check_has_its_words_for_operators() -> None:
    known = {check.id for check in [*verification.checks(), *reconciliation.checks()]}

    assert known == set(check_words.PROMISES)


def test_checks_of_a_file_share_its_sources(tmp_path: Path) -> None:
    path = tmp_path / "verify.sql"
    path.write_text(
        "-- head\nWITH x AS (SELECT 1)\n\n-- check T1: one\nSELECT 1, 2\n\n-- check T2: two\nSELECT 3, 4\n"
    )

    checks = verification.checks_in(path)

    assert [(check.id, check.title) for check in checks] == [("T1", "one"), ("T2", "two")]
    assert checks[1].sql == "-- head\nWITH x AS (SELECT 1)\nSELECT 3, 4"


@pytest.mark.parametrize("check_id", ["V28", "R03"])
def test_usage_and_entries_are_not_compared_each_with_each(check_id: str) -> None:
    """Neither has an index for it: with statistics older than the rows a million of them took ten minutes."""
    (check,) = [found for found in verification.checks() + reconciliation.checks() if found.id == check_id]
    since, until = real_clock.now() - timedelta(days=5), real_clock.now()
    parameters = verification._parameters(None, None) | {
        "since": since, "until": until, "first_id": first_of(since)
    }  # fmt: skip

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_hashjoin = off")  # as dear as it seems for rows that are not known
        cursor.execute("SET LOCAL enable_mergejoin = off")
        cursor.execute("SET LOCAL enable_seqscan = off")  # cheaper than an index while the tables are small
        cursor.execute(f"EXPLAIN {check.sql}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "on billing_usageevent" in plan
    assert "Join Filter" not in plan


def test_command_is_silent_about_right_books(kept: Books) -> None:
    out, err = io.StringIO(), io.StringIO()

    call_command("verify_ledger", "--wallet", str(kept.customer), stdout=out, stderr=err)

    assert out.getvalue().startswith("The books are right: ")
    assert "1 wallets, 4 entries" in out.getvalue()
    assert len(err.getvalue().splitlines()) == len(verification.checks())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_sees_the_check_under_way(kept: Books) -> None:
    err = Terminal()

    call_command("verify_ledger", "--wallet", str(kept.customer), stdout=io.StringIO(), stderr=err)

    under_way, _, done = err.getvalue().partition("\r")
    assert under_way.startswith("V01        ...")
    assert done.startswith("V01         ok")


def test_moment_shows_the_books_as_they_were(clock: LedgerClock) -> None:
    customer = uuid7()
    for hour, amount in enumerate((100, 20, 3)):
        clock.stand_at(MOMENT + timedelta(hours=hour))
        books.credit(customer, amount)
    clock.stand_at(MOMENT + timedelta(hours=5))
    books.spend(customer, 50)

    reports = [
        verification.verify(wallets=[customer], as_of=MOMENT + timedelta(hours=hours))
        for hours in (-1, 1, 4, 6)
    ]

    told = [(report.wallets, report.entries, report.balance_micro_rub) for report in reports]
    assert told == [(0, 0, 0), (1, 2, 120), (1, 3, 123), (1, 4, 73)]
    assert {report.checks for report in reports} == {len(verification.OF_THE_PAST)}
    assert [report.findings for report in reports] == [()] * 4


def test_moment_does_not_see_what_came_later(kept: Books, damage: Damage) -> None:
    last = books.entries(kept.customer)[-1]
    damage(ENTRY.format("balance_after_micro_rub = balance_after_micro_rub + 1", "last"), kept.names)

    found = [
        {finding.check for finding in verification.examine(wallets=[kept.customer], as_of=moment).findings}
        for moment in (last.created_at - timedelta(microseconds=1), last.created_at)
    ]

    assert found == [set(), {"V01", "V02", "V05"}]


def test_fast_proof_looks_at_wallets_that_moved_or_reserve(owner: BaseDatabaseWrapper) -> None:
    with owner.cursor() as cursor:  # whatever other tests ended: this hold is open since before
        cursor.execute("DELETE FROM billing_holdmark")
    moved, reserving, resting = uuid7(), uuid7(), uuid7()
    month = 30 * 24 * 3600 * 1000
    for customer, age in ((moved, 0), (reserving, month), (resting, month)):
        entry = UUID(int=uuid7().int - (age << 80))
        books.call("ledger_credit", [books.credit_step(customer, 10) | {"entry_id": entry}])
    books.held(reserving, 5, hold_id=UUID(int=uuid7().int - (month << 80)))

    touched = verification.touched(real_clock.now() - verification.FAST_SPAN)

    assert {moved, reserving, resting} & set(touched) == {moved, reserving}


def test_fast_proof_finds_damage_in_a_wallet_that_moved(
    kept: Books, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(WALLET.format("balance_micro_rub = balance_micro_rub + 1"), kept.names)
    monkeypatch.setattr(verification, "verify", verification.examine)  # inside the damage's transaction
    out = io.StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("verify_ledger", "--fast", stdout=out, verbosity=0)

    assert ended.value.code == 1
    assert f"the balance of a wallet is the sum of its entries: {kept.customer}: " in out.getvalue()


def test_past_is_told_by_numbers_where_the_clock_was_set_back(clock: LedgerClock) -> None:
    customer = uuid7()
    for milliseconds in (0, 500, 300, 900):
        clock.stand_at(MOMENT + timedelta(milliseconds=milliseconds))
        books.credit(customer, 10)

    reports = [
        verification.verify(wallets=[customer], as_of=MOMENT + timedelta(milliseconds=milliseconds))
        for milliseconds in (0, 250, 400, 600, 900)
    ]

    assert [report.findings for report in reports] == [()] * 5
    assert [report.entries for report in reports] == [1, 1, 3, 3, 4]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fast", "--as-of", "2026-01-01T00:00:00Z"],
        ["--as-of", "2999-01-01T00:00:00Z"],
        ["--as-of", "2026-01-01T00:00:00"],
        ["--as-of", "yesterday"],
        ["--fast", "--full"],
        ["--fast", "--wallet", str(uuid7())],
        ["--wallet", "me"],
    ],
)
def test_wrong_use_ends_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        verify_ledger.Command(stderr=io.StringIO()).run_from_argv(["manage.py", "verify_ledger", *arguments])

    assert ended.value.code == 2


def test_wallet_without_an_entry_then_is_told(kept: Books) -> None:
    with pytest.raises(CommandError, match="1 of these wallets had no entry then") as ended:
        call_command(
            "verify_ledger",
            f"--wallet={kept.customer}",
            "--as-of=2001-01-01T00:00:00Z",
            stdout=io.StringIO(),
            verbosity=0,
        )

    assert ended.value.returncode == 2


def test_command_ends_with_one_on_a_finding(settings: Settings, kept: Books) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.broken_promise"]
    out = io.StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("verify_ledger", "--wallet", str(kept.customer), stdout=out, verbosity=0)

    assert ended.value.code == 1
    assert "T01 promise: thing: is broken" in out.getvalue()


def test_command_does_not_call_a_wallet_right_that_is_not_there(kept: Books) -> None:
    wallets = ["--wallet", str(kept.customer), "--wallet", str(uuid7())]

    with pytest.raises(CommandError, match="1 of these wallets do not exist") as ended:
        call_command("verify_ledger", *wallets, stdout=io.StringIO(), verbosity=0)

    assert ended.value.returncode == 2


def test_command_speaks_json(settings: Settings, kept: Books) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.broken_promise"]
    out = io.StringIO()

    with pytest.raises(SystemExit):
        call_command("verify_ledger", "--json", "--wallet", str(kept.customer), stdout=out, verbosity=0)

    got = json.loads(out.getvalue())
    assert (got["ok"], got["wallets"], got["entries"]) == (False, 1, 4)
    assert got["findings"] == [{"check": "T01", "title": "promise", "object": "thing", "detail": "is broken"}]


def test_nightly_job_records_right_books(kept: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at one wallet: other tests put rows of usage into the database that nobody was charged for."""
    verify = partial(verification.verify, wallets=[kept.customer])
    monkeypatch.setattr(verification, "verify", verify)
    slot = str(uuid7())

    assert tasks.verify_books(slot=slot) == "done"
    assert tasks.verify_books(slot=slot) == "skipped"

    run = JobRun.objects.get(name="billing.verify_books", slot=slot)
    assert run.outcome == "done"
    assert run.counts == {"checks": len(verification.checks()), "wallets": 1, "entries": 4}


def test_nightly_job_fails_on_a_finding(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.broken_promise"]
    monkeypatch.setattr(verification, "verify", partial(verification.verify, wallets=[]))
    slot = str(uuid7())

    with pytest.raises(BooksBrokenError, match="T01"):
        tasks.verify_books(slot=slot)

    run = JobRun.objects.get(name="billing.verify_books", slot=slot)
    assert (run.outcome, run.detail) == ("failed", "BooksBrokenError: 1 findings: T01")
    found = ReconciliationFinding.objects.filter(check_id="T01")
    found.update(state="explained")
    assert tasks.verify_books(slot=slot) == "done"  # so the day can be sealed
    found.delete()


def broken_promise() -> list[Check]:
    return [Check("T01", "promise", "SELECT 'thing', 'is broken'")]


def writing_check() -> list[Check]:
    return [Check("T02", "writes", "SELECT nextval('billing_lot_id_seq'), 'x'")]
