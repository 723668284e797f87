"""Nudges go out after the commit; a broker that is away costs a warning, never the act."""

import os
import subprocess
import sys
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import transaction

from plyrum.nudges import nudge
from tests.server_process import database_url

# A process of its own: Celery keeps the address of its broker for good.
WITHOUT_BROKER = """
import django
django.setup()
from django.db import transaction
from plyrum.nudges import nudge
with transaction.atomic():
    nudge("plyrum.tasks.heartbeat")
    nudge("plyrum.tasks.heartbeat", payment_id="1")
print("committed")
"""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was handed to the broker."""
    found: list[tuple[str, dict[str, Any]]] = []

    def keep(name: str, **options: Any) -> None:
        found.append((name, options))

    monkeypatch.setattr(current_app, "send_task", keep)
    return found


def test_nudge_goes_out_after_the_commit(sent: list[tuple[str, dict[str, Any]]]) -> None:
    with transaction.atomic():
        nudge("payments.tasks.refresh_payment", payment_id="1")
        assert sent == []

    assert sent == [
        ("payments.tasks.refresh_payment", {"kwargs": {"payment_id": "1"}, "retry": False}),
    ]


def test_nudge_of_a_rolled_back_act_never_goes_out(sent: list[tuple[str, dict[str, Any]]]) -> None:
    with transaction.atomic():
        nudge("plyrum.tasks.heartbeat")
        transaction.set_rollback(True)

    assert sent == []


def test_broker_that_is_away_costs_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_BROKER],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "REDIS_URL": "unix:///nowhere/redis.sock?db=0",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["committed"]), done.stderr
    assert done.stderr.count("nudge_lost") == 2
    assert "Traceback" not in done.stderr
