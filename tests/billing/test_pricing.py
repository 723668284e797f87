"""Prices: the published vectors, one rounding upward, and the same arithmetic in the database's own proof."""

from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from billing import money, prices, pricing, queries, verification
from billing.models import FxRate, PriceVersion, UsageEvent
from billing.pricing import Price, Tier, Usage
from plyrum import clock
from plyrum.ids import uuid7
from tests.billing import books

FX = 95_000_000


def usd(
    input_price: int,
    cached: int = 0,
    output: int = 0,
    *,
    markup_bp: int = 10_000,
    cache_write: int = 0,
    spread_bp: int = 0,
) -> Price:
    """A price in micro-dollars per million tokens at 95 roubles."""
    return Price(
        version_id=1,
        currency="USD",
        input=input_price,
        cached_input=cached,
        cache_write=cache_write,
        output=output,
        image=0,
        markup_bp=markup_bp,
        fx_rate_id=1,
        fx_micro_rub=FX,
        fx_spread_bp=spread_bp,
    )


# Source: provider guide 12.2.
@pytest.mark.parametrize(
    ("usage", "price", "micro_rub"),
    [
        (Usage(input_tokens=1_000), usd(2_000_000), 190_000),
        (Usage(input_tokens=1), usd(6_000), 1),
        (Usage(), replace(usd(2_000_000), image=1), 0),
        (Usage(1_200, 50, cached_input_tokens=1_000), usd(750_000, 75_000, 4_500_000), 42_750),
        (Usage(1_200, 50, cached_input_tokens=1_000), usd(1_000_000, 100_000, 5_000_000), 52_250),
        (
            Usage(1_200, 50, cached_input_tokens=1_000, reasoning_tokens=20),
            usd(300_000, 30_000, 2_500_000),
            20_425,
        ),
    ],
)
def test_cost_follows_the_published_vectors(usage: Usage, price: Price, micro_rub: int) -> None:
    assert pricing.cost(usage, price) == micro_rub


def test_nothing_is_used_unless_it_is_said() -> None:
    assert Usage() == Usage(0, 0, 0, 0, 0, 0)


def test_markup_is_part_of_the_one_rounding() -> None:
    assert pricing.cost(Usage(input_tokens=1_000), usd(2_000_000, markup_bp=13_000)) == 247_000
    assert pricing.cost(Usage(input_tokens=1), usd(6_000, markup_bp=13_000)) == 1  # 0.741
    assert pricing.cost(Usage(input_tokens=2), usd(6_000, markup_bp=13_000)) == 2  # 1.482, not 1 and 1


def test_spread_is_a_term_of_the_one_rounding() -> None:
    price = usd(2_000_000, markup_bp=13_000, spread_bp=150)

    assert pricing.cost(Usage(input_tokens=1_000), price) == 250_705  # 247 000 x 1.015
    assert pricing.per_million(price.input, price) == 250_705_000
    assert pricing.cost(Usage(input_tokens=1), usd(6_000, spread_bp=1)) == 1  # 0.570057


