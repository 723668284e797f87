"""The customer API of orchestration that needs no engine: models, runs as resources, estimates, usage."""

from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Field, Query, Router

from accounts.auth import WITH_KEYS
from accounts.requests import actor_of
from billing import exports, pricing, request_rates
from billing import queries as money
from billing.schemas import Period, usage_item
from orchestration import catalogue, queries, routing
from orchestration.models import Attempt, Run
from orchestration.schemas import RunIn
from orchestration.shapes import Offer, RunRequest
from plyrum import clock, downloads
from plyrum.clock import rfc3339
from plyrum.downloads import FILE, Form
from plyrum.paging import PageQuery, mark, paginate, paginate_named

models_router = Router(tags=["models"])
runs_router = Router(tags=["runs"])
usage_router = Router(tags=["usage"])


class ModelsQuery(PageQuery):
    # The most: who reads a catalogue wants it whole.
    page_size: int = Field(100, ge=1, le=100)


class UsageFilter(Period):
    model: str | None = Field(None, max_length=100)
    api_key_id: UUID | None = None


class UsageQuery(PageQuery, UsageFilter):
    """A page of usage rows."""


class UsageExportQuery(UsageFilter):
    format: Form = Form.CSV


class SummaryQuery(Period):
    group_by: Literal["day", "model", "key"] = "day"


@models_router.get("", auth=None, summary="The catalogue with prices")
def list_models(request: HttpRequest, response: HttpResponse, query: Query[ModelsQuery]) -> dict[str, Any]:
    """Open to everybody. In the order of ids."""
    offers = {key: offer for key, offer in catalogue.refresh().offers.items() if offer.price is not None}
    page = paginate_named(offers, query)
    mark(response, query, page, schema_version=2)
    return {"items": [_offer(offer) for offer in page.rows], "next_cursor": page.next_cursor}


@runs_router.get("", auth=WITH_KEYS, summary="Own runs, newest first")
def list_runs(request: HttpRequest, response: HttpResponse, query: Query[PageQuery]) -> dict[str, Any]:
    page = paginate(queries.runs_of(request.credential.user_id), query, key="id")  # type: ignore[attr-defined]
    mark(response, query, page, schema_version=1)
    return {"items": [_run(run) for run in page.rows], "next_cursor": page.next_cursor}


@runs_router.post("/estimate", auth=WITH_KEYS, summary="What a request would cost, without running it")
def estimate(request: HttpRequest, body: RunIn) -> dict[str, Any]:
    caller = request.credential  # type: ignore[attr-defined]
    request_rates.admit(caller.user_id, now=clock.now())
    plan = routing.plan(
        RunRequest(
            customer_id=caller.user_id,
            idempotency_key="",
            fingerprint="",
            surface="api",
            messages=body.conversation(),
            mode=body.mode,
            profile=body.profile,
            models=body.named_models(),
            max_output_tokens=body.max_output_tokens,
            temperature=body.temperature,
            reasoning_effort=body.reasoning_effort,
            max_cost_micro_rub=body.max_cost_micro_rub,
            stream=body.stream,
            accepted_terms=caller.accepted_offer_version_ids,
            api_key_id=caller.api_key.id if caller.api_key is not None else None,
            allowed_models=caller.api_key.models if caller.api_key is not None else frozenset(),
        ),
        catalogue.refresh(),
    )
    return {
        "estimate_micro_rub": plan.estimate_micro_rub,
        "hold_micro_rub": plan.hold_micro_rub,
        "route": plan.explanation(),
    }


@runs_router.get("/{run_id}", auth=WITH_KEYS, summary="One run: state, route, price down to the ledger entry")
def get_run(request: HttpRequest, run_id: str) -> dict[str, Any]:
    run = queries.run_of(request.credential.user_id, run_id)  # type: ignore[attr-defined]
    return _run(run) | {
        "route": run.route,
        "attempts": [_attempt(attempt) for attempt in queries.attempts_of(run)],
    }


@usage_router.get("", auth=WITH_KEYS, summary="Usage rows, newest first")
def list_usage(request: HttpRequest, response: HttpResponse, query: Query[UsageQuery]) -> dict[str, Any]:
    rows = money.usage(
        request.credential.user_id,  # type: ignore[attr-defined]
        model=query.model,
        api_key_id=query.api_key_id,
        since=query.from_,
        until=query.to,
    )
    page = paginate(rows, query, key="id")
    mark(response, query, page, schema_version=2)
    return {"items": [usage_item(row) for row in page.rows], "next_cursor": page.next_cursor}


