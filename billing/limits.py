"""The acts on limits of spending: set, remove, lift for the rest of a window; stop and allow spending.

A customer limits themselves; operators limit anybody, with a reason. Nothing else sets a limit or a stop, and
nothing clears one by itself. Source: docs/decisions/0025-limits-of-spending.md.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Sum
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from accounts.errors import KeyNotFound, UserNotFound
from accounts.models import ApiKey, User
from auditlog import journal, reasons
from auditlog.actors import Actor
from billing import policies, windows
from billing.errors import AlreadyBlocked, LimitNotFound, NotBlocked, OwnWallet
from billing.limit_models import LimitLift, SpendingBlock, SpendLimit, Window
from billing.models import LimitCounter, UsageEvent
from billing.shapes import MOST_MICRO_RUB
from plyrum.errors import InvalidRequest
from plyrum.transactions import require_transaction

log = structlog.get_logger(__name__)

SetBy: TypeAlias = SpendLimit.SetBy
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SUBJECT = re.compile(
    rf"(?:user|key|organisation):{_ID}|(?:gift|anonymous):(?:each|all)|tier:(?:free|paid|plan)|plan:[-a-zA-Z0-9_]{{1,40}}"
)
_COUNTED_SUBJECT = re.compile(rf"(?:user|key|gift|organisation):{_ID}|gift:all")


def user_subject(customer_id: UUID) -> str:
    return f"user:{customer_id}"


def key_subject(key_id: UUID) -> str:
    return f"key:{key_id}"


def is_subject(subject: str) -> bool:
    """Whether a limit may be set for it; not whether there is such a customer, plan or organisation."""
    return _SUBJECT.fullmatch(subject) is not None


def own(customer_id: UUID) -> dict[str, int]:
    """What the customer allows themselves: micro-RUB by window."""
    return _own(user_subject(customer_id))


def _own(subject: str) -> dict[str, int]:
    rows = SpendLimit.objects.filter(subject=subject, set_by=SetBy.CUSTOMER)
    return dict(rows.values_list("window", "limit_micro_rub"))


@transaction.atomic(durable=True)
def set_own(*, customer_id: UUID, limits: Mapping[Window, int], now: datetime, actor: Actor) -> None:
    """Make `limits` (micro-RUB by window) the customer's own; what is not named has none.

    The same again changes nothing and leaves no entry. Raises InvalidRequest.
    """
    User.objects.select_for_update(no_key=True).filter(
        pk=customer_id
    ).first()  # two forms at once: one, then one
    _replace_own(user_subject(customer_id), customer_id, limits, now=now, actor=actor)


def set_own_of_key(
    *, key: ApiKey, limits: Mapping[Window, int], now: datetime, actor: Actor, is_new: bool = False
) -> None:
    """The same for one of the customer's API keys; a new one has spent nothing. Raises InvalidRequest.

    Must run inside the caller's transaction, which has locked the customer.
    """
    require_transaction()
    _replace_own(key_subject(key.pk), key.user_id, limits, now=now, actor=actor, has_spent=not is_new)


def _replace_own(
    subject: str,
    customer_id: UUID,
    limits: Mapping[Window, int],
    *,
    now: datetime,
    actor: Actor,
    has_spent: bool = True,
) -> None:
    for amount in limits.values():
        _require_amount(amount)
    before = _own(subject)
    wanted = {window.value: amount for window, amount in limits.items()}
    if before == wanted:
        return
    SpendLimit.objects.filter(subject=subject, set_by=SetBy.CUSTOMER).delete()
    SpendLimit.objects.bulk_create(
        SpendLimit(
            subject=subject,
            window=window,
            limit_micro_rub=amount,
            spent_before_micro_rub=_spent_before(subject, window, now) if has_spent else 0,
            set_by=SetBy.CUSTOMER,
            author_id=customer_id,
            created_at=now,
        )
        for window, amount in wanted.items()
    )
    _journal("billing.limits.own", subject, actor, before=before, limits=wanted)


@transaction.atomic(durable=True)
def set_limit(
    *, subject: str, window: Window, limit_micro_rub: int, reason: str, now: datetime, actor: Actor
) -> SpendLimit:
    """An operator's limit of a subject and window, in place of the one before.

    Raises InvalidRequest (subject, amount, reason), UserNotFound, KeyNotFound, OwnWallet.
    """
    if not is_subject(subject):
        raise _wrong(
            "subject",
            "A limit is for user:, key:, organisation:<id>, plan:<code>, tier:<name>, gift:<each or all>.",
        )
    _require_amount(limit_micro_rub)
    _require_customer(subject, actor)
    row, _ = SpendLimit.objects.update_or_create(
        subject=subject,
        window=window,
        set_by=SetBy.OPERATOR,
        defaults={
            "limit_micro_rub": limit_micro_rub,
            "spent_before_micro_rub": _spent_before(subject, window, now),
            "author_id": UUID(actor.id),
            "reason": reasons.required(reason),
            "created_at": now,
        },
    )
    facts = {"window": str(window), "limit_micro_rub": limit_micro_rub, "reason": row.reason}
    _journal("billing.limit.set", subject, actor, **facts)
    return row


@transaction.atomic(durable=True)
def remove_limit(*, limit_id: UUID, reason: str, actor: Actor) -> None:
    """Take an operator's limit away. A customer's own is theirs: it is lifted, not removed.

    Raises LimitNotFound, InvalidRequest, OwnWallet.
    """
    row = SpendLimit.objects.select_for_update().filter(pk=limit_id, set_by=SetBy.OPERATOR).first()
    if row is None:
        raise LimitNotFound
    _require_customer(row.subject, actor)
    facts = {"window": row.window, "limit_micro_rub": row.limit_micro_rub, "reason": reasons.required(reason)}
    row.delete()
    _journal("billing.limit.removed", row.subject, actor, **facts)


@transaction.atomic(durable=True)
def lift(*, subject: str, window: Window, reason: str, now: datetime, actor: Actor) -> LimitLift:
    """Allow what the limits of this subject and window forbid until the window ends; twice is once.

    `subject` is the counter's: `user:<id>`, `key:<id>`, `organisation:<id>`, `gift:<customer>`, `gift:all`.
    Raises InvalidRequest, UserNotFound, KeyNotFound, OwnWallet.
    """
    if not _COUNTED_SUBJECT.fullmatch(subject) or window not in windows.COUNTED:
        raise _wrong(
            "subject",
            "Lifted is a limit by hour, day or month of a customer, a key, an organisation or gifts.",
        )
    _require_customer(subject, actor)
    row, is_new = LimitLift.objects.get_or_create(
        subject=subject,
        window=window,
        ends_at=windows.end_of(window, now),
        defaults={"author_id": UUID(actor.id), "reason": reasons.required(reason), "created_at": now},
    )
    if is_new:
        facts = {"window": str(window), "ends_at": row.ends_at.isoformat(), "reason": row.reason}
        _journal("billing.limit.lifted", subject, actor, **facts)
    return row


@transaction.atomic(durable=True)
def block(*, customer_id: UUID, reason: str, now: datetime, actor: Actor) -> SpendingBlock:
    """Stop a customer's spending; what runs is settled.

    Raises AlreadyBlocked, InvalidRequest, UserNotFound, OwnWallet.
    """
    _require_customer(user_subject(customer_id), actor)
    row = SpendingBlock(
        customer_id=customer_id,
        author_id=UUID(actor.id),
        reason=reasons.required(reason),
        created_at=now,
    )
    SpendingBlock.objects.bulk_create([row], ignore_conflicts=True)  # two operators at once: one row
    if not SpendingBlock.objects.filter(pk=row.pk).exists():
        raise AlreadyBlocked
    _journal("billing.spending.blocked", user_subject(customer_id), actor, reason=row.reason)
    return row


@transaction.atomic(durable=True)
def unblock(*, customer_id: UUID, reason: str, now: datetime, actor: Actor) -> None:
    """Allow spending again. Raises NotBlocked, InvalidRequest, UserNotFound, OwnWallet."""
    _require_customer(user_subject(customer_id), actor)
    said = reasons.required(reason)
    opened = SpendingBlock.objects.filter(customer_id=customer_id, lifted_at=None).update(
        lifted_at=now, lifted_by_id=UUID(actor.id), lift_reason=said
    )
    if not opened:
        raise NotBlocked
    _journal("billing.spending.unblocked", user_subject(customer_id), actor, reason=said)


def _spent_before(subject: str, window: str, now: datetime) -> int:
    """What was charged in the running window and is not counted: counters begin with a limit.

    What runs at this moment without a limit is in neither. Only customers and keys have it: gifts,
    organisations, tiers and plans are counted from their limit on.
    """
    kind, _, name = subject.partition(":")
    if window == Window.REQUEST or kind not in ("user", "key"):
        return 0
    start = windows.start_of(window, now)
    # By its customer also for a key: no index knows keys, and the customer's row is locked meanwhile.
    whose: dict[str, Any] = {"customer_id": _customer_of(subject)}
    if kind == "key":
        whose["api_key_id"] = name
    rows = UsageEvent.objects.filter(**whose, created_at__gte=start)
    charged = int(rows.aggregate(sum=Sum("charged_micro_rub"))["sum"] or 0)
    counter = LimitCounter.objects.filter(subject=subject, window=window, window_start=start).first()
    return max(0, charged - (counter.spent_micro_rub if counter is not None else 0))


def _customer_of(subject: str) -> UUID | None:
    """Whose limit it is, if it is one person's. Raises KeyNotFound."""
    kind, _, name = subject.partition(":")
    if kind == "key":
        owner: UUID | None = ApiKey.objects.filter(pk=name).values_list("user_id", flat=True).first()
        if owner is None:
            raise KeyNotFound
        return owner
    return UUID(name) if kind in ("user", "gift") and name not in ("each", "all") else None