def test_cache_write_has_its_own_price_and_reasoning_is_part_of_output() -> None:
    usage = Usage(100, 10, cached_input_tokens=20, cache_write_tokens=30, reasoning_tokens=10)
    price = usd(1_000_000, 100_000, 2_000_000, cache_write=1_250_000)

    exact = (50 * 1_000_000 + 20 * 100_000 + 30 * 1_250_000 + 10 * 2_000_000) * 95

    assert pricing.cost(usage, price) == -(-exact // 1_000_000)


# Source: provider guide 12.2 and 13 (gpt-6-sol above 272k: 4 / 0.4 / 5 / 15).
LONG = replace(
    usd(2_000_000, 200_000, 10_000_000, cache_write=2_500_000),
    tier=Tier(272_000, 4_000_000, 400_000, 5_000_000, 15_000_000),
)


@pytest.mark.parametrize(
    ("usage", "micro_rub"),
    [
        (Usage(272_000, 1_000), (272_000 * 2 + 1_000 * 10) * 95),
        (Usage(272_001, 1_000), (272_001 * 4 + 1_000 * 15) * 95),
        (Usage(272_001, 0, cached_input_tokens=272_000), (4 + 272_000 * 2 // 5) * 95),
        (Usage(272_001, 0, cache_write_tokens=272_001), 272_001 * 5 * 95),
        (Usage(100, 0, cached_input_tokens=272_001), 272_001 * 38),  # counted beside the input
    ],
)
def test_long_input_makes_the_whole_request_dearer(usage: Usage, micro_rub: int) -> None:
    assert pricing.cost(usage, LONG) == micro_rub


def test_worst_case_counts_the_tier_only_where_it_can_be_reached() -> None:
    assert pricing.worst_case(input_bound=272_000, max_output_tokens=10, price=LONG) == (
        (272_000 * 25 // 10 + 100) * 95
    )
    assert pricing.worst_case(input_bound=272_001, max_output_tokens=10, price=LONG) == (
        (272_001 * 5 + 150) * 95
    )


def test_worst_case_of_a_cheaper_tier_is_that_of_the_base() -> None:
    cheaper = replace(LONG, tier=Tier(100, 1, 1, 1, 1))

    assert pricing.worst_case(input_bound=101, max_output_tokens=0, price=cheaper) == -(-101 * 25 * 95 // 10)


def test_minimum_raises_what_costs_anything_and_nothing_else() -> None:
    price = replace(usd(2_000_000), minimum_micro_rub=10_000)

    assert pricing.cost(Usage(input_tokens=1), price) == 10_000
    assert pricing.cost(Usage(input_tokens=1_000), price) == 190_000
    assert pricing.cost(Usage(), price) == 0
    assert pricing.worst_case(input_bound=1, max_output_tokens=0, price=price) == 10_000


def test_parts_larger_than_the_input_give_no_discount() -> None:
    """A provider that counts cached tokens beside the input, not within it, is not paid back by us."""
    usage, price = Usage(100, 0, cached_input_tokens=150), usd(1_000_000, 100_000)

    assert pricing.cost(usage, price) == 150 * 100_000 * 95 // 1_000_000


def test_image_is_priced_by_the_piece() -> None:
    price = Price(1, "RUB", 0, 0, 0, 0, 2_500_000, 10_000, None, 1_000_000, 0)

    assert pricing.cost(Usage(images=3), price) == 7_500_000


COUNTS = st.integers(0, 10**9)
PRICES = st.integers(1, 10**12)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, fresh = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    return Usage(fresh + cached + written, draw(COUNTS), cached, written, 0, draw(st.integers(0, 100)))


TIERS = st.none() | st.builds(Tier, COUNTS.filter(bool), PRICES, PRICES, PRICES, PRICES)


@st.composite
def price_rows(draw: st.DrawFn) -> Price:
    return Price(
        version_id=1,
        currency=draw(st.sampled_from(["USD", "RUB"])),
        input=draw(PRICES),
        cached_input=draw(PRICES),
        cache_write=draw(PRICES),
        output=draw(PRICES),
        image=draw(PRICES),
        markup_bp=draw(st.integers(1, 100_000)),
        fx_rate_id=1,
        fx_micro_rub=draw(st.integers(1, 10**9)),
        fx_spread_bp=draw(st.integers(0, 10_000)),
        tier=draw(TIERS),
        minimum_micro_rub=draw(st.sampled_from([0, 0, 1, 10**6, 10**12])),
    )


def exact(usage: Usage, price: Price) -> Fraction:
    """The cost without rounding, by the definition."""
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    is_long = price.tier is not None and usage.input_tokens > price.tier.above_tokens
    row = price.tier if price.tier is not None and is_long else price
    in_units = (
        Fraction(fresh * row.input, 10**12)
        + Fraction(usage.cached_input_tokens * row.cached_input, 10**12)
        + Fraction(usage.cache_write_tokens * row.cache_write, 10**12)
        + Fraction(usage.output_tokens * row.output, 10**12)
        + Fraction(usage.images * price.image, 10**6)
    )
    rate = price.fx_micro_rub * (1 + Fraction(price.fx_spread_bp, 10_000))
    return in_units * rate * Fraction(price.markup_bp, 10_000)


@given(usages(), price_rows())
def test_charge_is_above_the_exact_cost_by_less_than_one_micro(usage: Usage, price: Price) -> None:
    price = replace(price, minimum_micro_rub=0)

    assert 0 <= pricing.cost(usage, price) - exact(usage, price) < 1


@given(usages(), price_rows(), st.integers(1, 10**6))
def test_more_output_never_costs_less(usage: Usage, price: Price, more: int) -> None:
    larger = replace(usage, output_tokens=usage.output_tokens + more)

    assert pricing.cost(larger, price) >= pricing.cost(usage, price)


@given(usages(), price_rows())
def test_worst_case_covers_every_way_to_use_the_input(usage: Usage, price: Price) -> None:
    """Cached input is cheaper than fresh; a cache write may be dearer."""
    usage = replace(usage, images=0)
    price = replace(price, cached_input=min(price.cached_input, price.input))
    if price.tier is not None:
        tier = price.tier
        price = replace(price, tier=replace(tier, cached_input=min(tier.cached_input, tier.input)))

    bound = pricing.worst_case(
        input_bound=usage.input_tokens, max_output_tokens=usage.output_tokens, price=price
    )

    assert pricing.cost(usage, price) <= bound <= pricing.with_margin(bound)


@pytest.mark.parametrize(
    ("worst_case", "hold"),
    [(0, 10_000), (1, 10_001), (500_000, 510_000), (1_000_000, 1_020_000), (1_000_001, 1_020_002)],
)
def test_margin_is_two_percent_but_at_least_a_kopeck(worst_case: int, hold: int) -> None:
    assert pricing.with_margin(worst_case) == hold


def test_shown_price_of_a_million_is_what_a_million_costs() -> None:
    price = usd(2_000_000, markup_bp=13_000)

    assert pricing.per_million(price.input, price) == pricing.cost(Usage(input_tokens=1_000_000), price)


@hypothesis_settings(deadline=None, max_examples=60)
@given(usages(), price_rows())
def test_database_and_python_price_alike(usage: Usage, price: Price) -> None:
    with transaction.atomic():
        price = stored(price)
        cost = pricing.cost(usage, price)
        if cost < 2**63 - 1:
            right, wrong = (used(usage, price, cost + extra) for extra in (0, 1))
            report = verification.examine(wallets=[right.customer_id, wrong.customer_id], only=["V27"])
            assert [finding.object for finding in report.findings] == [str(wrong.pk)]
        transaction.set_rollback(True)


def test_usage_without_its_rate_is_found_even_when_it_cost_nothing() -> None:
    with transaction.atomic():
        price = stored(usd(2_000_000, output=1))
        lost = replace(price, fx_rate_id=None)
        rows = [used(Usage(), each, 0) for each in (price, lost)]
        report = verification.examine(wallets=[row.customer_id for row in rows], only=["V27"])
        transaction.set_rollback(True)

    assert [finding.object for finding in report.findings] == [str(rows[1].pk)]


def stored(price: Price) -> Price:
    """The same price with rows of its version and its rate."""
    rate = FxRate.objects.create(
        currency="USD",
        micro_rub=price.fx_micro_rub,
        spread_bp=price.fx_spread_bp,
        source=str(uuid7()),
        rate_date=clock.now().date(),
    )
    version = PriceVersion.objects.create(
        sku=f"tests/{uuid7()}",
        number=1,
        currency=price.currency,
        input=price.input,
        cached_input=price.cached_input,
        cache_write=price.cache_write,
        output=price.output,
        image=price.image,
        markup_bp=price.markup_bp,
        tier_above_tokens=price.tier.above_tokens if price.tier else None,
        tier_input=price.tier.input if price.tier else None,
        tier_cached_input=price.tier.cached_input if price.tier else None,
        tier_cache_write=price.tier.cache_write if price.tier else None,
        tier_output=price.tier.output if price.tier else None,
        minimum_micro_rub=price.minimum_micro_rub,
        valid_from=clock.now(),
    )
    if price.currency == "RUB":
        return replace(price, version_id=version.pk, fx_rate_id=None, fx_micro_rub=1_000_000, fx_spread_bp=0)
    return replace(price, version_id=version.pk, fx_rate_id=rate.pk)


def used(usage: Usage, price: Price, cost: int) -> UsageEvent:
    return UsageEvent.objects.create(
        id=uuid7(),
        customer_id=uuid7(),
        run_id=uuid7(),
        model="tests",
        provider="tests",
        kind="chat",
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=0,
        images=usage.images,
        cost_micro_rub=cost,
        charged_micro_rub=0,
        price_version_id=price.version_id,
        fx_rate_id=price.fx_rate_id,
        estimated=False,
        created_at=clock.now(),
    )


TIER = dict.fromkeys(
    ("tier_above_tokens", "tier_input", "tier_cached_input", "tier_cache_write", "tier_output"), 1
)
PUBLISHED = {"currency": "USD", "input": "2.50", "cached_input": "1.25", "output": "10.00"}


def test_price_is_published_once_and_a_change_is_a_new_version() -> None:
    sku, now = f"tests/{uuid7()}", clock.now()

    with transaction.atomic():
        first = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)
        again = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)
        dearer = prices.publish(sku=sku, price=PUBLISHED | {"output": "11"}, markup_bp=13_000, now=now)

    assert (first.number, again.pk, dearer.number) == (1, first.pk, 2)
    assert dearer in queries.current_prices()
    assert first not in queries.current_prices()
    assert (first.input, first.cached_input, first.cache_write, first.output) == (
        2_500_000,
        1_250_000,
        2_500_000,
        10_000_000,
    )


def test_tier_is_published_with_its_version_and_taken_away_by_another() -> None:
    sku, now = f"tests/{uuid7()}", clock.now()
    tier = {"above_tokens": 200_000, "input": "5", "output": "15"}

    with transaction.atomic():
        plain = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)
        tiered = prices.publish(sku=sku, price=PUBLISHED | {"tier": tier}, markup_bp=13_000, now=now)
        again = prices.publish(sku=sku, price=PUBLISHED | {"tier": tier}, markup_bp=13_000, now=now)
        back = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)

    assert (plain.number, tiered.number, again.pk, back.number) == (1, 2, tiered.pk, 3)
    assert prices.price_of(tiered, None).tier == Tier(200_000, 5_000_000, 5_000_000, 5_000_000, 15_000_000)
    assert prices.price_of(back, None).tier is None


def test_changed_minimum_is_a_new_version(settings: Settings) -> None:
    sku, now = f"tests/{uuid7()}", clock.now()

    with transaction.atomic():
        first = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)
        settings.PLYRUM_MINIMUM_CHARGE_MICRO_RUB = 10_000
        second = prices.publish(sku=sku, price=PUBLISHED, markup_bp=13_000, now=now)

    assert (first.number, second.number) == (1, 2)
    assert [prices.price_of(row, None).minimum_micro_rub for row in (first, second)] == [0, 10_000]


