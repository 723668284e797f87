"""The text of an API key: `plk_<public id>_<secret><checksum>`. Pure but for the peppers of the settings
and the line in the log that a refusal leaves.

The public id finds the row and may be shown. The checksum tells a mistyped key without asking the database.
Of the whole text the database has an HMAC-SHA-256 under a pepper that it does not have: a fast hash is right
for a random secret, and a dump alone neither authenticates nor can be tried out.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import structlog
from django.conf import settings

from accounts.errors import KeyInvalid
from plyrum.errors import PlyrumError

log = structlog.get_logger(__name__)

PREFIX = "plk_"
PUBLIC_CHARS = 12
SECRET_CHARS = 43  # of 62 letters and digits: 256 bits
CHECKSUM_CHARS = 6  # a CRC-32
FOREVER = datetime.max.replace(tzinfo=UTC)
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PUBLIC_LETTERS = string.digits + string.ascii_lowercase
_FORM = re.compile(
    rf"plk_([0-9a-z]{{{PUBLIC_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}}([0-9A-Za-z]{{{CHECKSUM_CHARS}}})",
    re.ASCII,
)
_BEGINNING = re.compile(rf"plk_([0-9a-z]{{{PUBLIC_CHARS}}})_", re.ASCII)  # the secret has no "_"
Refusal = TypeVar("Refusal", bound=PlyrumError)


@dataclass(frozen=True, slots=True)
class Secret:
    """A new key: `text` is told once, the rest is stored."""

    public_id: str
    text: str
    digest: str
    pepper_version: int


@dataclass(slots=True)
class PresentedKey:
    """What is remembered of a key that came with a request: nothing that could be presented again."""

    public_id: str
    digests: dict[int, str]  # by version of the pepper
    key_id: UUID | None = None  # once the row has been read, and then
    expires_at: datetime = FOREVER

    def is_of(self, digest: str, pepper_version: int) -> bool:
        return hmac.compare_digest(self.digests.get(pepper_version, ""), digest)


def make() -> Secret:
    public_id = _random(_PUBLIC_LETTERS, PUBLIC_CHARS)
    body = f"{prefix_of(public_id)}_{_random(_LETTERS, SECRET_CHARS)}"
    text = body + _checksum(body)
    version = max(settings.PLYRUM_API_KEY_PEPPERS)
    return Secret(public_id, text, _digest(text, settings.PLYRUM_API_KEY_PEPPERS[version]), version)


def read(text: str) -> PresentedKey:
    """Raises KeyInvalid for what is no key of ours by its form."""
    match = _FORM.fullmatch(text)
    if match is None or not hmac.compare_digest(_checksum(text[:-CHECKSUM_CHARS]), match[2]):
        begins = _BEGINNING.match(text)
        raise refused(KeyInvalid(), begins[1] if begins is not None else "")
    peppers = settings.PLYRUM_API_KEY_PEPPERS
    return PresentedKey(match[1], {version: _digest(text, pepper) for version, pepper in peppers.items()})


def refused(error: Refusal, public_id: str) -> Refusal:
    """`error`, after a line that lets operators and owners find out who tries which key."""
    log.warning("api_key_refused", reason=error.code, public_id=public_id)
    return error


def prefix_of(public_id: str) -> str:
    """What a key begins with: how people tell theirs apart."""
    return f"{PREFIX}{public_id}"


def _digest(text: str, pepper: bytes) -> str:
    return hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()


def _checksum(body: str) -> str:
    left, letters = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        left, place = divmod(left, len(_LETTERS))
        letters = _LETTERS[place] + letters
    return letters


def _random(letters: str, count: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(count))
