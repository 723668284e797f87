"""Nudges: start a task by name after commit. A lost nudge costs time, never money: a sweep finds the row."""

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)


def nudge(task: str, **arguments: str) -> None:
    """Send the task `task` ("payments.tasks.refresh_payment") once the transaction has committed."""

    def send() -> None:
        try:
            current_app.send_task(task, kwargs=arguments, retry=False)
        except OperationalError:
            log.warning("nudge_lost", task=task)

    transaction.on_commit(send)
