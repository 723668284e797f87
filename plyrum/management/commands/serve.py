"""`serve`: the ASGI server with the flags Plyrum is measured with."""

from typing import Any

import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from plyrum import checks
from plyrum.http import Protocol

GRACE_SECONDS = 20  # running answers may end before a stop; what is left the sweep settles


class Command(BaseCommand):
    help = "Serve the site and the API."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--workers", type=int, default=1, help="processes; one for two cores is best")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            checks.refuse_to_start()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        uvicorn.run(
            "plyrum.asgi:application",
            host=options["host"],
            port=options["port"],
            workers=options["workers"],
            loop="uvloop",
            http=Protocol,
            ws="none",
            lifespan="on",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
