"""The proof of the books: its command, its nightly job, and the checks that other apps add."""

import io
import json
from functools import partial
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, transaction
from pytest_django import Settings

from auditlog.models import JobRun
from billing import tasks, verification
from billing.verification import BooksBrokenError, Check
from plyrum.ids import uuid7
from tests.billing.damaging import Books


def test_verification_reads_one_moment_and_cannot_write(settings: Settings) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.writing_check"]

    with pytest.raises(InternalError, match="read-only"):
        verification.verify(wallets=[])


def test_verification_demands_a_transaction_of_its_own() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        verification.verify(wallets=[])


def test_other_apps_add_their_checks(settings: Settings) -> None:
    settings.LEDGER_CHECKS = [f"{__name__}.broken_promise"]

    report = verification.verify(wallets=[])

    assert [(finding.check, finding.object, finding.detail) for finding in report.findings] == [
        ("T01", "thing", "is broken")
    ]


def test_checks_of_a_file_share_its_sources(tmp_path: Path) -> None:
    path = tmp_path / "verify.sql"
    path.write_text(
        "-- head\nWITH x AS (SELECT 1)\n\n-- check T1: one\nSELECT 1, 2\n\n-- check T2: two\nSELECT 3, 4\n"
    )

    checks = verification.checks_in(path)

    assert [(check.id, check.title) for check in checks] == [("T1", "one"), ("T2", "two")]
    assert checks[1].sql == "-- head\nWITH x AS (SELECT 1)\nSELECT 3, 4"


def test_command_is_silent_about_right_books(kept: Books) -> None:
    out, err = io.StringIO(), io.StringIO()

    call_command("verify_ledger", "--wallet", str(kept.customer), stdout=out, stderr=err)

    assert out.getvalue().startswith("The books are right: ")
    assert "1 wallets, 4 entries" in out.getvalue()
    assert len(err.getvalue().splitlines()) == len(verification.checks())


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


def broken_promise() -> list[Check]:
    return [Check("T01", "promise", "SELECT 'thing', 'is broken'")]


def writing_check() -> list[Check]:
    return [Check("T02", "writes", "SELECT nextval('billing_creditlot_id_seq'), 'x'")]