@pytest.mark.parametrize(
    ("change", "markup_bp"),
    [
        ({"input": "0"}, 13_000),
        ({"output": "0"}, 13_000),
        ({"input": "-1"}, 13_000),
        ({"input": "0.0000001"}, 13_000),
        ({"tier": {"above_tokens": 1, "input": "0", "output": "1"}}, 13_000),
        ({"tier": {"above_tokens": 1, "input": "1", "output": "0"}}, 13_000),
        ({}, 0),
        ({}, -1),
    ],
)
def test_price_that_sells_for_nothing_is_refused(change: dict[str, Any], markup_bp: int) -> None:
    sku = f"tests/{uuid7()}"

    with pytest.raises(ValueError), transaction.atomic():
        prices.publish(sku=sku, price=PUBLISHED | change, markup_bp=markup_bp, now=clock.now())
    assert not PriceVersion.objects.filter(sku=sku).exists()


def test_price_joins_its_version_with_its_rate() -> None:
    rate = FxRate(pk=7, micro_rub=95_000_000, spread_bp=150)
    version = PriceVersion(
        pk=5, currency="USD", input=1, cached_input=2, cache_write=3, output=4, markup_bp=6
    )

    assert prices.price_of(version, rate) == Price(5, "USD", 1, 2, 3, 4, 0, 6, 7, 95_000_000, 150)
    version.currency = "RUB"
    assert prices.price_of(version, None) == Price(5, "RUB", 1, 2, 3, 4, 0, 6, None, 1_000_000, 0)


