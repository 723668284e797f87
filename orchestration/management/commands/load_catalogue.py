"""`load_catalogue [FILE]`: load models, prices and rates from a reviewed file."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from auditlog.actors import SYSTEM
from orchestration import catalogue
from orchestration.catalogue_file import CatalogueError
from plyrum import clock


class Command(BaseCommand):
    help = "Load models and prices from a TOML file (default: PLYRUM_CATALOGUE_PATH)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=settings.PLYRUM_CATALOGUE_PATH)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            catalogue.load_rates(settings.PLYRUM_FX_SNAPSHOT_PATH)
            version = catalogue.load(options["file"], now=clock.now(), actor=SYSTEM)
        except CatalogueError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self.stdout.write(f"Catalogue {version.number} is loaded from {version.source}.")
