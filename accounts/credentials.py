"""Who is calling and what they may do, in one row of one query. Used by every door; caches nothing.

`CREDENTIAL_SQL` with `from_row`, and for API keys `KEY_SQL` with `from_key_row`, are shared with the engine's
lean path, which runs the query on its own connection and may keep the answer for a few seconds.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, TypeAlias
from uuid import UUID

from django.conf import settings
from django.db import connection

from accounts import key_secrets, roles
from accounts.errors import AddressNotAllowed, KeyExpired, KeyInvalid, KeyRevoked, SessionEnded
from accounts.key_secrets import FOREVER, PresentedKey

ACCESS_TOKEN = "access_token"  # noqa: S105 - the kind of a credential, not a secret
SITE_SESSION = "site_session"
API_KEY = "api_key"
USE_IS_NOTED_AFTER = timedelta(hours=1)  # when a key was last used is told that coarsely

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_USER_COLUMNS: LiteralString = """u.id AS user_id, u.is_active, u.token_version, u.is_staff, u.role, u.locale,
       ARRAY(
           SELECT a.version_id
           FROM legal_acceptance a
           JOIN legal_documentversion v ON v.id = a.version_id
           JOIN legal_legaldocument d ON d.id = v.document_id
           WHERE a.user_id = u.id AND d.kind = 'offer'
           GROUP BY a.version_id ORDER BY max(a.created_at) DESC
       ) AS offer_version_ids"""

# Parameters: user_id, session_id (null for a session of the site). No row: there is no such user.
CREDENTIAL_SQL: LiteralString = f"""
SELECT {_USER_COLUMNS},
       f.id AS session_id, f.revoked_at, f.absolute_expires_at
FROM accounts_user u
LEFT JOIN accounts_refreshfamily f ON f.id = %(session_id)s AND f.user_id = u.id
WHERE u.id = %(user_id)s
"""  # noqa: S608 - our own columns

# Parameter: public_id. No row: there is no such key.
KEY_SQL: LiteralString = f"""
SELECT {_USER_COLUMNS},
       k.id AS api_key_id, k.digest, k.pepper_version, k.models, k.ip_allow, k.expires_at, k.revoked_at,
       k.last_used_at
FROM accounts_apikey k
JOIN accounts_user u ON u.id = k.user_id
WHERE k.public_id = %(public_id)s
"""  # noqa: S608 - our own columns

# Parameters: now, api_key_id, before. Of many who see that it is time one writes.
NOTE_USE_SQL: LiteralString = """
UPDATE accounts_apikey SET last_used_at = %(now)s
 WHERE id = %(api_key_id)s AND (last_used_at IS NULL OR last_used_at <= %(before)s)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What an API key may do of what its owner may; empty is no restriction."""

    id: UUID
    public_id: str
    models: frozenset[str]
    networks: tuple[Network, ...]
    is_use_to_be_noted: bool

    def require_address(self, address: str) -> None:
        """`address` is the client's as the frame found it, "" when unknown. Raises AddressNotAllowed."""
        if not self.networks:
            return
        found = ipaddress.ip_address(address) if address else None
        if found is None or not any(found in network for network in self.networks):
            text = "This API key names the addresses it works from; this is none of them."
            raise key_secrets.refused(AddressNotAllowed(text), self.public_id)


@dataclass(frozen=True, slots=True)
class Credential:
    """A caller whose session is alive at the moment of asking."""

    user_id: UUID
    session_id: UUID | None
    kind: str  # "access_token", "site_session" or "api_key"
    role: str  # "" for a customer, and for any key
    is_unlimited: bool  # the development superaccount: runs cost nothing
    accepted_offer_version_ids: tuple[UUID, ...]  # newest acceptance first
    locale: str
    api_key: KeyScope | None = None

    @property
    def is_operator(self) -> bool:
        return bool(self.role)


