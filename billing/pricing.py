"""Pure arithmetic of a price: units, price version and rate to micro-RUB, in integers, rounded once.

Called for estimates, holds and charges alike, so that what was shown and what is taken come from one place.
"""

from dataclasses import dataclass

from billing.shapes import MICRO_PER_RUB

TOKENS_PER_PRICE = 1_000_000
BASIS_POINTS = 10_000


@dataclass(frozen=True)
class Usage:
    """Tokens as providers count them: cached and cache-write are parts of input, reasoning of output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0

    def counts(self) -> dict[str, int]:
        """By the names that they have in columns, usage rows and JSON."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "images": self.images,
        }


@dataclass(frozen=True)
class Tier:
    """Prices of a whole request, its answer included, when its input is longer than `above_tokens`."""

    above_tokens: int
    input: int
    cached_input: int
    cache_write: int
    output: int


@dataclass(frozen=True)
class Price:
    """A price version with its rate, frozen on a run: micro-units of `currency` per million tokens."""

    version_id: int
    currency: str
    input: int
    cached_input: int
    cache_write: int
    output: int
    image: int
    markup_bp: int
    fx_rate_id: int | None
    fx_micro_rub: int  # micro-RUB for one unit of the currency; 1 000 000 for roubles
    fx_spread_bp: int  # what exchange costs on top of the rate; 0 for roubles
    tier: Tier | None = None
    minimum_micro_rub: int = 0  # what an answer costs at least, unless it costs nothing


def cost(usage: Usage, price: Price) -> int:
    """Micro-RUB for `usage`, rounded up once at the end; not below the minimum unless it is nothing.

    Source: provider guide 12.2, with the spread as a term of its own (ledger guide 2):
    ceil(sum(tokens x price) x fx x (1 + spread) x markup).
    """
    parts = usage.cached_input_tokens + usage.cache_write_tokens
    uncached = max(0, usage.input_tokens - parts)
    tier = _tier_of(uncached + parts, price)
    exact = (
        uncached * tier.input
        + usage.cached_input_tokens * tier.cached_input
        + usage.cache_write_tokens * tier.cache_write
        + usage.output_tokens * tier.output
        + usage.images * price.image * TOKENS_PER_PRICE
    )
    return _at_least_minimum(_in_rub(exact, TOKENS_PER_PRICE, price), price)


def per_million(units_price: int, price: Price) -> int:
    """What the customer pays for a million tokens of one direction, in micro-RUB, rounded up."""
    return _in_rub(units_price, 1, price)


def worst_case(*, input_bound: int, max_output_tokens: int, price: Price) -> int:
    """The most a call can cost: every input token at the dearest input price, all of the output limit.

    A bound above a tier's threshold says only that the tier may be reached, so the dearer of both counts.
    """
    exact = _dearest(price, input_bound, max_output_tokens)
    tier = _tier_of(input_bound, price)
    if tier is not price:
        exact = max(exact, _dearest(tier, input_bound, max_output_tokens))
    return _at_least_minimum(_in_rub(exact, TOKENS_PER_PRICE, price), price)


def with_margin(worst_case_micro_rub: int) -> int:
    """The hold for a worst case: 2 % more, at least one kopeck more (orchestration guide 10.3)."""
    return worst_case_micro_rub + max(_ceil(worst_case_micro_rub * 2, 100), 10_000)


def _tier_of(input_tokens: int, price: Price) -> Price | Tier:
    """The prices for an input of this length. Source: provider guide 12.2."""
    tier = price.tier
    return tier if tier is not None and input_tokens > tier.above_tokens else price


def _dearest(tier: Price | Tier, input_tokens: int, output_tokens: int) -> int:
    return input_tokens * max(tier.input, tier.cache_write) + output_tokens * tier.output


def _at_least_minimum(micro_rub: int, price: Price) -> int:
    return max(micro_rub, price.minimum_micro_rub) if micro_rub else 0


def _in_rub(exact: int, per: int, price: Price) -> int:
    """Micro-RUB for `exact` / `per` micro-units of the currency: the one formula, the one rounding."""
    return _ceil(
        exact * price.fx_micro_rub * (BASIS_POINTS + price.fx_spread_bp) * price.markup_bp,
        per * MICRO_PER_RUB * BASIS_POINTS * BASIS_POINTS,
    )


def _ceil(value: int, by: int) -> int:
    return -(-value // by)
