"""The engine of a web process: opens runs, executes them as its own tasks, settles, archives, stops.

One per event loop, started with the ASGI server. A run belongs to its task, not to the connection that asked
for it: a reader may leave and come back. What a killed process leaves is ended by `orchestration/sweep.py`.
"""

import asyncio
import contextlib
import gc
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import structlog
from aiohttp import ClientSession
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, connection
from psycopg import Error as DatabaseError
from psycopg.conninfo import make_conninfo
from redis.asyncio import Redis
from redis.exceptions import RedisError

from accounts import api_keys
from billing import ledger, policies
from billing.errors import IdempotencyMismatch, InsufficientBalance, ReservedInFlight, SpendLimitReached
from billing.policies import CHANGES_CHANNEL, AppliedLimit, Policy
from orchestration import catalogue, endings, routing
from orchestration.admission import Admission
from orchestration.callers import Callers, require_terms
from orchestration.coalescer import Coalescer
from orchestration.database_connection import Row
from orchestration.execution import SETTLE_FIELDS, Outcome, RunTask, bill, carry_out, settle_step
from orchestration.frames import FrameLog, Groups, Story, is_terminal, lines
from orchestration.look_ups import Reader
from orchestration.models import RunState
from orchestration.providers.base import ErrorClass
from orchestration.providers.transport import open_session
from orchestration.shapes import RunRequest
from plyrum import clock
from plyrum.errors import PlyrumError, Unavailable
from plyrum.ids import uuid7

log = structlog.get_logger(__name__)

