"""`verify_ledger`: prove the books. Exit code 1 on a broken promise, 2 on an unknown wallet."""

import json
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import verification
from billing.verification import Check, Report


class Command(BaseCommand):
    help = "Prove that wallets, lots, holds, entries and usage agree. Exit code 1 on any finding."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wallet", type=UUID, action="append", metavar="ID", help="only this wallet; repeatable"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        progress = self._tell if options["verbosity"] > 0 else None
        report = verification.verify(wallets=options["wallet"], progress=progress)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            self._write(report)
        if not report.is_clean:
            sys.exit(1)
        asked = len(set(options["wallet"] or ()))
        if report.wallets < asked:
            raise CommandError(f"{asked - report.wallets} of these wallets do not exist.", returncode=2)

    def _tell(self, check: Check, findings: int, seconds: float) -> None:
        verdict = f"{findings} broken" if findings else "ok"
        self.stderr.write(f"{check.id} {verdict:>10} {seconds:8.3f} s  {check.title}", style_func=str)

    def _write(self, report: Report) -> None:
        for finding in report.findings:
            self.stdout.write(f"{finding.check} {finding.title}: {finding.object}: {finding.detail}")
        verdict = "The books are right" if report.is_clean else f"{len(report.findings)} findings"
        self.stdout.write(
            f"{verdict}: {report.checks} checks, {report.wallets} wallets, {report.entries} entries,"
            f" {report.seconds:.2f} s."
        )