def test_free_price_says_so() -> None:
    free = {"currency": "RUB", "input": "0", "output": "0", "is_free": True}

    with transaction.atomic():
        version = prices.publish(sku=f"tests/{uuid7()}", price=free, markup_bp=0, now=clock.now())

    assert version.is_free


def test_database_refuses_a_price_of_nothing() -> None:
    with pytest.raises(IntegrityError):
        PriceVersion.objects.create(
            sku=f"tests/{uuid7()}",
            number=1,
            currency="USD",
            input=0,
            cached_input=0,
            cache_write=0,
            output=0,
            markup_bp=10_000,
            valid_from=clock.now(),
        )


def test_rate_is_added_once_a_day_and_source() -> None:
    source, currency = f"test-{uuid7().hex[:20]}", books.currency()

    def add(rub: str, day: int) -> bool:
        micro_rub = money.micro_units(rub)
        return prices.add_rate(
            currency=currency, micro_rub=micro_rub, source=source, rate_date=date(2026, 11, day)
        )

    assert [add("95.1234", 20), add("96", 20), add("97", 19)] == [True, False, True]
    assert queries.current_rates()[currency].micro_rub == 95_123_400


@pytest.mark.parametrize(
    "columns",
    [
        {"tier_above_tokens": 1},
        {"tier_input": 1},
        dict.fromkeys(("tier_above_tokens", "tier_input", "tier_cached_input", "tier_cache_write"), 1),
        TIER | {"tier_above_tokens": 0},
        TIER | {"tier_output": 0},
        TIER | {"tier_cached_input": -1},
    ],
)
def test_database_refuses_half_a_tier(columns: dict[str, int]) -> None:
    facts: dict[str, Any] = {"currency": "RUB", "markup_bp": 10_000, "valid_from": clock.now(), "number": 1}
    row = facts | dict.fromkeys(("input", "cached_input", "cache_write", "output"), 1)

    with pytest.raises(IntegrityError, match="billing_price_tier_whole_and_above_zero"):
        PriceVersion.objects.create(sku=f"tests/{uuid7()}", **row, **columns)
    PriceVersion.objects.create(sku=f"tests/{uuid7()}", **row, **TIER)


def test_changed_spread_is_a_row_of_its_own(settings: Settings) -> None:
    currency = books.currency()

    def add() -> bool:
        return prices.add_rate(
            currency=currency, micro_rub=80_000_000, source="spread", rate_date=date(2026, 11, 20)
        )

    first = [add(), add()]
    settings.PLYRUM_FX_SPREAD_BP = 150
    second = [add(), add()]

    assert (first, second) == ([True, False], [True, False])
    newest = queries.current_rates()[currency]
    assert (newest.micro_rub, newest.spread_bp) == (80_000_000, 150)


@pytest.mark.parametrize("micro_rub", [0, -1])
def test_rate_that_is_none_is_refused(micro_rub: int) -> None:
    with pytest.raises(ValueError):
        prices.add_rate(currency="USD", micro_rub=micro_rub, source="test", rate_date=date(2026, 11, 20))
