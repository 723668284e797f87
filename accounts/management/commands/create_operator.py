"""`manage.py create_operator --email E --role owner`: make an operator from the shell."""

import getpass
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import operators, roles
from auditlog.actors import Actor
from plyrum import clock
from plyrum.errors import PlyrumError


class Command(BaseCommand):
    help = "Make an operator, or give an existing person a role and a new password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--role", required=True, choices=[role for role in roles.Role.values if role])
        parser.add_argument(
            "--password-stdin", action="store_true", help="Read the password from standard input, one line."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        password = sys.stdin.readline().rstrip("\n") if options["password_stdin"] else _asked()
        try:
            user, is_new = operators.create(
                email=options["email"],
                role=options["role"],
                password=password,
                now=clock.now(),
                actor=Actor.system(f"shell:{os.getuid()}"),
            )
        except PlyrumError as error:
            rows = "".join(f"\n- {row['msg']}" for row in error.extra.get("errors", []))
            raise CommandError(f"{error.detail}{rows}") from error
        verb = "made" if is_new else "changed"
        self.stdout.write(f"Operator {verb}: {user.email}, role {user.role}, id {user.id}")


def _asked() -> str:
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Once more: "):
        raise CommandError("The two passwords differ.")
    return first