LEASE_RENEWAL_SECONDS = 10
SNAPSHOT_POLL_SECONDS = 5
PING_SECONDS = 10
RUNS_A_CALL = 20  # the server opens and settles them in 2 to 5 ms
KEY_POLL_SECONDS = 3
CONTROL_CHANNEL = "orchestration:control"
SETTLE_PATIENCE_SECONDS = 20  # an exact bill is worth waiting for; afterwards the sweep estimates
ARCHIVE_LINGER_SECONDS = 0.02
READERS_ELSEWHERE = 1_000  # of runs of other processes; each waits on a connection of its own to Redis
LOST_SECONDS = 30  # so long after its end a run's process may need to archive its story, when Redis hangs
GC_THRESHOLDS = (20_000, 20, 50)  # requests make few cycles; looking for them often costs more than they
NOT_LIBPQ = {"options", "client_encoding", "prepare_threshold"}  # Django's or psycopg's own
# For the functions that take one step; why, billing/sql/0001_ledger.sql says.
PLANS = "-c enable_seqscan=off -c plan_cache_mode=force_generic_plan"
INTERNAL = ErrorClass("internal_error")
# The arguments of run_open_one().
OPEN_FIELDS = (
    "id", "customer_id", "idempotency_key", "fingerprint", "surface", "mode", "profile", "model", "provider",
    "route", "estimate_micro_rub", "api_key_id", "lease_seconds", "hold.amount", "hold.ttl_seconds",
    "hold.soft", "hold.limits",
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """The answer to `start`: a run of this process, or one that was known already."""

    run_id: UUID
    is_replay: bool
    state: str


class Engine:
    """Everything async of orchestration; see `start`, `follow`, `stop`."""

    def __init__(self) -> None:
        self.conninfo = conninfo()
        self.redis = Redis.from_url(settings.REDIS_URL, max_connections=READERS_ELSEWHERE)
        self.session: ClientSession = open_session()
        self.frames = FrameLog(self.redis)
        self.runs: dict[UUID, RunTask] = {}
        self._reads = Reader(self.conninfo)
        self._leases = Reader(self.conninfo)  # never waits behind a look-up
        self._sign_ins = Reader(self.conninfo)  # nor does who is calling
        self.callers = Callers(self._sign_ins)
        self.admission = Admission(self._sign_ins, self.redis)
        self._opens = Coalescer(
            conninfo(PLANS),
            "run_open",
            step_key="id",
            row_key="given_id",
            fields=OPEN_FIELDS,
            max_batch=RUNS_A_CALL,
        )
        self._settles = Coalescer(
            conninfo(PLANS),
            "run_settle",
            step_key="run_id",
            row_key="run_id",
            fields=SETTLE_FIELDS,
            text="story",
            max_batch=RUNS_A_CALL,
            patience_seconds=SETTLE_PATIENCE_SECONDS,
        )
        self._archives = Coalescer(
            self.conninfo,
            "run_archive",
            step_key="run_id",
            row_key="run_id",
            text="story",
            patience_seconds=SETTLE_PATIENCE_SECONDS,
            linger_seconds=ARCHIVE_LINGER_SECONDS,
        )
        self._side_tasks: set[asyncio.Task[None]] = set()
        for work in (
            self._keep_leases,
            self._keep_snapshot,
            self._keep_readers_awake,
            self._watch_keys,
            self._listen,
        ):
            self._spawn(work())

    async def close(self) -> None:
        """Let running answers finish, then leave. What does not finish in time the sweep settles."""
        running = [run.task for run in self.runs.values() if run.task is not None]
        if running:
            await asyncio.wait(running, timeout=settings.PLYRUM_RUN_LEASE_SECONDS / 2)
        for task in self._side_tasks:
            task.cancel()
        await asyncio.gather(*self._side_tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.frames.close()
                await self._archives.close()
                await self._opens.close()
                await self._settles.close()
                await self._reads.close()
                await self._leases.close()
                await self._sign_ins.close()
        await self.session.close()
        await self.redis.aclose()

    async def start(self, request: RunRequest) -> Opened:
        """Plan, reserve and begin; the same key and body answer the first run again.

        Raises what routing raises, TooManyRequests, SpendingBlocked, DebtOutstanding, RequestLimitExceeded,
        SpendLimitReached, IdempotencyMismatch, InsufficientBalance, ReservedInFlight.
        """
        policy = None if request.unlimited else await self.admission.policy(request)
        if policy is not None:
            await self.admission.admit(request.customer_id, policy.rates)
        snapshot = catalogue.current()
        try:
            require_terms(request.accepted_terms, snapshot)
            plan = routing.plan(request, snapshot)
            if policy is not None:
                policy.require_allowed(plan.hold_micro_rub)
        except PlyrumError:
            known = await self._known(request)  # what was begun before is answered whatever has changed since
            if known is None:
                raise
            return known
        run_id = uuid7()
        row = await self._opens.submit(_open_step(run_id, request, plan, policy))
        match row["outcome"]:
            case "limit_exceeded" if policy is not None:
                raise await self._limit_reached(policy.counted[row["limit_place"]])
            case "known":
                return await self._opened_before(row["run_id"], row["state"])
            case "mismatch":
                raise IdempotencyMismatch("This idempotency key was used with another body.")
            case "insufficient_balance":
                raise _short_of_money(InsufficientBalance, plan.hold_micro_rub, row["spendable"])
            case "reserved_in_flight":
                raise _short_of_money(ReservedInFlight, plan.hold_micro_rub, row["spendable"])
        story = Story(run_id, self.frames, self._archive, is_live=request.stream)
        run = RunTask(run_id, request, plan, snapshot, story, row["held"])
        self.runs[run_id] = run
        story.append(
            "run.accepted",
            {
                "mode": "single",
                "estimate_micro_rub": plan.estimate_micro_rub,
                "hold_micro_rub": row["held"],
            },
        )
        run.task = asyncio.create_task(self._execute(run))
        return Opened(run_id, False, RunState.RUNNING)

    async def _limit_reached(self, limit: AppliedLimit) -> SpendLimitReached:
        now = clock.now()
        counter = await self._reads.one(policies.COUNTER_SQL, policies.counter_parameters(limit, now))
        return policies.limit_reached(limit, counter, now=now)

    async def _known(self, request: RunRequest) -> Opened | None:
        """The run that this key began, if any. Raises IdempotencyMismatch."""
        row = await self._reads.one(
            "SELECT id, state, fingerprint FROM orchestration_run"
            " WHERE customer_id = %s AND idempotency_key = %s",
            [request.customer_id, request.idempotency_key],
        )
        if row is None:
            return None
        if row["fingerprint"] != request.fingerprint:
            raise IdempotencyMismatch("This idempotency key was used with another body.")
        return await self._opened_before(row["id"], row["state"])

    async def _opened_before(self, run_id: UUID, state: str) -> Opened:
        """A replay: the run, or the refusal that was final for its key."""
        if state == RunState.REFUSED:
            row = await self._reads.one(
                "SELECT route -> 'refused' AS facts FROM orchestration_run WHERE id = %s", [run_id]
            )
            error = InsufficientBalance(
                "There is not enough money for this request.", **(row["facts"] if row is not None else {})
            )
            error.is_replay = True
            raise error
        return Opened(run_id, True, state)

    async def _execute(self, run: RunTask) -> None:
        run.has_begun = True
        try:
            outcome = await self._carry_out(run)
            run.is_ending = True  # a stop that comes now is too late: the settlement may not be cut
            counted = bill(run, outcome)
            step = settle_step(run, outcome, counted)
            expected = None if run.story.is_live else endings.expected(run, outcome, counted, step)
            row = await self._settles.submit(step)
            if row["outcome"] == "fenced":  # the sweep has ended this run and tells the end
                log.warning("run_taken_over", run_id=str(run.id))
                run.story.abandon(is_taken_over=True)
            elif expected is not None and row["outcome"] == "done":
                run.is_archived = True
                run.story.end(endings.with_balance(expected, row["spendable"]))
            else:
                if row["outcome"] not in endings.SETTLED:
                    log.error(
                        "run_not_charged",
                        run_id=str(run.id),
                        outcome=row["outcome"],
                        cost=counted.cost_micro_rub,
                    )
                kept = await self._kept_end(run) if expected is not None else None
                run.story.end(kept or run.story.drafted(endings.frames(outcome, counted, row)))
        except Exception:
            # The edge of a worker: the run stays open in the database, the sweep will settle and finish it.
            log.exception("run_not_settled", run_id=str(run.id))
            run.story.abandon()

    async def _kept_end(self, run: RunTask) -> list[bytes] | None:
        """The end that was archived with the charge, when only the answer of the settlement was lost."""
        archived = await self._archived(run.id)
        run.is_archived = archived is not None
        return archived[len(run.story.pending) :] if archived is not None else None

    async def _carry_out(self, run: RunTask) -> Outcome:
        """A fault of ours is an end like any other: nothing is charged for it."""
        try:
            return await carry_out(run, self.session)
        except Exception:
            log.exception("run_crashed", run_id=str(run.id))
            return Outcome(RunState.FAILED, error=INTERNAL)

    def _archive(self, story: Story) -> None:
        """Keep a finished story that is not kept with its charge; a copy in Redis goes by its time limit."""
        run = self.runs[story.run_id]
        if not run.is_archived and story.has_end:
            self._archives.post(
                {
                    "run_id": run.id,
                    "customer_id": run.request.customer_id,
                    "story": b"".join(story.shown),
                }
            )
        del self.runs[story.run_id]

    async def follow(self, run_id: UUID, after_seq: int = 0) -> Groups:
        """The frames of a run after `after_seq`, wherever it is executed or kept; ends with the last one.

        The caller has checked that the run is the customer's. None means that there is nothing yet: whoever
        sends the frames looks whether the reader is still there. No group comes when they are gone. Raises
        Unavailable when only Redis may have them, and is away.
        """
        run = self.runs.get(run_id)
        if run is not None:
            async for own in run.story.follow(after_seq):
                yield own
                after_seq += len(own)
            if run.story.has_end:
                return
        was_abandoned = run is not None
        archived = await self._archived(run_id)
        if archived is not None:
            yield _rest(archived, after_seq, lacks_end=was_abandoned)
            return
        async for group in self._follow_elsewhere(run_id, after_seq, lacks_end=was_abandoned):
            yield group

    async def whole_story(self, run_id: UUID) -> list[bytes]:
        """All frames of a run once it is over."""
        run = self.runs.get(run_id)
        if run is not None and not run.story.is_live:  # nothing to follow: it is told at once
            await run.story.over()
            if run.story.has_end:
                return run.story.shown
        return [frame async for group in self.follow(run_id) for frame in group or ()]

    async def _follow_elsewhere(self, run_id: UUID, after_seq: int, *, lacks_end: bool) -> Groups:
        """Live frames of another process; a run that ended without a last frame is read from the archive."""
        seen = after_seq
        async for group in self.frames.follow(run_id, after_seq):
            if group:
                seen += len(group)
                yield group
                if is_terminal(group[-1]):
                    return
                lacks_end = True
                continue
            archived = await self._archived(run_id)
            if archived is not None:
                yield _rest(archived, seen, lacks_end=lacks_end)
                return
            if await self._is_over(run_id):
                if group is None:
                    raise Unavailable("The frames of this run cannot be read now.")
                return
            yield None

    async def run_row(self, run_id: UUID, customer_id: UUID) -> Row | None:
        """The run's row if it is the customer's."""
        return await self._reads.one(
            "SELECT * FROM orchestration_run WHERE id = %s AND customer_id = %s", [run_id, customer_id]
        )

    async def _archived(self, run_id: UUID) -> list[bytes] | None:
        row = await self._reads.one("SELECT frames FROM orchestration_runframes WHERE run_id = %s", [run_id])
        return lines(row["frames"].encode()) if row is not None else None

    async def _is_over(self, run_id: UUID) -> bool:
        """Whether nobody will tell more of it but the sweep."""
        row = await self._reads.one(
            "SELECT finished_at < now() - make_interval(secs => %s) AS is_over"
            " FROM orchestration_run WHERE id = %s",
            [LOST_SECONDS, run_id],
        )
        return row is None or bool(row["is_over"])

    async def stop(self, run_id: UUID) -> None:
        """Stop a run, here or in whichever process executes it."""
        run = self.runs.get(run_id)
        if run is not None:
            run.stop()
            return
        try:
            await self.redis.publish(CONTROL_CHANNEL, orjson.dumps({"stop": str(run_id)}))
        except RedisError as error:
            raise Unavailable("The stop could not be handed on. Try again.") from error

    # --- side tasks -----------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """Say every ten seconds that this process is alive, its runs with it and their holds with them."""
        while True:
            await asyncio.sleep(LEASE_RENEWAL_SECONDS)
            if not self.runs:
                continue
            try:
                await self._leases.one(
                    "WITH alive AS (UPDATE orchestration_run"
                    "   SET lease_until = ledger_clock() + make_interval(secs => %s)"
                    " WHERE id IN (SELECT id FROM orchestration_run"
                    # A run that is being settled now needs no lease, and waiting for it could close a circle.
                    "   WHERE id = ANY(%s) AND state = 'running' AND fence = 1 FOR NO KEY UPDATE SKIP LOCKED)"
                    " RETURNING id) SELECT ledger_renew(array_agg(id), %s) AS renewed FROM alive",
                    [settings.PLYRUM_RUN_LEASE_SECONDS, list(self.runs), settings.HOLD_SECONDS],
                )
            except (DatabaseError, OSError) as error:
                log.warning("leases_not_renewed", error=type(error).__name__)

    async def _keep_snapshot(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_POLL_SECONDS)
            try:
                await sync_to_async(_refresh_snapshot, thread_sensitive=False)()
            except Exception as error:  # noqa: BLE001 - the old snapshot stays good while the database is away
                log.warning("snapshot_not_refreshed", error=type(error).__name__)

    async def _keep_readers_awake(self) -> None:
        """A quiet run says that it is alive, so that neither reader nor proxy gives up."""
        while True:
            await asyncio.sleep(PING_SECONDS / 4)
            for run in list(self.runs.values()):
                story = run.story
                if (
                    story.is_live
                    and not story.is_over
                    and time.monotonic() - story.last_append > PING_SECONDS
                ):
                    story.append("ping", {})

    async def _watch_keys(self) -> None:
        """Runs of a key that was revoked stop, also when the word of it was lost."""
        while True:
            await asyncio.sleep(KEY_POLL_SECONDS)
            used = {run.request.api_key_id for run in self.runs.values()} - {None}
            if not used:
                continue
            try:
                row = await self._reads.one(api_keys.REVOKED_SQL, [list(used)])
            except (DatabaseError, OSError) as error:
                log.warning("keys_not_watched", error=type(error).__name__)
                continue
            for key_id in (row["ids"] if row is not None else None) or ():
                self._end_key(str(key_id))

    def _end_key(self, key_id: str) -> None:
        self.callers.forget_key(key_id)
        for run in list(self.runs.values()):
            if str(run.request.api_key_id) == key_id:
                run.stop()

    async def _listen(self) -> None:
        """Stops that arrived at another process, ended keys, and changes of what customers may spend."""
        while True:
            try:
                async with self.redis.pubsub() as channel:
                    await channel.subscribe(CONTROL_CHANNEL, CHANGES_CHANNEL, api_keys.ENDED_CHANNEL)
                    async for message in channel.listen():
                        if message["type"] != "message":
                            continue
                        if message["channel"] == CHANGES_CHANNEL.encode():
                            self.admission.forget(message["data"].decode("utf-8", "replace"))
                        elif message["channel"] == api_keys.ENDED_CHANNEL.encode():
                            self._end_key(message["data"].decode("utf-8", "replace"))
                        else:
                            self._obey(message["data"])
            except (RedisError, OSError) as error:
                log.warning("control_channel_lost", error=type(error).__name__)
                await asyncio.sleep(1)

    def _obey(self, data: bytes) -> None:
        try:
            run_id = UUID(orjson.loads(data)["stop"])
        except (KeyError, TypeError, ValueError):
            log.warning("control_message_not_understood")
            return
        run = self.runs.get(run_id)
        if run is not None:
            run.stop()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


def _rest(archived: list[bytes], seen: int, *, lacks_end: bool) -> list[bytes]:
    """What a reader has not seen. A story that was taken over may be shorter than what was told of it."""
    return archived[seen:] or (archived[-1:] if lacks_end else [])


_engine: Engine | None = None


async def open_engine() -> Engine:
    """Start the engine of this process; called by the ASGI server's start-up."""
    global _engine
    await sync_to_async(_refresh_snapshot, thread_sensitive=False)()
    _engine = Engine()
    spare_the_collector()
    return _engine


def spare_the_collector() -> None:
    """What start-up made lives as long as the process; what requests make is looked through less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def engine() -> Engine:
    """The engine of this process. Raises when asked outside the ASGI server."""
    if _engine is None:
        raise Unavailable("Runs are served by the ASGI server only.")
    return _engine


def _open_step(run_id: UUID, request: RunRequest, plan: Any, policy: Policy | None) -> dict[str, Any]:
    first = plan.candidates[0]
    hold = ledger.hold_step(
        hold_id=run_id,
        customer_id=request.customer_id,
        amount=plan.hold_micro_rub,
        ttl_seconds=settings.HOLD_SECONDS,
        soft=not settings.PLYRUM_BILLING_ENFORCE_BALANCE,
        limits=policy.steps() if policy is not None else (),
    )
    return {
        "id": run_id,
        "customer_id": request.customer_id,
        "idempotency_key": request.idempotency_key,
        "fingerprint": request.fingerprint,
        "surface": request.surface,
        "mode": "single",
        "profile": request.profile,
        "model": first.offer.id,
        "provider": first.offer.provider,
        "route": plan.explanation(),
        "estimate_micro_rub": plan.estimate_micro_rub,
        "api_key_id": request.api_key_id,
        "lease_seconds": settings.PLYRUM_RUN_LEASE_SECONDS,
        "hold": None if request.unlimited else hold,
    }


def _short_of_money(
    kind: type[InsufficientBalance] | type[ReservedInFlight], needed: int, spendable: int | None
) -> InsufficientBalance | ReservedInFlight:
    return kind(
        "There is not enough money for this request.",
        needed_micro_rub=needed,
        balance_micro_rub=spendable or 0,
    )


def _refresh_snapshot() -> None:
    close_old_connections()
    catalogue.refresh()
    close_old_connections()


def conninfo(plans: str = "") -> str:
    """The engine's own connections: the same server, security and role as the rest of the product.

    `plans`: more settings, `PLANS` or nothing.
    """
    role = settings.PLYRUM_DATABASE_ROLE
    options = f"-c role={role} -c TimeZone=UTC -c lock_timeout=5s -c statement_timeout=15s {plans}"
    known = connection.get_connection_params()
    libpq = {
        name: value for name, value in known.items() if isinstance(value, str | int) and name not in NOT_LIBPQ
    }
    return make_conninfo(
        "", **{"connect_timeout": 5, **libpq, "options": options, "application_name": "plyrum engine"}
    )
