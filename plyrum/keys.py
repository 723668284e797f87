"""Secrets of the process: made once under the data folder in development, demanded in production.

Called by settings only. Never logs or prints a secret.
"""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import environ
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.exceptions import ImproperlyConfigured

_PEPPER = re.compile(r"([1-9]\d{0,3}):([!-+\--~]{32,})")  # printable, no comma


def development_secret(data_dir: Path) -> str:
    """A random secret kept in the data folder, so that sessions survive a restart of `make run`."""
    return _kept(data_dir / "secret_key", lambda: secrets.token_urlsafe(64))


def token_keys(env: environ.Env, data_dir: Path, *, is_production: bool) -> tuple[str, str]:
    """PEM texts (private, public) of the access tokens' EdDSA or RS256 key pair."""
    private = _from_env(env, "JWT_PRIVATE_KEY")
    public = _from_env(env, "JWT_PUBLIC_KEY")
    if not private and is_production:
        raise ImproperlyConfigured("Set JWT_PRIVATE_KEY or JWT_PRIVATE_KEY_FILE to a PEM key.")
    private = private or _kept(data_dir / "jwt_private_key.pem", _new_private_key)
    return private, public or _public_of(private)


def peppers(env: environ.Env, data_dir: Path, *, is_production: bool) -> dict[int, bytes]:
    """The secrets that digests of customers' API keys are made with, by version; the highest makes new ones.

    Written as `1:<secret>,2:<secret>`: an older one stays as long as keys made with it are to work.
    """
    text = _from_env(env, "PLYRUM_API_KEY_PEPPERS")
    if not text and is_production:
        raise ImproperlyConfigured(
            "Set PLYRUM_API_KEY_PEPPERS or PLYRUM_API_KEY_PEPPERS_FILE to 1:<at least 32 random characters>."
        )
    text = text or _kept(data_dir / "api_key_peppers", lambda: f"1:{secrets.token_urlsafe(48)}")
    found: dict[int, bytes] = {}
    for part in text.strip().split(","):
        match = _PEPPER.fullmatch(part.strip())
        if match is None or int(match[1]) in found:
            raise ImproperlyConfigured(
                "PLYRUM_API_KEY_PEPPERS is 1:<secret>,2:<secret>: each version once, 32 characters or more."
            )
        found[int(match[1])] = match[2].encode()
    return found


def _from_env(env: environ.Env, name: str) -> str:
    path = str(env.str(f"{name}_FILE", default=""))
    if path:
        return Path(path).read_text(encoding="ascii")
    return str(env.str(name, default="")).replace("\\n", "\n")


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(make(), encoding="ascii")
        try:
            path.hardlink_to(fresh)  # the first of several processes wins, the others read its file
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text(encoding="ascii")


def _new_private_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode("ascii")
    )


def _public_of(private_pem: str) -> str:
    key = serialization.load_pem_private_key(private_pem.encode("ascii"), password=None)
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )
