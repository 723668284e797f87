"""Daily roots: what they cover, when days close, what the job and the command do with them."""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import IntegrityError, ProgrammingError

from auditlog import jobs
from auditlog.models import JobRun
from billing import daily_roots, tasks, verification
from billing.daily_roots import Root
from billing.models import DailyRoot, LedgerEntry
from billing.verification import BooksNotProvedError
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests.billing import books

LATER = timedelta(days=2)  # then the day of now is over


@pytest.fixture(autouse=True)
def _no_roots(owner: BaseDatabaseWrapper) -> Iterator[None]:
    """Other tests write into days that are closed here."""
    _forget(owner)
    yield
    _forget(owner)


def _forget(owner: BaseDatabaseWrapper) -> None:
    with owner.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_dailyroot DISABLE TRIGGER frozen")
        cursor.execute("DELETE FROM billing_dailyroot")
        cursor.execute("ALTER TABLE billing_dailyroot ENABLE ALWAYS TRIGGER frozen")


def closed() -> Root:
    """The root of a day that covers everything written so far."""
    books.spend(books.funded(1000), 10)
    daily_roots.close(now=real_clock.now() + LATER)
    root = daily_roots.stored()
    assert root is not None
    return root


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("daily_root", *arguments, stdout=out)
    return out.getvalue()


def findings() -> list[str]:
    return [finding.object for finding in verification.examine(only=["V44"]).findings]


def test_root_is_one_hash_over_the_last_entries_of_wallets_and_all_that_are_no_wallets() -> None:
    step = {
        "entry_id": uuid7(), "amount": 5, "type": "provider_fee", "debit_account": "provider_fee",
        "credit_account": "provider_clearing", "key": f"test:{uuid7()}", "source_type": "test",
        "source_id": f"ю|{uuid7()}", "effective_at": None,
    }  # fmt: skip
    books.call("ledger_book", [step])
    root = closed()

    midnight = datetime.combine(root.day + timedelta(days=1), datetime.min.time(), UTC) - timedelta(hours=3)
    heads: dict[bytes, tuple[int, bytes]] = {}
    rows = LedgerEntry.objects.filter(seq__isnull=False, created_at__lt=midnight).order_by("seq")
    for customer, seq, digest in rows.values_list("customer_id", "seq", "hash"):
        assert customer is not None
        heads[customer.bytes] = (seq or 0, bytes(digest or b""))
    text = b"".join(
        customer + seq.to_bytes(8, "big") + digest for customer, (seq, digest) in sorted(heads.items())
    )
    others = LedgerEntry.objects.filter(customer_id=None, created_at__lt=midnight).order_by("pk")
    lines = [
        f"2|{entry.pk}|{entry.type}|{entry.debit_account}|{entry.credit_account}|{entry.amount_micro_rub}"
        f"|{entry.source_type}|{len(entry.source_id.encode())}|{entry.source_id}|{entry.key}"
        for entry in others
    ]
    assert lines
    text += b"".join(hashlib.sha256(line.encode()).digest() for line in lines)
    assert root.digest == hashlib.sha256(text).hexdigest()
    assert (root.wallets, root.entries) == (len(heads), sum(seq for seq, _ in heads.values()) + len(lines))


def test_root_reads_what_is_no_wallets_by_an_index() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the tables of tests are small
        cursor.execute("EXPLAIN SELECT id FROM billing_ledgerentry WHERE customer_id IS NULL ORDER BY id")
        plan = "".join(line for (line,) in cursor.fetchall())

    assert "billing_entry_one_per_seq" in plan
    assert "Index Cond: (customer_id IS NULL)" in plan


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 11, 20, 21, 59, tzinfo=UTC), date(2026, 11, 19)),
        (datetime(2026, 11, 20, 22, 0, tzinfo=UTC), date(2026, 11, 20)),
    ],
)
def test_day_of_moscow_is_over_an_hour_after_its_midnight(now: datetime, day: date) -> None:
    assert daily_roots.last_over(now) == day


