"""Django's command of this name makes an account that may do everything; here an operator has a role."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Not used here: see create_operator."

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError("Plyrum has no superusers. Use: create_operator --email E --role owner")