def _require_customer(subject: str, actor: Actor) -> None:
    customer_id = _customer_of(subject)
    if customer_id is None:
        return
    if str(customer_id) == actor.id:
        raise OwnWallet
    if not User.objects.filter(pk=customer_id).exists():
        raise UserNotFound


def _require_amount(limit_micro_rub: int) -> None:
    if not 0 <= limit_micro_rub <= MOST_MICRO_RUB:
        raise _wrong("limit_micro_rub", "A limit is from nothing to a hundred million roubles.")


def _wrong(name: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, errors=[{"loc": [name], "msg": text, "type": "value_error"}])


def _journal(action: str, subject: str, actor: Actor, **data: Any) -> None:
    """The entry, and after the commit the word to engines that remember the policy."""
    customer_id = _customer_of(subject)
    journal.record(actor=actor, action=action, subject=subject, data=data, target_user_id=customer_id)
    whose = str(customer_id) if customer_id else policies.EVERYBODY
    transaction.on_commit(lambda: tell_engines(whose))


def tell_engines(whose: str) -> None:
    """A word that is lost costs the seconds for which an engine remembers."""
    try:
        get_redis_connection().publish(policies.CHANGES_CHANNEL, whose)
    except RedisError as error:
        log.warning("policy_change_not_told", error=type(error).__name__)