def test_closing_twice_writes_once_and_closing_late_fills_the_gap() -> None:
    first = closed()
    now = real_clock.now() + LATER

    assert daily_roots.close(now=now) == 0
    assert daily_roots.close(now=now + timedelta(days=3)) == 3

    days = [first.day + timedelta(days=number) for number in range(4)]
    assert [row.day for row in DailyRoot.objects.order_by("day")] == days
    assert [daily_roots.stored(day) for day in days] == [daily_roots.recompute(day) for day in days]


def test_clock_that_went_back_closes_nothing() -> None:
    closed()

    assert daily_roots.close(now=real_clock.now() - timedelta(days=10)) == 0


def test_closed_day_is_right_until_something_is_written_into_it() -> None:
    root = closed()
    assert findings() == []

    books.funded(5)

    assert findings() == [str(root.day)]


def test_roots_cannot_be_changed(owner: BaseDatabaseWrapper) -> None:
    closed()

    with pytest.raises(ProgrammingError, match="permission denied"):
        DailyRoot.objects.update(wallets=1)
    with pytest.raises(IntegrityError, match="append-only"), owner.cursor() as cursor:
        cursor.execute("UPDATE billing_dailyroot SET wallets = 1")
    assert findings() == []


def test_job_closes_days_after_the_proof_of_the_books_only() -> None:
    with time_machine.travel(datetime(2033, 3, 3, 1, 30, tzinfo=UTC), tick=True):
        with pytest.raises(BooksNotProvedError):
            tasks.close_days()
        assert daily_roots.stored() is None
        slot = jobs.slot_of(real_clock.now(), jobs.DAY)
        proof = JobRun.objects.create(
            name="billing.verify_books", slot=slot, started_at=real_clock.now(), outcome=JobRun.Outcome.DONE
        )

        assert (tasks.close_days(), tasks.close_days()) == ("done", "skipped")

    root = daily_roots.stored()
    assert root is not None
    assert root.day == date(2033, 3, 2)
    runs = JobRun.objects.filter(name="billing.close_days", slot=slot)
    assert [(run.outcome, run.counts, run.attempts) for run in runs] == [("done", {"days": 1}, 2)]
    proof.delete()
    runs.delete()


def test_command_prints_the_root_and_checks_what_it_printed(tmp_path: Path) -> None:
    root = closed()
    line = told()
    file = tmp_path / "roots.txt"
    file.write_text(f"{line}\n")

    assert line == f"{root.day} {root.digest} {root.wallets} {root.entries}\n"
    assert told("--day", str(root.day)) == line
    for check in (root.digest, str(file)):
        assert told("--check", check) == f"{root.day} is right\n"


def test_command_ends_with_one_when_the_past_was_rewritten(tmp_path: Path) -> None:
    root = closed()
    file = tmp_path / "roots.txt"
    file.write_text(told())
    books.funded(5)

    for check in (root.digest, str(file)):
        out = io.StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("daily_root", "--check", check, stdout=out)
        assert ended.value.code == 1
        assert f"{root.day} was {root.digest}, the entries make " in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        ([], None),
        (["--day", "2001-01-01"], None),
        (["--check", "{file}"], None),
        (["--check", "{file}"], ""),
        (["--check", "{file}"], "2026-11-19 short\n"),
        (["--check", "{file}"], "yesterday\n"),
        (["--check", "{file}", "--day", "2026-11-19"], "2026-11-19 " + "0" * 64),
    ],
)
def test_command_ends_with_two_on_wrong_use(tmp_path: Path, arguments: list[str], content: Any) -> None:
    file = tmp_path / "roots.txt"
    if content is not None:
        file.write_text(content)

    with pytest.raises(CommandError) as ended:
        call_command("daily_root", *(argument.format(file=file) for argument in arguments))

    assert ended.value.returncode == 2


def test_roots_are_computed_by_the_role_of_the_application() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, entries FROM ledger_root('9000-01-01')")
        role, entries = cursor.fetchone()

    assert (role, entries >= 0) == ("plyrum_app", True)
