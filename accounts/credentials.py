"""Who is calling and what they may do, in one row of one query. Used by every door; caches nothing.

`CREDENTIAL_SQL` and `from_row` are shared with the engine's lean path, which runs the query on its own
connection and may keep the answer for a few seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from accounts import roles
from accounts.errors import SessionEnded

ACCESS_TOKEN = "access_token"  # noqa: S105 - the kind of a credential, not a secret
SITE_SESSION = "site_session"

# Parameters: user_id, session_id (null for a session of the site). No row: there is no such user.
CREDENTIAL_SQL = """
SELECT u.id AS user_id, u.is_active, u.token_version, u.is_staff, u.role, u.locale,
       f.id AS session_id, f.revoked_at, f.absolute_expires_at,
       ARRAY(
           SELECT a.version_id
           FROM legal_acceptance a
           JOIN legal_documentversion v ON v.id = a.version_id
           JOIN legal_legaldocument d ON d.id = v.document_id
           WHERE a.user_id = u.id AND d.kind = 'offer'
           GROUP BY a.version_id ORDER BY max(a.created_at) DESC
       ) AS offer_version_ids
FROM accounts_user u
LEFT JOIN accounts_refreshfamily f ON f.id = %(session_id)s AND f.user_id = u.id
WHERE u.id = %(user_id)s
"""


@dataclass(frozen=True, slots=True)
class Credential:
    """A caller whose session is alive at the moment of asking."""

    user_id: UUID
    session_id: UUID | None
    kind: str  # "access_token" or "site_session"
    role: str  # "" for a customer
    is_unlimited: bool  # the development superaccount: runs cost nothing
    accepted_offer_version_ids: tuple[UUID, ...]  # newest acceptance first
    locale: str

    @property
    def is_operator(self) -> bool:
        return bool(self.role)


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
        found = cursor.fetchone()
        names = [column.name for column in cursor.description]
    return dict(zip(names, found, strict=True)) if found else None