@usage_router.get("/export", auth=WITH_KEYS, summary="Usage rows as a file, newest first", openapi_extra=FILE)
def export_usage(request: HttpRequest, query: Query[UsageExportQuery]) -> StreamingHttpResponse:
    """The rows of `GET /api/usage` as CSV, XLSX or JSON lines; a spreadsheet has at most 100 000 rows."""
    request_rates.admit(request.credential.user_id, now=clock.now())  # type: ignore[attr-defined]
    found = exports.usage(
        customer_id=request.credential.user_id,  # type: ignore[attr-defined]
        form=query.format,
        actor=actor_of(request),
        model=query.model,
        api_key_id=query.api_key_id,
        since=query.from_,
        until=query.to,
    )
    return downloads.answer(found, query.format)


@usage_router.get("/summary", auth=WITH_KEYS, summary="Usage by day, model or key")
def summarise_usage(request: HttpRequest, query: Query[SummaryQuery]) -> dict[str, Any]:
    """Sums of the rows of `GET /api/usage` in a period, exact to the micro-rouble, by day of Moscow (newest
    first), by model or by API key (null: without one). `requests` counts rows.
    """
    items = money.usage_summary(
        request.credential.user_id,  # type: ignore[attr-defined]
        group_by=query.group_by,
        since=query.from_,
        until=query.to,
    )
    return {"group_by": query.group_by, "items": items}


def _offer(offer: Offer) -> dict[str, Any]:
    price = offer.price
    assert price is not None  # noqa: S101 - the caller lists priced offers only
    return {
        "id": offer.id,
        "label": offer.label,
        "description_ru": offer.description_ru,
        "provider": offer.provider,
        "capabilities": offer.capabilities,
        "context_tokens": offer.context_tokens,
        "max_output_tokens": offer.max_output_tokens,
        "prices": {
            "input_micro_rub_per_mtok": pricing.per_million(price.input, price),
            "cached_input_micro_rub_per_mtok": pricing.per_million(price.cached_input, price),
            "cache_write_micro_rub_per_mtok": pricing.per_million(price.cache_write, price),
            "output_micro_rub_per_mtok": pricing.per_million(price.output, price),
            "image_micro_rub": pricing.per_million(price.image, price),
        },
        "privacy_tier": offer.privacy_tier,
        "hosted_region": offer.hosted_region,
        "risk": offer.risk,
        "configured": offer.is_configured,
        "status": "active" if offer.is_enabled else "disabled",
    }


def _run(run: Run) -> dict[str, Any]:
    finished = run.finished_at
    return {
        "id": str(run.id),
        "state": run.state,
        "mode": run.mode,
        "profile": run.profile,
        "model": run.model,
        "provider": run.provider,
        "finish_reason": run.finish_reason or None,
        "error_code": run.error_code or None,
        "estimate_micro_rub": run.estimate_micro_rub,
        "hold_micro_rub": run.hold_micro_rub,
        "cost_micro_rub": run.cost_micro_rub,
        "released_micro_rub": run.hold_micro_rub - run.cost_micro_rub if finished else None,
        "ledger_entry_id": str(run.ledger_entry_id) if run.ledger_entry_id else None,
        "usage": {
            "input_tokens": run.input_tokens,
            "output_tokens": run.output_tokens,
            "estimated": run.estimated,
        },
        "api_key_id": str(run.api_key_id) if run.api_key_id else None,
        "created_at": rfc3339(run.created_at),
        "finished_at": rfc3339(finished) if finished else None,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "stage": attempt.stage,
        "number": attempt.number,
        "model": attempt.model,
        "provider": attempt.provider,
        "status": attempt.status,
        "error_class": attempt.error_class or None,
        "input_tokens": attempt.input_tokens,
        "output_tokens": attempt.output_tokens,
        "cost_micro_rub": attempt.cost_micro_rub,
        "first_token_ms": attempt.first_token_ms,
        "duration_ms": attempt.duration_ms,
        "started_at": rfc3339(attempt.started_at),
    }
