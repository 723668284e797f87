"""Nudges go out after the commit; a broker that is away costs a warning, never the act."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from django.conf import settings
from django.db import transaction
from kombu.utils import functional
from structlog.testing import capture_logs

from plyrum.celery import app
from plyrum.nudges import nudge


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


@pytest.fixture
def _no_broker() -> Iterator[None]:
    """Celery with our settings and the address of a broker that is not there."""
    nowhere = Celery("nowhere", broker="redis+socket:///nowhere/redis.sock", set_as_current=False)
    nowhere.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    nowhere.set_current()
    yield
    app.set_current()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that Celery's client wants to wait between its tries; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr(functional, "sleep", found.append)
    return found


@pytest.mark.usefixtures("_no_broker")
def test_broker_that_is_away_costs_a_warning_and_no_time(pauses: list[float]) -> None:
    with capture_logs() as said, transaction.atomic():
        nudge("plyrum.tasks.heartbeat")
        nudge("plyrum.tasks.heartbeat", payment_id="1")

    assert [(line["event"], line["task"]) for line in said] == [("nudge_lost", "plyrum.tasks.heartbeat")] * 2
    assert sum(pauses) < 1  # by itself it would wait six seconds for each
