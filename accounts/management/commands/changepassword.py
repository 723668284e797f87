"""Django's command of this name sets anybody's password and leaves their sessions alive; not offered here."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Not used here: people reset their passwords by letter, operators are made by create_operator."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("who", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(
            "Nobody sets another person's password. People use the reset letter; "
            "for an operator use: create_operator --email E --role ROLE"
        )
