"""Who is calling the engine: verified access tokens and API keys, remembered by their digest.

A signature or a checksum is checked once; whether the session or the key still lives is asked again every
ALIVE_SECONDS, so that a revocation acts within them. Many requests with one token ask once. A refusal is
remembered as long, apart: made-up keys push out no good ones.
"""

import asyncio
import copy
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from accounts import credentials, key_secrets, tokens
from accounts.credentials import Credential, KeyScope
from accounts.key_secrets import PresentedKey
from accounts.tokens import Claims
from legal.errors import TermsOutdated
from orchestration.catalogue import Snapshot
from orchestration.look_ups import Reader
from plyrum import clock
from plyrum.errors import Unauthenticated

log = structlog.get_logger(__name__)

ALIVE_SECONDS = 5
MOST_KNOWN = 10_000


@dataclass(slots=True)
class Known:
    """A genuine token or a well-formed key, and the answer to "is it alive", given or under way."""

    claims: Claims | PresentedKey
    answer: asyncio.Task[Credential] | None = None
    fresh_until: float = 0.0  # by the loop's clock


@dataclass(frozen=True, slots=True)
class Refusal:
    """A token or key that was refused. What ended does not come back; who is unblocked waits until then."""

    error: Unauthenticated
    until: float  # by the loop's clock


class Callers:
    """The callers of one event loop, looked up on the engine's own connection."""

    def __init__(self, reads: Reader) -> None:
        self._reads = reads
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._refused: OrderedDict[bytes, Refusal] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def credential(self, authorization: str) -> Credential:
        """The caller behind an Authorization header. Raises Unauthenticated and its kinds."""
        token = credentials.bearer_token(authorization)
        if not token:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        digest = hashlib.sha256(token.encode()).digest()
        now = asyncio.get_running_loop().time()
        refusal = self._refused.get(digest)
        if refusal is not None and now < refusal.until:
            raise copy.copy(refusal.error)  # each raise leaves its frames at the error
        known = self._known.get(digest)
        if known is None or known.claims.expires_at <= clock.now():
            known = self._learn(digest, token)
        if known.answer is None or (known.answer.done() and known.fresh_until <= now):
            known.answer = asyncio.create_task(self._ask(known.claims))
            known.fresh_until = now + ALIVE_SECONDS
            known.answer.add_done_callback(lambda answer: self._note_failure(digest, answer))
        return await asyncio.shield(known.answer)  # one request that leaves must not answer the others

    def _learn(self, digest: bytes, token: str) -> Known:
        self._known.pop(digest, None)
        is_key = token.startswith(key_secrets.PREFIX)
        claims = key_secrets.read(token) if is_key else tokens.verify(token, now=clock.now())
        known = self._known[digest] = Known(claims)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def forget_key(self, key_id: str) -> None:
        """An API key was revoked: the next request with it asks."""
        for digest, known in list(self._known.items()):
            if isinstance(known.claims, PresentedKey) and str(known.claims.key_id) == key_id:
                del self._known[digest]

    async def _ask(self, claims: Claims | PresentedKey) -> Credential:
        if isinstance(claims, PresentedKey):
            return await self._ask_about_key(claims)
        row = await self._reads.one(
            credentials.CREDENTIAL_SQL, {"user_id": claims.user_id, "session_id": claims.session_id}
        )
        return credentials.from_row(row, token_version=claims.token_version, now=clock.now())

    async def _ask_about_key(self, presented: PresentedKey) -> Credential:
        row = await self._reads.one(credentials.KEY_SQL, {"public_id": presented.public_id})
        found = credentials.from_key_row(row, presented=presented, now=clock.now())
        if found.api_key is not None and found.api_key.is_use_to_be_noted:
            note = asyncio.create_task(self._note_use(found.api_key))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        return found

    async def _note_use(self, key: KeyScope) -> None:
        """Once an hour, and nobody waits for it."""
        try:
            parameters = credentials.use_parameters(key, clock.now())
            await self._reads.one(credentials.NOTE_USE_SQL, parameters)
        except (psycopg.Error, OSError) as error:
            log.warning("use_of_key_not_noted", error=type(error).__name__)

    def _note_failure(self, digest: bytes, answer: asyncio.Task[Credential]) -> None:
        """A refusal is remembered as one; that the database was away is not."""
        if not answer.cancelled() and answer.exception() is None:
            return
        self._known.pop(digest, None)
        if answer.cancelled() or not isinstance(error := answer.exception(), Unauthenticated):
            return
        until = answer.get_loop().time() + ALIVE_SECONDS
        self._refused.pop(digest, None)
        self._refused[digest] = Refusal(copy.copy(error), until)
        while len(self._refused) > MOST_KNOWN:
            self._refused.popitem(last=False)


def require_terms(accepted: tuple[UUID, ...], snapshot: Snapshot) -> None:
    """Raise TermsOutdated unless a version of the offer that still binds is among the `accepted` ones."""
    if not snapshot.binding_terms.intersection(accepted):
        raise TermsOutdated("Accept the offer in force first.", **snapshot.terms_in_force)
