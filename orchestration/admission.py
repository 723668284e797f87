"""Whether a customer may ask now: their policy, remembered for seconds, and how often they have asked.

The engine's own side of `billing/policies.py` and `accounts/throttling.py`: what one request has asked of the
database or of Redis serves those of the next seconds.
Source: docs/decisions/0026-request-rates.md.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from accounts import throttling
from accounts.throttling import Limit, Taken
from billing import policies, request_rates
from billing.policies import EVERYBODY, Policy
from orchestration.look_ups import Reader
from orchestration.shapes import RunRequest
from plyrum import clock

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5  # as a sign-in: what a lost word of a change costs; never beyond the end of a lift
MOST_KNOWN = 10_000
PORTIONS = 20  # a portion of tokens is a twentieth of a minute's: three seconds of the allowed pace
REDIS_SECONDS = 0.5
REDIS_AWAY_SECONDS = 1  # then it is asked again

Key = tuple[UUID, UUID | None]


@dataclass(slots=True)
class Known:
    """A policy, given or under way."""

    answer: asyncio.Task[Policy]
    fresh_until: float  # by the loop's clock


@dataclass(slots=True)
class Portion:
    """Tokens that this process took out of a customer's buckets and has not used yet."""

    left: int = 0
    waiting: int = 0
    asking: asyncio.Task[Taken] | None = None
    refused: Taken | None = None
    refused_until: float = 0.0


class Admission:
    """The policies and portions of one event loop."""

    def __init__(self, reads: Reader, redis: Redis) -> None:
        self._reads = reads
        self._redis = redis
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._portions: OrderedDict[UUID, Portion] = OrderedDict()
        self._redis_away_until = 0.0

    async def policy(self, request: RunRequest) -> Policy:
        """What applies to this customer and key; many requests ask once."""
        key = (request.customer_id, request.api_key_id)
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is None or (known.answer.done() and known.fresh_until <= now):
            answer = asyncio.create_task(self._ask(key))
            known = self._known[key] = Known(answer, now + FRESH_SECONDS)
            answer.add_done_callback(lambda done: self._forget_failure(key, done))
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        if known.answer.done():
            return known.answer.result()
        return await asyncio.shield(known.answer)  # one request that leaves must not answer the others

    async def admit(self, customer_id: UUID, rates: tuple[Limit, ...]) -> None:
        """Count one request. Raises TooManyRequests."""
        if not settings.PLYRUM_ENFORCE_REQUEST_RATES:
            return
        portion = self._portion(customer_id)
        while portion.left < 1:
            now = asyncio.get_running_loop().time()
            if portion.refused is not None and portion.refused_until > now:
                raise request_rates.refusal(portion.refused)
            portion.waiting += 1
            try:
                if portion.asking is None:
                    portion.asking = asyncio.create_task(self._fill(customer_id, portion, rates))
                await asyncio.shield(portion.asking)
            finally:
                portion.waiting -= 1
        portion.left -= 1

    def forget(self, whose: str) -> None:
        """A policy has changed: the next request asks for it."""
        for key in [key for key in self._known if whose in (EVERYBODY, str(key[0]))]:
            del self._known[key]
        for customer_id in [known for known in self._portions if whose in (EVERYBODY, str(known))]:
            self._portions[customer_id].refused = None

    async def _ask(self, key: Key) -> Policy:
        now = clock.now()
        row = await self._reads.one(policies.policy_sql(), policies.parameters(*key, now))
        assert row is not None  # noqa: S101 - the query has always one row
        policy = policies.from_row(row)
        ends = policy.holds_until(now)
        if ends is not None and key in self._known:
            left = (ends - clock.now()).total_seconds()
            fresh_until = asyncio.get_running_loop().time() + left
            self._known[key].fresh_until = min(self._known[key].fresh_until, fresh_until)
        return policy

    def _forget_failure(self, key: Key, answer: asyncio.Task[Policy]) -> None:
        """A database that was away is not remembered."""
        if (answer.cancelled() or answer.exception() is not None) and key in self._known:
            del self._known[key]

    def _portion(self, customer_id: UUID) -> Portion:
        portion = self._portions.get(customer_id)
        if portion is None:
            portion = self._portions[customer_id] = Portion()
            while len(self._portions) > MOST_KNOWN:
                self._portions.popitem(last=False)
        return portion

    async def _fill(self, customer_id: UUID, portion: Portion, rates: tuple[Limit, ...]) -> Taken:
        await asyncio.sleep(0)  # whoever asks at the same moment is counted in `waiting`
        wanted = max(portion.waiting, rates[0].count // PORTIONS, 1)
        try:
            taken = await self._take(rates, str(customer_id), wanted)
        finally:
            portion.asking = None
        portion.left += taken.count
        portion.refused = None if taken.is_allowed else taken
        # Not longer than a policy is remembered: the rates may be raised meanwhile.
        wait = min(taken.retry_after_seconds, FRESH_SECONDS)
        portion.refused_until = asyncio.get_running_loop().time() + wait
        return taken

    async def _take(self, rates: tuple[Limit, ...], key: str, wanted: int) -> Taken:
        """Out of Redis, or out of this process's own smaller buckets while it is away."""
        loop = asyncio.get_running_loop()
        if self._redis_away_until <= loop.time():
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    call = throttling.call_of(rates, key, wanted)
                    reply = await self._redis.eval(throttling.TAKE, len(rates), *call)
                return throttling.read(rates, reply)
            except (RedisError, OSError, TimeoutError) as error:
                self._redis_away_until = loop.time() + REDIS_AWAY_SECONDS
                log.warning("rates_without_redis", error=type(error).__name__)
        return throttling.take_locally(rates, key, wanted)
