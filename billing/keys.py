"""API keys with what each may spend: made, changed and listed in one act with their limit.

Keys themselves are `accounts/api_keys.py`, limits `billing/limits.py`; a limit of a key is one more counter
of the ledger. Source: docs/decisions/0037-api-keys.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from accounts import api_keys
from accounts.api_keys import Wish
from accounts.models import ApiKey
from auditlog.actors import Actor
from billing import limits, queries, windows
from billing.errors import IdempotencyMismatch
from billing.limit_models import LimitLift, SpendLimit, Window
from plyrum.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as its owner sees it."""

    row: ApiKey
    month_limit_micro_rub: int | None  # what the owner set
    month_limit_in_force_micro_rub: int | None  # the lowest that counts now, an operator's too
    month_spent_micro_rub: int


@dataclass(frozen=True, slots=True)
class Issued:
    """`text` is the key, told this once; "" when the call is a repeat."""

    key: KeyView
    text: str

    @property
    def is_replay(self) -> bool:
        return not self.text


def models_on_offer() -> dict[str, str]:
    """What a key may be limited to: labels by id."""
    found: dict[str, str] = import_string(settings.MODELS_ON_OFFER)()
    return found


@transaction.atomic(durable=True)
def issue(
    *,
    customer_id: UUID,
    wish: Wish,
    month_limit_micro_rub: int | None,
    idempotency_key: str,
    now: datetime,
    actor: Actor,
) -> Issued:
    """Make a key with its limit; a repeat by its idempotency key makes none and tells no secret.

    Raises InvalidRequest (models, expires_at, the limit), TooManyKeys, IdempotencyMismatch.
    """
    api_keys.lock(customer_id)
    fingerprint = wish.fingerprint(month_limit_micro_rub=month_limit_micro_rub)
    known = api_keys.by_call(customer_id, idempotency_key)
    if known is not None:
        if known.fingerprint != fingerprint:
            raise IdempotencyMismatch("This idempotency key was used with another API key.")
        return Issued(view(known, now=now), "")
    _require_sound(wish, now)
    row, text = api_keys.issue(
        customer_id=customer_id,
        wish=wish,
        now=now,
        actor=actor,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )
    _limit(row, month_limit_micro_rub, now=now, actor=actor, is_new=True)
    return Issued(KeyView(row, month_limit_micro_rub, month_limit_micro_rub, 0), text)


@transaction.atomic(durable=True)
def change(
    *,
    customer_id: UUID,
    key_id: UUID | str,
    changes: dict[str, Any],
    now: datetime,
    actor: Actor,
) -> KeyView:
    """Change what `changes` names: `name`, `month_limit_micro_rub` (None: no limit).

    Raises KeyNotFound, KeyEnded, InvalidRequest.
    """
    api_keys.lock(customer_id)
    row = api_keys.own(customer_id, key_id)
    api_keys.require_not_ended(row)
    if "name" in changes:
        api_keys.rename(row, changes["name"], actor=actor)
    if "month_limit_micro_rub" in changes:
        _limit(row, changes["month_limit_micro_rub"], now=now, actor=actor)
    return view(row, now=now)


def _limit(row: ApiKey, micro_rub: int | None, *, now: datetime, actor: Actor, is_new: bool = False) -> None:
    wanted = {} if micro_rub is None else {Window.MONTH: micro_rub}
    limits.set_own_of_key(key=row, limits=wanted, now=now, actor=actor, is_new=is_new)


def _require_sound(wish: Wish, now: datetime) -> None:
    wrong = []
    unknown = sorted(set(wish.models) - models_on_offer().keys()) if wish.models else []
    if unknown:
        text = f"There is no model {unknown[0]!r}."
        wrong.append({"loc": ["body", "models"], "msg": text, "type": "model_not_found"})
    if wish.expires_at is not None and wish.expires_at <= now:
        text = "This moment is over."
        wrong.append({"loc": ["body", "expires_at"], "msg": text, "type": "in_the_past"})
    if wrong:
        raise InvalidRequest("The request has wrong fields.", errors=wrong)


def view(row: ApiKey, *, now: datetime) -> KeyView:
    return views([row], now=now)[0]


def views(rows: Iterable[ApiKey], *, now: datetime) -> list[KeyView]:
    """Keys of one customer with their limits and what they spent in the month that runs."""
    rows = list(rows)
    if not rows:
        return []
    start = windows.start_of(Window.MONTH, now)
    of_keys = {"subject__in": [limits.key_subject(row.pk) for row in rows], "window": Window.MONTH}
    found = SpendLimit.objects.filter(**of_keys)
    own = {limit.subject: limit for limit in found if limit.set_by == SpendLimit.SetBy.CUSTOMER}
    lifted = set(LimitLift.objects.filter(**of_keys, ends_at__gt=now).values_list("subject", flat=True))
    in_force: dict[str, SpendLimit] = {}  # as admission finds it: `policies.from_row`
    for limit in sorted(found, key=lambda one: _countable_micro_rub(one, start)):
        if limit.subject not in lifted:
            in_force.setdefault(limit.subject, limit)
    sums = queries.usage_summary(rows[0].user_id, group_by="key", since=start, until=None)
    spent = {item["key"]: item["cost_micro_rub"] for item in sums}
    return [
        KeyView(
            row,
            _amount(own.get(limits.key_subject(row.pk))),
            _amount(in_force.get(limits.key_subject(row.pk))),
            spent.get(str(row.pk), 0),
        )
        for row in rows
    ]


def _countable_micro_rub(limit: SpendLimit, start: datetime) -> int:
    """What the counter of the window from `start` on may reach."""
    before = limit.spent_before_micro_rub if limit.created_at >= start else 0
    return limit.limit_micro_rub - before


def _amount(limit: SpendLimit | None) -> int | None:
    return limit.limit_micro_rub if limit is not None else None
