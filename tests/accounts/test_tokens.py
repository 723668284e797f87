import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings as configured
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings

from accounts import tokens
from accounts.errors import TokenExpired, TokenInvalid
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories

Claims = dict[str, Any]


def claims(**changes: Any) -> Claims:
    issued = int(clock.now().timestamp())
    good = {
        "sub": str(uuid7()),
        "sid": str(uuid7()),
        "ver": 1,
        "jti": str(uuid7()),
        "iat": issued,
        "exp": issued + 900,
        "aud": "plyrum-api",
        "iss": configured.SITE_URL,
        "typ": "access",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(body: Claims, **headers: Any) -> str:
    """A token with our own signature: only what stands in it can be wrong."""
    return jwt.encode(body, configured.JWT_PRIVATE_KEY, algorithm="EdDSA", headers=headers or None)


def part(value: bytes | Claims) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def with_hmac_of_the_public_key(algorithm: str) -> str:
    """The classic mix-up: our public key, which everybody may know, taken for a shared secret."""
    text = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}"
    digest = hmac.new(configured.JWT_PUBLIC_KEY.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{part(digest)}"


def new_key(algorithm: str) -> Ed25519PrivateKey | rsa.RSAPrivateKey:
    if algorithm == "EdDSA":
        return Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def by_another_key(algorithm: str = "EdDSA") -> str:
    return jwt.encode(claims(), new_key(algorithm), algorithm=algorithm)


def tampered() -> str:
    head, _, signature = signed(claims()).split(".")
    return f"{head}.{part(claims(sub=str(uuid7())))}.{signature}"


def without(name: str) -> str:
    return signed(claims(**{name: None}))


FORGED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "garbage": lambda: "garbage",
    "two parts": lambda: ".".join(signed(claims()).split(".")[:2]),
    "not ascii": lambda: "ключ.ключ.ключ",
    "five kilobytes": lambda: signed(claims(note="x" * 5_000)),
    "api key": lambda: "plk_0123456789abcdef0123456789abcdef",
    "alg none": lambda: f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims())}.",
    "alg None with signature": lambda: f"{part({'alg': 'None'})}.{part(claims())}.{part(b'x' * 64)}",
    "hmac of the public key": lambda: with_hmac_of_the_public_key("HS256"),
    "hmac named eddsa": lambda: with_hmac_of_the_public_key("EdDSA"),
    "another ed25519 key": by_another_key,
    "rsa key": lambda: by_another_key("RS256"),
    "tampered body": tampered,
    "header kid": lambda: signed(claims(), kid="../../dev/null"),
    "header jku": lambda: signed(claims(), jku="https://evil.example/keys"),
    "header jwk": lambda: signed(claims(), jwk={"kty": "OKP"}),
    "header crit": lambda: signed(claims(), crit=["exp"]),
    "refresh type": lambda: signed(claims(typ="refresh")),
    "other audience": lambda: signed(claims(aud="somebody-else")),
    "several audiences of others": lambda: signed(claims(aud=["a", "b"])),
    "other issuer": lambda: signed(claims(iss="https://evil.example")),
    "issued in the future": lambda: signed(claims(iat=int(clock.now().timestamp()) + 3_600)),
    "subject is no uuid": lambda: signed(claims(sub="1 OR 1=1")),
    "subject is a number": lambda: signed(claims(sub=1)),
    "session is no uuid": lambda: signed(claims(sid="x")),
    "version is no number": lambda: signed(claims(ver="x")),
    "expiry is no number": lambda: signed(claims(exp="soon")),
    "expiry beyond time": lambda: signed(claims(exp=10**30)),
    **{f"without {name}": partial(without, name) for name in claims()},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_token_is_refused(name: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.verify(FORGED[name](), now=clock.now())


@pytest.mark.parametrize("name", sorted(set(FORGED) - {"empty", "not ascii"}))
def test_forged_token_opens_no_door(client: Client, name: str) -> None:
    answer = client.get("/api/account", headers={"Authorization": f"Bearer {FORGED[name]()}"})

    assert answer.status_code == 401
    assert answer.json()["code"] == ("key_invalid" if name == "api key" else "token_invalid")


def test_genuine_token_tells_who_and_which_session() -> None:
    now, user_id, session_id = clock.now(), uuid7(), uuid7()

    token = tokens.issue(user_id=user_id, session_id=session_id, token_version=7, now=now)
    found = tokens.verify(token, now=now)

    assert (found.user_id, found.session_id, found.token_version) == (user_id, session_id, 7)
    assert set(jwt.decode(token, options={"verify_signature": False})) == set(claims())


def test_token_ends_at_its_time_to_the_second() -> None:
    now = clock.now().replace(microsecond=0)
    token = tokens.issue(user_id=uuid7(), session_id=uuid7(), token_version=1, now=now)
    life = timedelta(seconds=configured.ACCESS_TOKEN_TTL)

    tokens.verify(token, now=now + life - timedelta(seconds=1))
    with pytest.raises(TokenExpired):
        tokens.verify(token, now=now + life)


def test_expired_token_says_so_at_the_door(client: Client) -> None:
    past = int(clock.now().timestamp()) - 10

    answer = client.get("/api/account", headers={"Authorization": f"Bearer {signed(claims(exp=past))}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token abc"])
def test_other_headers_are_nobody(client: Client, header: str) -> None:
    headers = {"Authorization": header} if header else {}

    answer = client.get("/api/account", headers=headers)

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_key_of_either_kind_signs_and_no_other_is_trusted(settings: Settings, algorithm: str) -> None:
    key = new_key(algorithm)
    settings.JWT_PRIVATE_KEY, settings.JWT_PUBLIC_KEY = _pem(key), _public_pem(key)

    token = tokens.issue(user_id=uuid7(), session_id=uuid7(), token_version=1, now=clock.now())

    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert tokens.verify(token, now=clock.now())
    for other in ("EdDSA", "RS256"):
        with pytest.raises(TokenInvalid):
            tokens.verify(by_another_key(other), now=clock.now())


def test_other_kinds_of_keys_are_refused(settings: Settings) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings.JWT_PRIVATE_KEY, settings.JWT_PUBLIC_KEY = _pem(key), _public_pem(key)

    with pytest.raises(ImproperlyConfigured):
        tokens.issue(user_id=uuid7(), session_id=uuid7(), token_version=1, now=clock.now())
    with pytest.raises(ImproperlyConfigured):
        tokens.verify("a.b.c", now=clock.now())


def test_token_of_a_deleted_session_is_refused(client: Client) -> None:
    user = factories.customer()
    token = tokens.issue(user_id=user.id, session_id=uuid7(), token_version=1, now=clock.now())

    answer = client.get("/api/account", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def test_token_of_a_strangers_session_is_refused(client: Client) -> None:
    user, stranger = factories.customer(), factories.stranger()
    family = stranger.refresh_families.create(
        created_at=clock.now(), absolute_expires_at=clock.now() + timedelta(days=1)
    )
    token = tokens.issue(user_id=user.id, session_id=family.id, token_version=1, now=clock.now())

    answer = client.get("/api/account", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def _pem(key: Any) -> str:
    raw: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return raw.decode()


def _public_pem(key: Any) -> str:
    raw: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw.decode()
