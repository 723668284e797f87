"""Access tokens: short-lived signed statements "this is user X in session Y". No database here.

The algorithm is fixed by our own key (Ed25519: EdDSA, RSA: RS256), never by the token; headers that point at
other keys are refused. Whether the session still lives is asked in `credentials`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from accounts.errors import TokenExpired, TokenInvalid
from plyrum.ids import uuid7

AUDIENCE = "plyrum-api"
TYPE = "access"
MAX_CHARS = 4_096  # far above our own tokens; longer input is not worth a signature check
MAX_CLOCK_SKEW_SECONDS = 30  # between our own machines, for `iat` only
_CLAIMS = ["sub", "iat", "exp", "jti", "sid", "ver", "aud", "iss", "typ"]
_HEADERS = {"alg", "typ"}


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: UUID
    session_id: UUID
    token_version: int
    token_id: str
    expires_at: datetime


def issue(*, user_id: UUID, session_id: UUID, token_version: int, now: datetime) -> str:
    """Sign an access token that lives for ACCESS_TOKEN_TTL seconds from `now`."""
    issued = int(now.timestamp())
    claims = {
        "sub": str(user_id),
        "sid": str(session_id),
        "ver": token_version,
        "jti": str(uuid7()),
        "iat": issued,
        "exp": issued + settings.ACCESS_TOKEN_TTL,
        "aud": AUDIENCE,
        "iss": settings.SITE_URL,
        "typ": TYPE,
    }
    key, algorithm = _private_key(settings.JWT_PRIVATE_KEY)
    return jwt.encode(claims, key, algorithm=algorithm)


def verify(token: str, *, now: datetime) -> Claims:
    """The claims of a token that we signed and that has not run out.

    Raises TokenExpired for a genuine token out of time, TokenInvalid for everything else.
    """
    claims = _genuine(token)
    moment = now.timestamp()
    try:
        if claims["typ"] != TYPE or int(claims["iat"]) > moment + MAX_CLOCK_SKEW_SECONDS:
            raise TokenInvalid
        found = Claims(
            user_id=UUID(claims["sub"]),
            session_id=UUID(claims["sid"]),
            token_version=int(claims["ver"]),
            token_id=str(claims["jti"]),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise TokenInvalid from error
    if found.expires_at.timestamp() <= moment:
        raise TokenExpired
    return found


def _genuine(token: str) -> dict[str, Any]:
    if len(token) > MAX_CHARS:
        raise TokenInvalid
    key, algorithm = _public_key(settings.JWT_PUBLIC_KEY)
    try:
        if not set(jwt.get_unverified_header(token)) <= _HEADERS:
            raise TokenInvalid
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=AUDIENCE,
            issuer=settings.SITE_URL,
            # The clock is the door's own `now`, so the library does not look at one.
            options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.InvalidTokenError, UnicodeError) as error:
        raise TokenInvalid from error


@lru_cache(maxsize=4)
def _private_key(pem: str) -> tuple[Ed25519PrivateKey | RSAPrivateKey, str]:
    key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA"
    if isinstance(key, RSAPrivateKey):
        return key, "RS256"
    raise ImproperlyConfigured("JWT_PRIVATE_KEY is an Ed25519 or RSA key.")


@lru_cache(maxsize=4)
def _public_key(pem: str) -> tuple[Ed25519PublicKey | RSAPublicKey, str]:
    key = serialization.load_pem_public_key(pem.encode("ascii"))
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    if isinstance(key, RSAPublicKey):
        return key, "RS256"
    raise ImproperlyConfigured("JWT_PUBLIC_KEY is an Ed25519 or RSA key.")
