"""Calendar windows of limits: hours, days and months of Moscow, as the ledger counts them. Pure."""

from datetime import datetime, timedelta

from django.utils import timezone

from billing.limit_models import Window

COUNTED = (Window.HOUR, Window.DAY, Window.MONTH)  # a single request is compared, not counted


def start_of(window: str, now: datetime) -> datetime:
    """The first moment of the window that `now` falls into."""
    local = now.astimezone(timezone.get_default_timezone())
    hour = local.replace(minute=0, second=0, microsecond=0)
    match window:
        case Window.HOUR:
            return hour
        case Window.DAY:
            return hour.replace(hour=0)
        case Window.MONTH:
            return hour.replace(day=1, hour=0)
    raise ValueError(f"{window!r} is no window of the calendar.")


def end_of(window: str, now: datetime) -> datetime:
    """The first moment after that window. Moscow keeps one offset all year, so hours are hours."""
    start = start_of(window, now)
    match window:
        case Window.HOUR:
            return start + timedelta(hours=1)
        case Window.DAY:
            return start + timedelta(days=1)
        case _:
            return (start + timedelta(days=31)).replace(day=1)
