"""API keys of customers: issue, rename, revoke. What one may spend is `billing/keys.py`, which calls this.

A key is told once, in the answer of the call that made it; rolling is a new one and then an end of the old.
Revoking is final. Engines hear of it through Redis and also ask, so that runs of the key stop. Owners get a
letter about a new key, for whoever found their session open could make one, and about one that an operator
ended.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import orjson
import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_redis import get_redis_connection  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from accounts import key_secrets, notices
from accounts.errors import KeyEnded, KeyNotFound, TooManyKeys
from accounts.models import ApiKey, User
from auditlog import journal
from auditlog.actors import Actor
from plyrum.errors import InvalidRequest
from plyrum.transactions import require_transaction

log = structlog.get_logger(__name__)

MOST_ALIVE = 50
NAME_CHARS = 60
REASON_CHARS = 300
ENDED_CHANNEL = "accounts:keys"  # Redis: the id of a key that was revoked

# Parameter: ids of keys. Which of them are revoked.
REVOKED_SQL: LiteralString = """
SELECT array_agg(id) AS ids FROM accounts_apikey WHERE id = ANY(%s) AND revoked_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new key is to be; `ip_allow` as `network_of` writes it."""

    name: str
    expires_at: datetime | None = None
    models: tuple[str, ...] = ()
    ip_allow: tuple[str, ...] = ()

    def fingerprint(self, **more: object) -> str:
        """Of these wishes and whatever else the same call asks for."""
        ends = self.expires_at and self.expires_at.astimezone(UTC)
        facts = [self.name, ends, sorted(self.models), sorted(self.ip_allow), sorted(more.items())]
        return hashlib.sha256(orjson.dumps(facts)).hexdigest()


def network_of(text: str) -> str:
    """An address or a network in CIDR notation as it is stored; IPv4 written as IPv6 is IPv4.

    Raises ValueError, also for a network with bits of a host.
    """
    network = ipaddress.ip_network(text.strip())
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return f"{mapped}/{network.prefixlen - 96}"
    return str(network)


def of_customer(customer_id: UUID) -> QuerySet[ApiKey]:
    """All of them, revoked ones too; order them by `id`."""
    return ApiKey.objects.filter(user_id=customer_id)


def own(customer_id: UUID, key_id: UUID | str) -> ApiKey:
    """Raises KeyNotFound, also for somebody else's."""
    try:
        found = of_customer(customer_id).filter(pk=UUID(str(key_id))).first()
    except ValueError as error:
        raise KeyNotFound from error
    if found is None:
        raise KeyNotFound
    return found


def names(ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """What their owners call these keys; None among the ids is no key."""
    known = {key_id for key_id in ids if key_id is not None}
    return dict(ApiKey.objects.filter(pk__in=known).values_list("pk", "name")) if known else {}


def by_call(customer_id: UUID, idempotency_key: str) -> ApiKey | None:
    """The key that an earlier call with this idempotency key made."""
    return (
        of_customer(customer_id).filter(idempotency_key=idempotency_key).first() if idempotency_key else None
    )


def issue(
    *,
    customer_id: UUID,
    wish: Wish,
    now: datetime,
    actor: Actor,
    idempotency_key: str = "",
    fingerprint: str = "",
) -> tuple[ApiKey, str]:
    """Make a key; answers its row and its text, which is kept nowhere. Raises TooManyKeys.

    Must run inside the caller's transaction, which has locked the customer (`lock`).
    """
    require_transaction()
    if ApiKey.objects.alive(now).filter(user_id=customer_id).count() >= MOST_ALIVE:
        raise TooManyKeys(f"A customer has at most {MOST_ALIVE} keys. Revoke one first.", most=MOST_ALIVE)
    secret = key_secrets.make()
    row = ApiKey.objects.create(
        user_id=customer_id,
        name=wish.name,
        public_id=secret.public_id,
        digest=secret.digest,
        pepper_version=secret.pepper_version,
        models=sorted(set(wish.models)),
        ip_allow=sorted(set(wish.ip_allow)),
        created_at=now,
        expires_at=wish.expires_at,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )
    _journal(
        row,
        "accounts.api_key.issued",
        actor,
        name=row.name,
        models=row.models,
        ip_allow=row.ip_allow,
        expires_at=row.expires_at.isoformat() if row.expires_at else None,
    )
    _write_to_owner(row, "api_key_issued", now)
    return row, secret.text


def lock(customer_id: UUID) -> None:
    """Two calls about keys of one customer at once: one, then one. Inside the caller's transaction."""
    require_transaction()
    User.objects.select_for_update(no_key=True).filter(pk=customer_id).first()


def rename(row: ApiKey, name: str, *, actor: Actor) -> None:
    """The same name changes nothing. Inside the caller's transaction, which has locked the customer.

    Raises KeyEnded.
    """
    require_transaction()
    require_not_ended(row)
    if row.name == name:
        return
    before, row.name = row.name, name
    row.save(update_fields=["name"])
    _journal(row, "accounts.api_key.renamed", actor, before=before, name=name)


def require_not_ended(row: ApiKey) -> None:
    if row.revoked_at is not None:
        raise KeyEnded


@transaction.atomic(durable=True)
def revoke(*, key_id: UUID, now: datetime, actor: Actor, reason: str = "") -> None:
    """End a key for good; a second time changes nothing. The door has checked whose it is.

    Raises KeyNotFound, InvalidRequest (an operator without a reason).
    """
    if actor.kind == "operator" and not reason.strip():
        raise InvalidRequest("Say why.")
    row = ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id).first()
    if row is None:
        raise KeyNotFound
    if row.revoked_at is not None:
        return
    row.revoked_at = now
    row.save(update_fields=["revoked_at"])
    said = {"reason": reason.strip()[:REASON_CHARS]} if reason.strip() else {}
    _journal(row, "accounts.api_key.revoked", actor, name=row.name, **said)
    if actor.kind == "operator":
        _write_to_owner(row, "api_key_revoked", now)
    transaction.on_commit(lambda: _tell_engines(key_id))


def _tell_engines(key_id: UUID) -> None:
    """A word that is lost costs the seconds after which engines ask."""
    try:
        get_redis_connection().publish(ENDED_CHANNEL, str(key_id))
    except RedisError as error:
        log.warning("key_end_not_told", error=type(error).__name__)


def _write_to_owner(row: ApiKey, letter: str, now: datetime) -> None:
    at = timezone.localtime(now, timezone.get_default_timezone())
    facts = {"name": row.name, "prefix": row.prefix, "happened_at": f"{at:%d.%m.%Y %H:%M}"}
    notices.write(user_id=row.user_id, letter=letter, key=f"{letter}:{row.pk}", facts=facts, now=now)


def _journal(row: ApiKey, action: str, actor: Actor, **data: object) -> None:
    journal.record(actor=actor, action=action, subject=f"key:{row.pk}", data=data, target_user_id=row.user_id)
