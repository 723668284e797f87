"""The day's official rates: asked for by a job, checked, added as rows. A wrong-looking list adds nothing.

Called by `tasks`. Publishing itself is `prices.add_rate`; the file of PLYRUM_FX_SNAPSHOT_PATH is the start
and an operator's way past a refusal. Source: docs/decisions/0015-rates-of-the-day.md.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.db import transaction

from billing import cbr, prices, queries
from billing.models import FxRate
from billing.shapes import DailyRates
from plyrum.errors import AdapterError

log = structlog.get_logger(__name__)

BANK_ZONE = ZoneInfo("Europe/Moscow")
# The longest time without a new list: the New Year holidays with the weekends around them, and a reserve.
LONGEST_PAUSE = timedelta(days=14)


class RatesRefusedError(Exception):
    """The day's rates could not be had or look wrong; nothing was added."""


def refresh(*, now: datetime) -> dict[str, int]:
    """Add the rates in force today for the currencies of PLYRUM_FX_CURRENCIES: all of them or none.

    Answers {added}: rows that were not known yet. Raises RatesRefusedError, after a line in the log.
    """
    today = now.astimezone(BANK_ZONE).date()
    try:
        listed = cbr.fetch(today)
    except AdapterError as error:
        log.error("rates_refused", reason=error.detail)
        raise RatesRefusedError(str(error)) from error
    faults = list(_faults(listed, today))
    if faults:
        log.error("rates_refused", reason="; ".join(faults))
        raise RatesRefusedError("; ".join(faults))
    with transaction.atomic(durable=True):
        added = [
            prices.add_rate(
                currency=currency, micro_rub=listed.micro_rub[currency], source=cbr.NAME, rate_date=today
            )
            for currency in settings.PLYRUM_FX_CURRENCIES
        ]
    return {"added": sum(added)}


def _faults(listed: DailyRates, today: date) -> Iterator[str]:
    """What speaks against the list. On days without a new one the last is in force and answered."""
    if not today - LONGEST_PAUSE <= listed.set_on <= today:
        yield f"the list is of {listed.set_on}, not of {today}"
    known = queries.current_rates()
    for currency in settings.PLYRUM_FX_CURRENCIES:
        new, old = listed.micro_rub.get(currency, 0), known.get(currency)
        if new == 0:
            yield f"{currency} has no rate"
        elif old is not None and not _is_stale(old, today) and _jumps(old.micro_rub, new):
            yield f"{currency} jumps from {old.micro_rub} to {new} micro-RUB"


def _is_stale(rate: FxRate, today: date) -> bool:
    """A rate that is too old to sell by says nothing about today's."""
    return rate.rate_date < today - timedelta(days=settings.PLYRUM_FX_MAX_AGE_DAYS)


def _jumps(old: int, new: int) -> bool:
    return abs(new - old) * 100 > old * int(settings.PLYRUM_FX_MAX_JUMP_PERCENT)
