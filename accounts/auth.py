"""The customer API's question "who is calling": an access token in the Authorization header, nothing else.

Set once for the whole API, by name, in the frame. Leaves the answer in `request.credential`.
"""

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from accounts import credentials, tokens
from accounts.credentials import Credential
from accounts.errors import TokenInvalid
from plyrum import clock


class AccessToken(HttpBearer):
    """Ninja's authentication. Raises Unauthenticated errors with their codes; a missing header is 401 too."""

    def authenticate(self, request: HttpRequest, token: str) -> Credential:
        found = credential_of(token)
        request.credential = found  # type: ignore[attr-defined]
        return found


def credential_of(token: str) -> Credential:
    """The live caller behind an access token. Raises TokenInvalid, TokenExpired, SessionEnded."""
    now = clock.now()
    claims = tokens.verify(token, now=now)
    return credentials.load(
        user_id=claims.user_id, session_id=claims.session_id, token_version=claims.token_version, now=now
    )


def bearer_of(request: HttpRequest | Any) -> str:
    """The token of the Authorization header, "" without one. Raises TokenInvalid for another scheme."""
    header: str = request.headers.get("Authorization", "")
    if not header:
        return ""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid
    return token.strip()
