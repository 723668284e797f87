"""Who is calling the engine: verified access tokens, remembered by their digest.

A signature is checked once; whether the session still lives is asked again every ALIVE_SECONDS, so that a
revocation acts within them. Many requests with one token ask once.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from accounts import credentials, tokens
from accounts.credentials import Credential
from accounts.tokens import Claims
from legal.errors import TermsOutdated
from orchestration.catalogue import Snapshot
from orchestration.coalescer import Reader
from plyrum import clock
from plyrum.errors import Unauthenticated

ALIVE_SECONDS = 5
MOST_KNOWN = 10_000


@dataclass(slots=True)
class Known:
    """A genuine token: whom it names, and the answer to "is the session alive", given or under way."""

    claims: Claims
    answer: asyncio.Task[Credential] | None = None
    fresh_until: float = 0.0  # by the loop's clock


class Callers:
    """The callers of one event loop, looked up on the engine's own connection."""

    def __init__(self, reads: Reader) -> None:
        self._reads = reads
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    async def credential(self, authorization: str) -> Credential:
        """The caller behind an Authorization header. Raises Unauthenticated and its kinds."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None or known.claims.expires_at <= clock.now():
            known = self._learn(digest, token)
        now = asyncio.get_running_loop().time()
        if known.answer is None or (known.answer.done() and known.fresh_until <= now):
            known.answer = asyncio.create_task(self._ask(known.claims))
            known.fresh_until = now + ALIVE_SECONDS
            known.answer.add_done_callback(lambda answer: self._forget_failure(digest, answer))
        return await asyncio.shield(known.answer)  # one request that leaves must not answer the others

    def _learn(self, digest: bytes, token: str) -> Known:
        self._known.pop(digest, None)
        known = self._known[digest] = Known(tokens.verify(token, now=clock.now()))
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    async def _ask(self, claims: Claims) -> Credential:
        row = await self._reads.one(
            credentials.CREDENTIAL_SQL, {"user_id": claims.user_id, "session_id": claims.session_id}
        )
        return credentials.from_row(row, token_version=claims.token_version, now=clock.now())

    def _forget_failure(self, digest: bytes, answer: asyncio.Task[Credential]) -> None:
        """A refusal or a database that was away is not remembered."""
        if answer.cancelled() or answer.exception() is not None:
            self._known.pop(digest, None)


def require_terms(accepted: tuple[UUID, ...], snapshot: Snapshot) -> None:
    """Raise TermsOutdated unless a version of the offer that still binds is among the `accepted` ones."""
    if not snapshot.binding_terms.intersection(accepted):
        raise TermsOutdated("Accept the offer in force first.", **snapshot.terms_in_force)
