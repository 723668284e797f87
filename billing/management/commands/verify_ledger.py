"""`verify_ledger`: prove the books, repair nothing. Exit code 1 on a broken promise, 2 on wrong use."""

import json
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import verification
from billing.templatetags.money import money_exact
from billing.verification import Check, Report
from plyrum import clock


def _moment(text: str) -> datetime:
    """A time with its zone; argparse turns a ValueError into wrong use."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment


class Command(BaseCommand):
    help = "Prove that wallets, lots, holds, entries and usage agree. Exit code 1 on any finding."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--full", action="store_true", help="every wallet; what happens without a word")
        hours = verification.FAST_SPAN.total_seconds() / 3600
        scope.add_argument(
            "--fast",
            action="store_true",
            help=f"only the wallets that money moved or was held in during the last {hours:.0f} hours",
        )
        scope.add_argument(
            "--wallet", type=UUID, action="append", metavar="ID", help="only this wallet; repeatable"
        )
        parser.add_argument(
            "--as-of",
            type=_moment,
            metavar="TIME",
            help="balances and chains as they were at this moment, like 2026-11-20T09:00:00Z",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_wrong_use(options["as_of"], is_fast=options["fast"])
        wallets = options["wallet"]
        if options["fast"]:
            wallets = verification.touched(clock.now() - verification.FAST_SPAN)
        progress = self._tell if options["verbosity"] > 0 else None
        report = verification.verify(wallets=wallets, as_of=options["as_of"], progress=progress)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            self._write(report)
        if not report.is_clean:
            sys.exit(1)
        asked = len(set(options["wallet"] or ()))
        if report.wallets < asked:
            missing = "do not exist" if options["as_of"] is None else "had no entry then"
            raise CommandError(f"{asked - report.wallets} of these wallets {missing}.", returncode=2)

    def _refuse_wrong_use(self, as_of: datetime | None, *, is_fast: bool) -> None:
        if as_of is not None and is_fast:
            raise CommandError("--fast looks at the last days, --as-of at a moment: use one.", returncode=2)
        if as_of is not None and as_of > clock.now():
            raise CommandError("--as-of lies in the future.", returncode=2)

    def _tell(self, check: Check, findings: int | None, seconds: float) -> None:
        """A line for each check; a terminal also sees the one under way, which its own line then replaces."""
        if findings is not None:
            verdict = f"{findings} broken" if findings else "ok"
            self.stderr.write(f"{check.id} {verdict:>10} {seconds:8.3f} s  {check.title}", style_func=str)
        elif self.stderr.isatty():
            self.stderr.write(f"{check.id} {'...':>10} {'':8}    {check.title}", style_func=str, ending="\r")

    def _write(self, report: Report) -> None:
        for finding in report.findings:
            self.stdout.write(f"{finding.check} {finding.title}: {finding.object}: {finding.detail}")
        verdict = "The books are right" if report.is_clean else f"{len(report.findings)} findings"
        self.stdout.write(
            f"{verdict}: {report.checks} checks, {report.wallets} wallets, {report.entries} entries,"
            f" {money_exact(report.balance_micro_rub)} in the wallets, {report.seconds:.2f} s."
        )
