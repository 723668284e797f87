"""Who is calling the engine: verified access tokens, remembered for seconds by their digest.

Revocation acts within CACHE_SECONDS, because nothing is remembered longer than that.
"""

import asyncio
import hashlib
from collections import OrderedDict
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from accounts import auth
from accounts.credentials import Credential
from legal.errors import TermsOutdated
from orchestration.catalogue import Snapshot
from plyrum.errors import Unauthenticated

CACHE_SECONDS = 5
CACHE_SIZE = 10_000

_known: OrderedDict[bytes, tuple[float, Credential]] = OrderedDict()


async def credential(authorization: str) -> Credential:
    """The caller behind an Authorization header. Raises Unauthenticated and its kinds."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send `Authorization: Bearer <token>`.")
    digest = hashlib.sha256(token.encode()).digest()
    now = asyncio.get_running_loop().time()
    found = _known.get(digest)
    if found is not None and found[0] > now:
        return found[1]
    caller = await sync_to_async(_load, thread_sensitive=False)(token)
    _known[digest] = (now + CACHE_SECONDS, caller)
    while len(_known) > CACHE_SIZE:
        _known.popitem(last=False)
    return caller


def require_terms(accepted: tuple[UUID, ...], snapshot: Snapshot) -> None:
    """Raise TermsOutdated unless a version of the offer that still binds is among the `accepted` ones."""
    if not snapshot.binding_terms.intersection(accepted):
        raise TermsOutdated("Accept the offer in force first.", **snapshot.terms_in_force)


def _load(token: str) -> Credential:
    close_old_connections()
    try:
        return auth.credential_of(token)
    finally:
        close_old_connections()  # the thread may never be used again
