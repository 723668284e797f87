"""Finished runs as the engine leaves them, for pages that only read."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction

from accounts.models import User
from billing import ledger, pricing
from billing.models import UsageEvent
from billing.pricing import Usage
from orchestration import catalogue
from orchestration.models import Attempt, Run, RunFrames
from plyrum import clock
from plyrum.ids import uuid7

MODEL = "sandbox/small"
COST = 420_000


def make_run(user: User, *, key: str = "", text: str | None = None, **facts: Any) -> Run:
    """A run that is done, its story when `text` is given."""
    now = clock.now()
    offer = catalogue.refresh().offers[MODEL]
    assert offer.price is not None
    candidate = {
        "model": MODEL,
        "provider": offer.provider,
        "country": offer.country,
        "score": 0.7,
        "expected_micro_rub": 400_000,
        "worst_micro_rub": 1_000_000,
        "price_version_id": offer.price.version_id,
        "fx_rate_id": offer.price.fx_rate_id,
        "max_output_tokens": 4096,
        "reasons": ["profile:balanced", "score"],
    }
    spare = candidate | {"model": "sandbox/large"}
    run = Run(
        id=uuid7(),
        customer_id=user.id,
        idempotency_key=key or str(uuid7()),
        fingerprint="0" * 64,
        surface="site",
        mode="single",
        profile="balanced",
        model=MODEL,
        provider=offer.provider,
        state="done",
        route={
            "catalogue_version": 1,
            "input_bound_tokens": 100,
            "candidates": [candidate, spare],
            "excluded": {"keyless/model": "no_active_key"},
        },
        estimate_micro_rub=400_000,
        hold_micro_rub=1_020_000,
        cost_micro_rub=COST,
        input_tokens=50,
        output_tokens=3_000,
        lease_until=now,
        created_at=now - timedelta(seconds=2),
        finished_at=now,
    )
    for name, value in facts.items():
        setattr(run, name, value)
    run.save(force_insert=True)
    if text is not None:
        keep_story(run, text)
    return run


def keep_story(run: Run, text: str) -> None:
    frames = [
        {"seq": 1, "type": "delta", "text": text},
        {"seq": 2, "type": "run.finished", "finish_reason": "stop"},
    ]
    RunFrames.objects.create(
        run_id=run.id,
        customer_id=run.customer_id,
        frames="\n".join(orjson.dumps(frame).decode() for frame in frames),
        created_at=clock.now(),
    )


def make_attempt(run: Run, *, number: int = 1, **facts: Any) -> Attempt:
    """A call that answered, and took the run's price."""
    attempt = Attempt(
        id=uuid7(),
        run_id=run.id,
        customer_id=run.customer_id,
        stage="final",
        number=number,
        model=run.model,
        provider=run.provider,
        key_fingerprint="f" * 8,
        status="done",
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        cost_micro_rub=run.cost_micro_rub,
        first_token_ms=100,
        duration_ms=1_800,
        started_at=run.created_at,
    )
    for name, value in facts.items():
        setattr(attempt, name, value)
    attempt.save(force_insert=True)
    return attempt


def make_usage(user: User, *, run_id: UUID | None = None, days_ago: int = 0, **facts: Any) -> UsageEvent:
    row = UsageEvent(
        id=uuid7(),
        customer_id=user.id,
        run_id=run_id or uuid7(),
        model=MODEL,
        provider="sandbox",
        kind="chat",
        input_tokens=50,
        output_tokens=3_000,
        cached_input_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        images=0,
        cost_micro_rub=COST,
        charged_micro_rub=COST,
        price_version_id=1,
        estimated=False,
        created_at=clock.now() - timedelta(days=days_ago),
    )
    for name, value in facts.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def pay_for(user: User, run_id: UUID) -> None:
    """Usage that the ledger really took: for customers whose books are proved at the end of the suite."""
    price = catalogue.refresh().offers[MODEL].price
    assert price is not None
    usage = Usage(input_tokens=50, output_tokens=3_000)
    cost = pricing.cost(usage, price)
    row = ledger.usage_row(
        run_id=run_id,
        model=MODEL,
        provider="sandbox",
        usage=usage,
        price=price,
        cost=cost,
        charged=cost,
        api_key_id=None,
        estimated=False,
    )
    hold_id = uuid7()
    with transaction.atomic():
        ledger.hold(
            [ledger.hold_step(hold_id=hold_id, customer_id=user.id, amount=cost, ttl_seconds=900, soft=False)]
        )
        ledger.settle([ledger.settle_step(hold_id=hold_id, customer_id=user.id, amount=cost, usage=[row])])
