"""Routing is pure: reasons against a model, the score and its order, budgets, holds, bounds of input."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import Price, Usage
from orchestration import routing
from orchestration.catalogue import Snapshot
from orchestration.errors import ModelNotFound, NoRoute
from orchestration.shapes import Message, Offer, RunRequest
from plyrum.ids import uuid7

PRICE = Price(
    version_id=7, currency="USD", input=2_000_000, cached_input=200_000, cache_write=2_500_000,
    output=10_000_000, image=0, markup_bp=13_000, fx_rate_id=3, fx_micro_rub=95_000_000,
    fx_spread_bp=0,
)  # fmt: skip
# Any text that JSON can carry: no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


def offer(id_: str = "a/one", **facts: Any) -> Offer:
    given_facts: dict[str, Any] = {
        "id": id_, "label": id_, "description_ru": "", "provider": "a", "provider_label": "A",
        "wire": "openai_chat", "country": "RU", "upstream_id": "one", "capabilities": ("text",),
        "context_tokens": 128_000, "max_output_tokens": 8_000, "quality": 0.8, "privacy_tier": "standard",
        "hosted_region": "RU", "risk": "standard", "price": PRICE,
        "has_stale_rate": False, "is_enabled": True, "is_configured": True,
    }  # fmt: skip
    return Offer(**given_facts | facts)


def snapshot(*offers: Offer) -> Snapshot:
    return Snapshot(11, frozenset(), {item.id: item for item in offers}, {}, frozenset(), {})


def request(text: str = "Привет", **facts: Any) -> RunRequest:
    given_facts: dict[str, Any] = {
        "customer_id": uuid7(), "idempotency_key": "k", "fingerprint": "f", "surface": "api",
        "messages": ({"role": "user", "content": text},), "mode": "auto", "profile": "balanced",
        "models": (), "max_output_tokens": None, "temperature": None, "reasoning_effort": None,
        "max_cost_micro_rub": None, "stream": True, "accepted_terms": (),
    }  # fmt: skip
    return RunRequest(**given_facts | facts)


def said(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


@pytest.mark.parametrize(
    ("facts", "asked", "reason"),
    [
        ({"is_enabled": False, "price": None}, {}, "model_disabled"),
        ({"price": None, "is_configured": False}, {}, "no_price"),
        ({"price": None, "has_stale_rate": True, "is_configured": False}, {}, "stale_rate"),
        ({"is_configured": False, "capabilities": ()}, {}, "no_active_key"),
        ({"capabilities": ("image",), "max_output_tokens": 1}, {"max_output_tokens": 2}, "modality"),
        ({"max_output_tokens": 99, "context_tokens": 100}, {"max_output_tokens": 100}, "max_out"),
        ({"context_tokens": 4_000}, {"max_cost_micro_rub": 0}, "context"),
        ({}, {"max_cost_micro_rub": 1}, "budget"),
    ],
)
def test_model_is_left_out_by_the_first_reason_against_it(
    facts: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NoRoute) as refused:
        routing.plan(request(**asked), snapshot(offer(**facts)))

    assert refused.value.extra == {"reasons": {"a/one": reason}}
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (503, "no_route", True)


def test_reasons_of_the_left_out_stand_beside_the_chosen() -> None:
    plan = routing.plan(request(), snapshot(offer("b"), offer("a", is_enabled=False), offer("c", price=None)))

    assert [candidate.offer.id for candidate in plan.candidates] == ["b"]
    assert plan.excluded == {"a": "model_disabled", "c": "no_price"}


def test_no_models_at_all_is_no_route() -> None:
    with pytest.raises(NoRoute) as refused:
        routing.plan(request(), snapshot())

    assert refused.value.extra == {"reasons": {}}


@pytest.mark.parametrize("spare", [0, 1])
def test_context_must_hold_the_input_and_the_whole_answer(spare: int) -> None:
    asked = request(max_output_tokens=500)
    needed = routing.input_bound(asked.messages) + 500
    models = snapshot(offer(context_tokens=needed - 1 + spare))

    if spare:
        assert routing.plan(asked, models).candidates[0].max_output_tokens == 500
    else:
        with pytest.raises(NoRoute):
            routing.plan(asked, models)


@pytest.mark.parametrize("spare", [0, 1])
def test_budget_is_compared_with_the_worst_case(spare: int) -> None:
    worst = routing.plan(request(), snapshot(offer())).candidates[0].worst_micro_rub
    asked = request(max_cost_micro_rub=worst - 1 + spare)

    if spare:
        assert routing.plan(asked, snapshot(offer())).candidates[0].worst_micro_rub == worst
    else:
        with pytest.raises(NoRoute):
            routing.plan(asked, snapshot(offer()))


@pytest.mark.parametrize(
    ("rub", "cheapness"),
    [(0.0, 1.0), (0.60, 0.4442), (0.02, 0.9271), (5.0, 0.0), (500.0, 0.0)],
)
def test_cheapness_follows_the_guide(rub: float, cheapness: float) -> None:
    """Orchestration guide 16, vector 3, and both ends of the scale."""
    assert routing._cheapness(rub) == pytest.approx(cheapness, abs=0.0001)


@pytest.mark.parametrize(
    ("profile", "scores"),
    [
        ("balanced", {"A": 0.6813, "D": 0.7669}),
        ("quality", {"A": 0.8010, "D": 0.7262}),
        ("cheap", {"A": 0.6041, "D": 0.8217}),
        ("fast", {"A": 0.6264, "D": 0.7209}),
    ],
)
def test_weights_give_the_scores_of_the_guide(profile: str, scores: dict[str, float]) -> None:
    """Vector 2: latency 1/(1 + t/1.5) and reliability are put in, ours are neutral until they are learned."""
    facts = {"A": (0.82, 0.60, 2.5, 0.9300), "D": (0.70, 0.02, 0.8, 0.7864)}
    wq, wc, wl, wr = routing.WEIGHTS[profile]

    for name, (quality, rub, seconds, reliability) in facts.items():
        cheapness, latency = routing._cheapness(rub), 1 / (1 + seconds / 1.5)
        score = wq * quality + wc * cheapness + wl * latency + wr * reliability
        assert score == pytest.approx(scores[name], abs=0.0002)


@pytest.mark.parametrize("profile", list(routing.WEIGHTS))
def test_weights_of_a_profile_are_a_whole(profile: str) -> None:
    assert sum(routing.WEIGHTS[profile]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("profile", "first"), [("quality", "strong"), ("cheap", "weak"), ("balanced", "weak")]
)
def test_profile_decides_between_quality_and_price(profile: str, first: str) -> None:
    weak = offer("weak", quality=0.6, price=replace(PRICE, input=100_000, output=400_000))
    strong = offer("strong", quality=0.9)

    plan = routing.plan(request("а" * 4000, profile=profile), snapshot(strong, weak))

    assert plan.candidates[0].offer.id == first
    assert plan.candidates[0].score >= plan.candidates[1].score
    assert plan.candidates[0].reasons == (f"profile:{profile}", "score")


def test_equal_scores_stand_in_the_order_of_ids() -> None:
    plan = routing.plan(request(), snapshot(offer("c"), offer("a"), offer("b")))

    assert [candidate.offer.id for candidate in plan.candidates] == ["a", "b", "c"]


def test_unrelated_models_do_not_change_a_score() -> None:
    alone = routing.plan(request(), snapshot(offer("a")))
    together = routing.plan(request(), snapshot(offer("a"), offer("b", quality=0.1)))

    assert alone.candidates[0] == together.candidates[0]


def test_named_models_keep_their_order_whatever_their_score() -> None:
    models = snapshot(offer("best", quality=1.0), offer("worst", quality=0.0), offer("other"))

    plan = routing.plan(request(models=("worst", "best")), models)

    assert [candidate.offer.id for candidate in plan.candidates] == ["worst", "best"]
    assert {candidate.reasons for candidate in plan.candidates} == {("named",)}
    assert plan.excluded == {}  # nobody else was considered


def test_unknown_name_is_told_before_anything_else() -> None:
    with pytest.raises(ModelNotFound) as refused:
        routing.plan(request(models=("a/one", "a/none")), snapshot(offer()))

    assert (refused.value.status, refused.value.code) == (422, "model_not_found")


def test_hold_covers_the_dearest_of_the_chosen_with_its_margin() -> None:
    dear = offer("dear", quality=0.1, price=replace(PRICE, output=90_000_000))

    plan = routing.plan(request(), snapshot(offer("a"), dear))

    worst = [candidate.worst_micro_rub for candidate in plan.candidates]
    assert plan.candidates[0].offer.id == "a"
    assert plan.hold_micro_rub == max(worst) + math.ceil(max(worst) * 0.02)
    assert plan.estimate_micro_rub == plan.candidates[0].expected_micro_rub < plan.hold_micro_rub


def test_worst_case_prices_input_at_the_dearer_of_reading_and_writing_a_cache() -> None:
    candidate = routing.plan(request(), snapshot(offer())).candidates[0]
    bound = routing.input_bound(said("Привет"))

    written = Usage(input_tokens=bound, cache_write_tokens=bound, output_tokens=4096)
    assert candidate.worst_micro_rub == pricing.cost(written, PRICE)


@pytest.mark.parametrize(("asked", "given"), [(None, 4096), (10, 10), (8_000, 8_000)])
def test_answer_is_limited_by_the_request_or_by_our_default(asked: int | None, given: int) -> None:
    plan = routing.plan(request(max_output_tokens=asked), snapshot(offer()))

    assert plan.candidates[0].max_output_tokens == given


def test_small_model_limits_the_default() -> None:
    plan = routing.plan(request(), snapshot(offer(max_output_tokens=512)))

    assert plan.candidates[0].max_output_tokens == 512


def test_explanation_is_the_same_each_time_and_enough_to_compute_the_hold_again() -> None:
    asked, models = request(profile="cheap"), snapshot(offer("b"), offer("a"), offer("off", is_enabled=False))

    first, second = (routing.plan(asked, models).explanation() for _ in range(2))

    assert first == second
    assert first["catalogue_version"] == 11
    assert first["excluded"] == {"off": "model_disabled"}
    row = first["candidates"][0]
    assert (row["model"], row["price_version_id"], row["fx_rate_id"]) == ("a", 7, 3)
    again = pricing.worst_case(
        input_bound=first["input_bound_tokens"], max_output_tokens=row["max_output_tokens"], price=PRICE
    )
    assert again == row["worst_micro_rub"]
    assert routing.plan(asked, models).hold_micro_rub == pricing.with_margin(again)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("Привет", 6),
        ("你好", 3),
        ("a" * 39, 20),
        ("a" * 40, 40),  # from here on it looks like base64
        ("два слова и " + "QUJD" * 50, 11 + 200),
        ("😀", 4),
        ("да 😀 нет", 4 + 6),
    ],
)
def test_bound_of_input_by_example(text: str, tokens: int) -> None:
    assert routing.input_bound(said(text)) == 64 + 8 + tokens


@given(TEXTS, TEXTS)
def test_longer_text_never_has_a_lower_bound(text: str, more: str) -> None:
    assert routing.input_bound(said(text + more)) >= routing.input_bound(said(text))


@given(TEXTS)
def test_bound_is_far_above_a_token_for_four_bytes(text: str) -> None:
    assert routing.input_bound(said(text)) * 4 >= len(text.encode())


@given(st.lists(TEXTS, max_size=8))
def test_bound_of_a_conversation_counts_every_message(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    alone = [routing.input_bound([message]) - 64 for message in messages]

    assert routing.input_bound(messages) == 64 + sum(alone)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 10**8), st.sampled_from([4_000, 200_000])),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(list(routing.WEIGHTS)),
)
def test_plan_takes_four_at_most_best_first_and_explains_everybody(
    rows: list[tuple[float, bool, int, int]], profile: str
) -> None:
    offers = [
        offer(f"m{place}", quality=quality, is_enabled=on, price=replace(PRICE, output=output),
              context_tokens=context)
        for place, (quality, on, output, context) in enumerate(rows)
    ]  # fmt: skip
    offers.append(offer("z"))  # somebody can always answer

    plan = routing.plan(request(profile=profile), snapshot(*offers))

    chosen = [candidate.offer.id for candidate in plan.candidates]
    assert 1 <= len(chosen) <= routing.MAX_CANDIDATES
    assert set(plan.excluded) == {
        item.id for item in offers if not item.is_enabled or item.context_tokens == 4_000
    }
    assert not plan.excluded.keys() & set(chosen)
    scores = [candidate.score for candidate in plan.candidates]
    assert scores == sorted(scores, reverse=True)
    assert all(candidate.worst_micro_rub < plan.hold_micro_rub for candidate in plan.candidates)
    assert all(c.expected_micro_rub <= c.worst_micro_rub for c in plan.candidates)


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**4), st.integers(0, 10**4)
)  # fmt: skip
def test_more_tokens_never_cost_less(inputs: int, outputs: int, more_in: int, more_out: int) -> None:
    few = pricing.cost(Usage(input_tokens=inputs, output_tokens=outputs), PRICE)
    many = pricing.cost(Usage(input_tokens=inputs + more_in, output_tokens=outputs + more_out), PRICE)

    assert many >= few >= 0
