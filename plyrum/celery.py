"""The Celery app: tasks are found in every app's `tasks.py`, beat reads the one table of `schedule.py`."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging, worker_ready
from django.core.exceptions import ImproperlyConfigured

from plyrum import checks, embedded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plyrum.settings")

app = Celery("plyrum")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Django has configured logging already; Celery must not lay its own over it."""


@celeryd_init.connect
@beat_init.connect
def _start_servers(**_: Any) -> None:
    try:
        checks.refuse_to_start()
        embedded.start_if_needed()
    except (ImproperlyConfigured, embedded.EmbeddedServerError) as error:
        raise SystemExit(str(error)) from error  # Celery swallows ordinary exceptions of its signals


@worker_ready.connect
def _say_alive(**_: Any) -> None:
    """Before beat sends the first heartbeat; and no machine starts with an hour of old rates."""
    app.send_task("plyrum.tasks.heartbeat")
    app.send_task("billing.tasks.refresh_rates")
