"""The frame's own task: the worker says that it is alive, `/api/ready` listens."""

from celery import shared_task
from django.core.cache import cache

from plyrum.health import WORKER_HEARTBEAT_KEY, WORKER_HEARTBEAT_SECONDS


@shared_task
def heartbeat() -> None:
    cache.set(WORKER_HEARTBEAT_KEY, 1, WORKER_HEARTBEAT_SECONDS)
