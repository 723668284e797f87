"""Plain values that cross the borders of this app."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from auditlog.actors import Actor


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: what the journal, acceptances and session lists keep."""

    ip: str = ""
    request_id: str = ""
    user_agent: str = ""
    surface: str = "system"  # site, api or system
    locale: str = "ru"

    def customer(self, user_id: UUID) -> Actor:
        return Actor.customer(user_id, ip=self.ip, request_id=self.request_id)

    def somebody(self) -> Actor:
        """A visitor whom we do not know."""
        return Actor("customer", "", self.ip, self.request_id)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a person is told about themselves."""

    id: UUID
    email: str
    email_verified: bool
    is_operator: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TokenPair:
    access_token: str
    refresh_token: str
    expires_in: int  # seconds of the access token
    user: Profile
