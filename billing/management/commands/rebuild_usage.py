"""`rebuild_usage`: sum the usage of all closed days anew, for a finding of V46 that has been understood."""

from typing import Any

from django.core.management.base import BaseCommand

from billing import rollups


class Command(BaseCommand):
    help = "Compute the roll-ups of usage again from the usage rows. Moves no money."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{rollups.rebuild()} roll-ups written.")
