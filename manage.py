#!/usr/bin/env python
"""The shell door of Plyrum: starts the embedded servers a command needs, then Django's commands."""

import os
import sys

from django.core.management import execute_from_command_line

from plyrum import embedded

NEED_NO_SERVER = {
    "check",
    "collectstatic",
    "compile_translations",
    "help",
    "makemessages",
    "version",
    "--help",
}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plyrum.settings")
    if len(sys.argv) > 1 and sys.argv[1] not in NEED_NO_SERVER:
        try:
            embedded.start_if_needed()
        except embedded.EmbeddedServerError as error:
            sys.exit(f"{error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
