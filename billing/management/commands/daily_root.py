"""`daily_root`: print the root of a closed day, or compare roots that were stored outside with the entries.

Exit code 1 when a root is not what the entries make now, 2 on wrong use. Closes no day: the daily job does.
"""

import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import daily_roots

DIGEST = re.compile(r"[0-9a-f]{64}")


class Command(BaseCommand):
    help = "Print the root over all wallet heads at the end of a day, or check one that was stored outside."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--day", type=date.fromisoformat, metavar="DATE", help="a closed day; without it the newest"
        )
        parser.add_argument(
            "--check", metavar="FILE|HEX", help="compare: the root of the day, or a file of printed lines"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        day: date | None = options["day"]
        check: str | None = options["check"]
        if check is not None and not DIGEST.fullmatch(check):
            if day is not None:
                raise CommandError("The lines of a file name their days: leave out --day.", returncode=2)
            self._compare(_read(Path(check)))
            return
        root = daily_roots.stored(day)
        if root is None:
            raise CommandError(f"There is no root of {day or 'any day'} yet.", returncode=2)
        if check is None:
            self.stdout.write(str(root))
        else:
            self._compare([(root.day, check)])

    def _compare(self, told: list[tuple[date, str]]) -> None:
        broken = 0
        for day, digest in told:
            now = daily_roots.recompute(day)
            if now.digest == digest:
                self.stdout.write(f"{day} is right")
            else:
                broken += 1
                self.stdout.write(f"{day} was {digest}, the entries make {now.digest}")
        if broken:
            sys.exit(1)


def _read(path: Path) -> list[tuple[date, str]]:
    """Day and root of each line "2026-11-19 <64 hex digits> ..."; empty lines are passed over."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = [(date.fromisoformat(words[0]), words[1]) for words in lines]
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise CommandError(f"{path} holds no roots.", returncode=2) from error
    if not found or not all(DIGEST.fullmatch(digest) for _, digest in found):
        raise CommandError(f"{path} holds no roots.", returncode=2)
    return found
