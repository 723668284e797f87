"""The customer API's question "who is calling": the Authorization header, nothing else.

`AccessToken` is set once for the whole API, by name, in the frame; it turns API keys away, so that a new
operation is closed to them. One that keys may call says `auth=WITH_KEYS`. Leaves the answer in
`request.credential`.
"""

from abc import ABC
from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from accounts import credentials, key_secrets, tokens
from accounts.credentials import Credential
from accounts.errors import KeyNotEnough, TokenInvalid
from plyrum import clock


class _Bearer(HttpBearer, ABC):
    """Ninja's bearer authentication without its line in the log, which repeats a header of another scheme."""

    def __call__(self, request: HttpRequest) -> Credential | None:
        token = credentials.bearer_token(request.headers.get("Authorization", ""))
        found: Credential | None = self.authenticate(request, token) if token else None
        return found


class AccessToken(_Bearer):
    """Ninja's authentication. Raises Unauthenticated errors with their codes; a missing header is 401 too."""

    def authenticate(self, request: HttpRequest, token: str) -> Credential:
        found = credential_of(token)
        request.credential = found  # type: ignore[attr-defined]
        return found


class ApiKey(_Bearer):
    """An API key of a customer: `plk_...`. Stands before AccessToken, which is asked about all else."""

    openapi_description = "An API key of a customer, `plk_...`. Operations that do not name it answer it 403."

    def authenticate(self, request: HttpRequest, token: str) -> Credential | None:
        if not token.startswith(key_secrets.PREFIX):
            return None
        found = credentials.load_by_key(key_secrets.read(token), now=clock.now())
        if found.api_key is not None and found.api_key.networks:
            found.api_key.require_address(request.client_ip)  # type: ignore[attr-defined]
        request.credential = found  # type: ignore[attr-defined]
        return found


WITH_KEYS = [ApiKey(), AccessToken()]


def credential_of(token: str) -> Credential:
    """The live caller behind an access token. Raises TokenInvalid, TokenExpired, SessionEnded.

    For an API key it raises what is wrong with it, else KeyNotEnough.
    """
    now = clock.now()
    if token.startswith(key_secrets.PREFIX):
        credentials.load_by_key(key_secrets.read(token), now=now)
        raise KeyNotEnough("An API key may not do this: sign in and send an access token.")
    claims = tokens.verify(token, now=now)
    return credentials.load(
        user_id=claims.user_id, session_id=claims.session_id, token_version=claims.token_version, now=now
    )


def bearer_of(request: HttpRequest | Any) -> str:
    """The token of the Authorization header, "" without one. Raises TokenInvalid for another scheme."""
    header: str = request.headers.get("Authorization", "")
    token = credentials.bearer_token(header)
    if header and not token:
        raise TokenInvalid
    return token