def bearer_token(header: str) -> str:
    """The token of an Authorization header; "" without one, and for any scheme but Bearer."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def load(*, user_id: UUID, session_id: UUID, token_version: int, now: datetime) -> Credential:
    """The caller behind an access token's claims.

    Raises SessionEnded when the family is revoked or over, the user is blocked or gone, or the token is of an
    earlier version than the user.
    """
    return from_row(_row(user_id, session_id), token_version=token_version, now=now)


def for_site_session(user_id: UUID) -> Credential:
    """The caller behind a session of the site, which Django has already checked. Raises SessionEnded."""
    row = _row(user_id, None)
    if row is None or not row["is_active"]:
        raise SessionEnded
    return _credential(row, SITE_SESSION)


def from_row(row: Mapping[str, Any] | None, *, token_version: int, now: datetime) -> Credential:
    """Judge one row of CREDENTIAL_SQL by name of column. Raises SessionEnded as `load` does."""
    is_alive = (
        row is not None
        and row["is_active"]
        and row["token_version"] == token_version
        and row["session_id"] is not None
        and row["revoked_at"] is None
        and row["absolute_expires_at"] > now
    )
    if row is None or not is_alive:
        raise SessionEnded
    return _credential(row, ACCESS_TOKEN)


def load_by_key(presented: PresentedKey, *, now: datetime) -> Credential:
    """The caller behind an API key. Raises as `from_key_row` does."""
    with connection.cursor() as cursor:
        cursor.execute(KEY_SQL, {"public_id": presented.public_id})
        found = from_key_row(_named(cursor), presented=presented, now=now)
        if found.api_key is not None and found.api_key.is_use_to_be_noted:
            cursor.execute(NOTE_USE_SQL, use_parameters(found.api_key, now))
    return found


def from_key_row(row: Mapping[str, Any] | None, *, presented: PresentedKey, now: datetime) -> Credential:
    """Judge one row of KEY_SQL. Raises KeyInvalid (of a blocked account too), KeyRevoked, KeyExpired."""
    if row is None or not presented.is_of(row["digest"], row["pepper_version"]):
        raise key_secrets.refused(KeyInvalid(), presented.public_id)
    presented.key_id = row["api_key_id"]
    presented.expires_at = row["expires_at"] or FOREVER
    if row["revoked_at"] is not None:
        raise key_secrets.refused(KeyRevoked(), presented.public_id)
    if presented.expires_at <= now:
        raise key_secrets.refused(KeyExpired(), presented.public_id)
    if not row["is_active"]:
        text = "The account of this API key is blocked."
        raise key_secrets.refused(KeyInvalid(text), presented.public_id)
    last_used_at = row["last_used_at"]
    scope = KeyScope(
        id=row["api_key_id"],
        public_id=presented.public_id,
        models=frozenset(row["models"]),
        networks=tuple(ipaddress.ip_network(text) for text in row["ip_allow"]),
        is_use_to_be_noted=last_used_at is None or last_used_at <= now - USE_IS_NOTED_AFTER,
    )
    return Credential(
        user_id=row["user_id"],
        session_id=None,
        kind=API_KEY,
        role=roles.Role.NONE.value,
        is_unlimited=is_superaccount(row["user_id"]),
        accepted_offer_version_ids=tuple(row["offer_version_ids"]),
        locale=row["locale"],
        api_key=scope,
    )


def use_parameters(key: KeyScope, now: datetime) -> dict[str, Any]:
    return {"now": now, "api_key_id": key.id, "before": now - USE_IS_NOTED_AFTER}


def is_superaccount(user_id: UUID) -> bool:
    """The development superaccount, which exists only outside production and only when asked for."""
    return (
        settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED
        and not settings.IS_PRODUCTION
        and str(user_id) == settings.PLYRUM_DEV_SUPERACCOUNT_USER_ID
    )


def _credential(row: Mapping[str, Any], kind: str) -> Credential:
    return Credential(
        user_id=row["user_id"],
        session_id=row["session_id"],
        kind=kind,
        role=roles.working_role(user_id=row["user_id"], is_staff=row["is_staff"], role=row["role"]),
        is_unlimited=is_superaccount(row["user_id"]),
        accepted_offer_version_ids=tuple(row["offer_version_ids"]),
        locale=row["locale"],
    )


def _row(user_id: UUID, session_id: UUID | None) -> dict[str, Any] | None:
    with connection.cursor() as cursor:
        cursor.execute(CREDENTIAL_SQL, {"user_id": user_id, "session_id": session_id})
        return _named(cursor)


def _named(cursor: Any) -> dict[str, Any] | None:
    found = cursor.fetchone()
    names = [column.name for column in cursor.description]
    return dict(zip(names, found, strict=True)) if found else None
