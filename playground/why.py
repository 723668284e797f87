"""Why a run went the way it went: the page's facts, all of them stored with the run. Decides nothing."""

from collections.abc import Sequence
from typing import Any

from django.urls import reverse

from billing import prices, pricing
from billing import queries as money_queries
from billing.models import FxRate, PriceVersion
from billing.pricing import Price, Usage
from billing.templatetags.money import duration
from orchestration import queries as runs
from orchestration import words
from orchestration.catalogue import Snapshot
from orchestration.models import Attempt, Run, RunState
from playground import conversation, offers, queries

MOST_LINES = 5  # what the drawing has room for

Facts = dict[str, Any]


def explanation(run: Run, snapshot: Snapshot) -> Facts:
    """Context of `playground/run_why.html`, without `fragment`."""
    attempts = runs.attempts_of(run)
    candidates = run.route.get("candidates", [])
    chosen = next((c for c in candidates if c["model"] == run.model), candidates[0] if candidates else {})
    labels = _labels(run, attempts, snapshot)
    return {
        "run": _run(run, labels),
        "sentence": words.sentence(run, attempts, labels),
        "lines": _lines(run, attempts, labels),
        "reasons": words.reasons(chosen, labels[chosen["model"]]) if chosen else [],
        "excluded": [
            {"label": labels.get(model, model), "reason": words.exclusion(code)}
            for model, code in run.route.get("excluded", {}).items()
        ],
        "attempts": _attempts(run, attempts, labels, snapshot),
    }


def _labels(run: Run, attempts: Sequence[Attempt], snapshot: Snapshot) -> dict[str, str]:
    named = {run.model, *(attempt.model for attempt in attempts), *run.route.get("excluded", {})}
    named |= {candidate["model"] for candidate in run.route.get("candidates", [])}
    return {model: offers.label(model, snapshot) for model in named}


def _run(run: Run, labels: dict[str, str]) -> Facts:
    reversal = money_queries.reversal_of(run.ledger_entry_id) if run.ledger_entry_id else None
    answer = queries.answer_of_run(run.customer_id, run.id)
    is_over = run.finished_at is not None
    return {
        "id": run.id,
        "created_at": run.created_at,
        "state": run.state,
        "model": labels[run.model],
        "hold_micro_rub": run.hold_micro_rub,
        "cost_micro_rub": run.cost_micro_rub if is_over else None,
        "released_micro_rub": run.hold_micro_rub - run.cost_micro_rub if is_over else None,
        "reversed_micro_rub": reversal.amount_micro_rub if reversal is not None else 0,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "duration_ms": conversation.duration_ms(run),
        "thread_url": reverse("thread", args=[answer.thread_id]) if answer is not None else "",
        "ledger_entry_id": run.ledger_entry_id,
        "ledger_url": f"{reverse('wallet')}#entry-{run.ledger_entry_id}" if run.ledger_entry_id else "",
    }


def _lines(run: Run, attempts: Sequence[Attempt], labels: dict[str, str]) -> list[Facts]:
    """One line a model, the one that answered first, then as they stood in the plan."""
    if run.finished_at is None or run.state == RunState.REFUSED:
        return []
    planned = [candidate["model"] for candidate in run.route.get("candidates", [])]
    order = sorted(dict.fromkeys([run.model, *planned]), key=lambda model: model != run.model)
    last = {attempt.model: attempt for attempt in attempts}
    if not attempts:  # the process that made them was lost with them
        order = order[:1]
    return [_line(run, model, last.get(model), labels[model]) for model in order[:MOST_LINES]]


def _line(run: Run, model: str, attempt: Attempt | None, label: str) -> Facts:
    line: Facts = {"label": label, "note": "", "price_micro_rub": None, "state": "done"}
    if attempt is None and model != run.model:
        return line | {"state": "skipped", "note": words.not_needed()}
    has_answered = attempt.status != "failed" if attempt is not None else False
    if model == run.model and (has_answered or run.cost_micro_rub):
        note = duration(attempt.duration_ms) if attempt is not None else ""
        return line | {"note": note, "price_micro_rub": run.cost_micro_rub}
    code = attempt.error_class if attempt is not None else run.error_code
    return line | {"state": "failed", "note": words.attempt_error(code)}


def _attempts(
    run: Run, attempts: Sequence[Attempt], labels: dict[str, str], snapshot: Snapshot
) -> list[Facts]:
    candidates = {candidate["model"]: candidate for candidate in run.route.get("candidates", [])}
    return [
        _attempt(attempt, candidates.get(attempt.model, {}), labels[attempt.model], snapshot)
        for attempt in attempts
    ]


def _attempt(attempt: Attempt, candidate: Facts, label: str, snapshot: Snapshot) -> Facts:
    offer = snapshot.offers.get(attempt.model)
    output_cost = _output_cost(attempt, candidate)
    return {
        "label": label,
        "provider": offer.provider_label if offer is not None else attempt.provider,
        "country": candidate.get("country", ""),
        "state": attempt.status,
        "error": words.attempt_error(attempt.error_class),
        "started_at": attempt.started_at,
        "duration_ms": attempt.duration_ms,
        "input_tokens": attempt.input_tokens,
        "output_tokens": attempt.output_tokens,
        "input_cost_micro_rub": attempt.cost_micro_rub - output_cost,
        "output_cost_micro_rub": output_cost,
        "cost_micro_rub": attempt.cost_micro_rub,
    }


def _output_cost(attempt: Attempt, candidate: Facts) -> int:
    """The answer's part of the price, by the price frozen with the run."""
    price = _frozen_price(candidate) if attempt.cost_micro_rub and candidate else None
    if price is None:
        return 0
    question = Usage(input_tokens=attempt.input_tokens)
    answered = Usage(input_tokens=attempt.input_tokens, output_tokens=attempt.output_tokens)
    cost = pricing.cost(answered, price) - pricing.cost(question, price)  # a long question makes it dearer
    return min(cost, attempt.cost_micro_rub)


def _frozen_price(candidate: Facts) -> Price | None:
    version = PriceVersion.objects.filter(pk=candidate["price_version_id"]).first()
    if version is None:
        return None
    return prices.price_of(version, FxRate.objects.filter(pk=candidate["fx_rate_id"]).first())
