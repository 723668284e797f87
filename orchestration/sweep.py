"""End what a killed process left: runs whose lease is over, and stories that were not archived.

Called by beat through `orchestration/tasks.py`; safe to run twice, late and in parallel, because a run is
taken over by a conditional update that raises its fence, and settled once under that fence.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import connection
from redis import Redis
from redis.exceptions import ResponseError

from billing import ledger, prices, pricing
from billing.models import FxRate, PriceVersion, UsageEvent
from billing.pricing import Price, Usage
from orchestration.execution import USEFUL_TOKENS, estimated_usage
from orchestration.frames import KEEP_SECONDS, is_terminal, lines, stream_key
from orchestration.models import Run, RunState
from plyrum.clock import rfc3339

log = structlog.get_logger(__name__)

BATCH = 50
TAKE_OVER_SECONDS = 60
USAGE_FACTS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "images",
    "estimated",
)


@dataclass(frozen=True)
class Delivered:
    """What the stored frames of a run show: bytes of words and of thoughts, and the model that wrote."""

    text_bytes: int
    thought_bytes: int
    model: str
    frames: list[bytes]


def sweep(*, now: datetime) -> dict[str, int]:
    """Settle abandoned runs and archive their stories; returns counts."""
    counts = {"ended": 0, "archived": 0, "failed": 0}
    for run in _take_over():
        counts["ended" if _is_done(run, lambda run: _end(run, now)) else "failed"] += 1
    for run in _forgotten():
        counts["archived" if _is_done(run, lambda run: _archive_forgotten(run, now)) else "failed"] += 1
    return counts


def _is_done(run: Run, work: Callable[[Run], None]) -> bool:
    """One run that cannot be ended must not keep the others waiting: it is logged and comes again."""
    try:
        work(run)
    except Exception:
        log.exception("run_not_swept", run_id=str(run.id))
        return False
    return True


def _end(run: Run, now: datetime) -> None:
    delivered = _delivered(run)
    answer = _settle(run, delivered)
    if answer["outcome"] != "fenced":
        run.refresh_from_db()
        if run.error_code.startswith("settle_"):  # its hold has ended, see decision 0036
            log.error("run_not_charged", run_id=str(run.id), outcome=answer["outcome"])
        _archive(run, delivered, answer, now)


def _take_over() -> list[Run]:
    """Claim runs whose owner has not been heard of; the raised fence shuts the old owner out."""
    return list(
        Run.objects.raw(
            """
            UPDATE orchestration_run SET fence = fence + 1,
                   lease_until = ledger_clock() + make_interval(secs => %s)
             WHERE id IN (SELECT id FROM orchestration_run
                           WHERE finished_at IS NULL AND lease_until < ledger_clock()
                           ORDER BY lease_until LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING *
            """,
            [TAKE_OVER_SECONDS, BATCH],
        )
    )


def _delivered(run: Run) -> Delivered:
    frames = _stored_frames(run)
    text, thoughts, model = 0, 0, run.model
    for line in frames:
        frame = orjson.loads(line)
        if frame["type"] == "route":
            text, thoughts, model = 0, 0, frame["model"]
        elif frame["type"] == "delta":
            text += len(frame["text"].encode())
        elif frame["type"] == "reasoning":
            thoughts += len(frame["text"].encode())
    return Delivered(text, thoughts, model, frames)


def _stored_frames(run: Run) -> list[bytes]:
    with Redis.from_url(settings.REDIS_URL) as redis:
        entries: Any = redis.xrange(stream_key(run.id))
    return [line for _, fields in entries for line in lines(fields[b"f"])]


def _settle(run: Run, delivered: Delivered) -> dict[str, Any]:
    """Charge the input and the delivered part if it is of use, by the prices frozen with the run."""
    candidate = next((c for c in run.route["candidates"] if c["model"] == delivered.model), None)
    bound = run.route["input_bound_tokens"]
    usage = estimated_usage(delivered.text_bytes + delivered.thought_bytes, bound)
    is_useful = estimated_usage(delivered.text_bytes, 0).output_tokens >= USEFUL_TOKENS
    charged, rows = 0, []
    if candidate is not None and is_useful:
        price = _frozen_price(candidate)
        cost = pricing.cost(usage, price)
        charged = min(cost, run.hold_micro_rub)
        rows = [
            ledger.usage_row(
                run_id=run.id,
                model=candidate["model"],
                provider=candidate["provider"],
                usage=usage,
                price=price,
                cost=cost,
                charged=charged,
                api_key_id=run.api_key_id,
                estimated=True,
            )
        ]
    else:
        usage = Usage()
    step: dict[str, Any] = {
        "run_id": run.id,
        "customer_id": run.customer_id,
        "fence": run.fence,
        "state": RunState.FAILED,
        "finish_reason": "error",
        "error_code": "worker_lost",
        "model": delivered.model,
        "provider": candidate["provider"] if candidate is not None else run.provider,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": bool(rows),
        "attempts": [],
        "money": ledger.settle_step(
            hold_id=run.id if _has_hold(run) else None,
            customer_id=run.customer_id,
            amount=charged,
            usage=rows,
        ),
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM run_settle(%s)", [orjson.dumps([step]).decode()])
        columns = [column.name for column in cursor.description or ()]
        return dict(zip(columns, cursor.fetchone(), strict=True))


def _has_hold(run: Run) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM billing_hold WHERE id = %s", [run.id])
        return cursor.fetchone() is not None


def _frozen_price(candidate: dict[str, Any]) -> Price:
    version = PriceVersion.objects.get(pk=candidate["price_version_id"])
    return prices.price_of(version, FxRate.objects.filter(pk=candidate["fx_rate_id"]).first())


def _archive(run: Run, delivered: Delivered, answer: dict[str, Any], now: datetime) -> None:
    """Finish the story with what the settlement did, for those who come back to it."""
    frames = list(delivered.frames)
    if not frames or not is_terminal(frames[-1]):
        frames += _last_frames(run, frames, answer, now)
        with Redis.from_url(settings.REDIS_URL) as redis:
            last = f"{len(frames)}-0"
            with contextlib.suppress(ResponseError):  # the owner's own end came first
                redis.xadd(stream_key(run.id), {"f": b"".join(frames[len(delivered.frames) :])}, id=last)
            redis.expire(stream_key(run.id), KEEP_SECONDS)
    _keep(run, frames)


def _last_frames(run: Run, told: list[bytes], answer: dict[str, Any], now: datetime) -> list[bytes]:
    """What a story still lacks: what was used, if anything was, the money, and the end."""
    rest = []
    used = UsageEvent.objects.filter(run_id=run.id).first()
    if used is not None and not any(b'"type":"usage"' in line[:160] for line in told):
        rest.append({"type": "usage", "usage": {name: getattr(used, name) for name in USAGE_FACTS}})
    settled = {
        "type": "settled",
        "cost_micro_rub": answer["charged"],
        "released_micro_rub": answer["released"],
        "balance_micro_rub": answer["spendable"],
        "ledger_entry_id": str(answer["entry_id"]) if answer["entry_id"] else None,
    }
    rest += [settled, _terminal(run, answer)]
    return [
        orjson.dumps({"run_id": str(run.id), "seq": seq, "ts": rfc3339(now), **facts}) + b"\n"
        for seq, facts in enumerate(rest, start=len(told) + 1)
    ]


def _terminal(run: Run, answer: dict[str, Any]) -> dict[str, Any]:
    """How the run really ended: settled by its owner who then died, or by this sweep."""
    if run.state in (RunState.DONE, RunState.STOPPED):
        return {"type": "run.finished", "finish_reason": run.finish_reason}
    return {
        "type": "error",
        "code": run.error_code or "worker_lost",
        "retryable": True,
        "charged_micro_rub": answer["charged"],
    }


def _keep(run: Run, frames: list[bytes]) -> None:
    steps = orjson.dumps([{"run_id": run.id, "customer_id": run.customer_id}]).decode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM run_archive(%s, %s)", [steps, [b"".join(frames).decode()]])


def _forgotten() -> list[Run]:
    """Runs that were settled, but whose process died before it archived their stories."""
    return list(
        Run.objects.raw(
            """
            SELECT r.* FROM orchestration_run r
             WHERE r.finished_at > ledger_clock() - interval '50 min'
               AND r.finished_at < ledger_clock() - interval '1 min'
               AND r.state <> 'refused'
               AND NOT EXISTS (SELECT 1 FROM orchestration_runframes f WHERE f.run_id = r.id)
             ORDER BY r.finished_at LIMIT %s
            """,
            [BATCH],
        )
    )


def _archive_forgotten(run: Run, now: datetime) -> None:
    answer = {
        "charged": run.cost_micro_rub,
        "released": run.hold_micro_rub - run.cost_micro_rub,
        "spendable": None,
        "entry_id": run.ledger_entry_id,
    }
    _archive(run, _delivered(run), answer, now)
