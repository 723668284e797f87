"""How often a customer may ask: the rates of their tier, spent at the doors that cost us work.

The doors of Django call `admit`; the engine's own is `orchestration/admission.py`, out of the same buckets.
Source: docs/decisions/0026-request-rates.md.
"""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import throttling
from accounts.credentials import is_superaccount
from accounts.throttling import Taken
from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import limits, policies
from billing.errors import LimitNotFound
from billing.limit_models import RequestRate
from plyrum.errors import InvalidRequest, TooManyRequests

MOST_PER_HOUR = 10_000_000


def admit(customer_id: UUID, *, now: datetime) -> None:
    """Count one request. Raises TooManyRequests."""
    if not settings.PLYRUM_ENFORCE_REQUEST_RATES or is_superaccount(customer_id):
        return
    rates = policies.of(customer_id, now=now).rates
    taken = throttling.take_of(rates, str(customer_id))
    if not taken.is_allowed:
        raise refusal(taken)


def refusal(taken: Taken) -> TooManyRequests:
    return TooManyRequests(
        "Too many requests. Wait as long as Retry-After says.",
        retry_after_seconds=taken.retry_after_seconds,
        limit=taken.limit.count,
    )


@transaction.atomic(durable=True)
def change(*, tier: str, per_minute: int, per_hour: int, reason: str, actor: Actor) -> None:
    """Set the rates of a tier. Raises LimitNotFound, InvalidRequest."""
    said = reasons.required(reason)
    if not 0 < per_minute <= per_hour <= MOST_PER_HOUR:
        raise InvalidRequest("An hour allows at least what a minute allows, and a minute at least one.")
    rate = RequestRate.objects.select_for_update().filter(pk=tier).first()
    if rate is None:
        raise LimitNotFound
    before = {"per_minute": rate.per_minute, "per_hour": rate.per_hour}
    rate.per_minute, rate.per_hour = per_minute, per_hour
    rate.save(update_fields=["per_minute", "per_hour"])
    journal.record(
        actor=actor,
        action="billing.rate.changed",
        subject=f"tier:{tier}",
        data={"per_minute": per_minute, "per_hour": per_hour, "before": before, "reason": said},
    )
    transaction.on_commit(lambda: limits.tell_engines(policies.EVERYBODY))
