"""Real threads for races: all start together, each has a database connection of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def at_once(count: int, call: Callable[[], T]) -> list[T]:
    """Call `call` in `count` threads at the same moment; what one of them raises rises here."""
    barrier = Barrier(count)

    def go() -> T:
        try:
            connection.ensure_connection()
            barrier.wait()
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(go) for _ in range(count)]]
