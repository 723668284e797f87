"""Which adapter speaks which wire format, and which keys and addresses each provider has.

Keys come from the environment (`PLYRUM_<PROVIDER>_API_KEYS`); a key in trouble rests for a while.
"""

import hashlib
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from orchestration.providers.base import Adapter
from orchestration.providers.openai_chat import OpenAIChat

LONGEST_REST_SECONDS = 3600.0
ADAPTERS: dict[str, Adapter] = {"openai_chat": OpenAIChat()}
# No fragment, query, backslash, space or control character: what is checked here is what will be called.
PLAIN_URL = re.compile(r"[A-Za-z0-9:/._~%@+\[\]-]+")
# Labels of ASCII and a last one of letters: no form of a number (decimal, octal, hexadecimal, IPv6) fits, nor
# a trailing dot, nor a name in another script.
PUBLIC_NAME = re.compile(r"(?!.*xn--)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
INTERNAL_ENDINGS = (".localhost", ".local", ".internal", ".home", ".lan", ".corp", ".test", ".invalid")


def environment_name(provider_id: str) -> str:
    """The middle of a provider's variables: "open-router" -> OPEN_ROUTER."""
    return re.sub(r"[^A-Z0-9]", "_", provider_id.upper())


def base_url_of(provider_id: str, catalogue_url: str) -> str:
    """The provider's address: from the environment, else from the catalogue. Raises for unsafe addresses."""
    name = environment_name(provider_id)
    url = settings.PROVIDER_BASE_URLS.get(name) or catalogue_url.replace(
        "{sandbox}", settings.PLYRUM_SANDBOX_URL
    )
    refuse_unsafe(url)
    return url.rstrip("/")


def refuse_unsafe(url: str) -> None:
    """Raise ImproperlyConfigured for an address that must not be given a key and a customer's words.

    Always: other schemes, credentials, anything that two parsers may read differently. Unless local addresses
    are allowed also: plain http, other ports, every number in place of a name, names without a public ending.
    Source: security bar, 9 (outgoing calls).
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ImproperlyConfigured("A provider's address is not a URL.") from error
    is_plain = PLAIN_URL.fullmatch(url) is not None and "@" not in parts.netloc and host != ""
    if not is_plain or parts.scheme not in ("http", "https"):
        raise ImproperlyConfigured("A provider's address must be a plain http(s) URL without credentials.")
    if settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS:
        return
    if parts.scheme != "https" or port not in (None, 443):
        raise ImproperlyConfigured("A provider's address must begin with https:// and use port 443.")
    if not PUBLIC_NAME.fullmatch(host) or host.endswith(INTERNAL_ENDINGS):
        raise ImproperlyConfigured("A provider's address must be a public name.")


@dataclass
class Key:
    secret: str = field(repr=False)
    fingerprint: str = ""
    resting_until: float = 0.0

    def __post_init__(self) -> None:
        self.fingerprint = hashlib.sha256(self.secret.encode()).hexdigest()[:12]

    def rest(self, seconds: float) -> None:
        """A second failure may only lengthen a rest; nothing a vendor says makes it longer than an hour."""
        self.resting_until = max(self.resting_until, time.monotonic() + min(seconds, LONGEST_REST_SECONDS))


class KeyPool:
    """A provider's keys in turn; keys that rest are passed over."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.keys = [Key(secret) for secret in secrets]
        self._next = 0

    def take(self, used: set[str]) -> Key | None:
        """The next key that neither rests nor was tried in this run; None when there is none."""
        now = time.monotonic()
        for step in range(len(self.keys)):
            key = self.keys[(self._next + step) % len(self.keys)]
            if key.resting_until <= now and key.fingerprint not in used:
                self._next = (self._next + step + 1) % len(self.keys)
                return key
        return None


_pools: dict[str, KeyPool] = {}


def keys_of(provider_id: str) -> KeyPool:
    name = environment_name(provider_id)
    pool = _pools.get(name)
    if pool is None:
        pool = _pools[name] = KeyPool(settings.PROVIDER_API_KEYS.get(name, ()))
    return pool
