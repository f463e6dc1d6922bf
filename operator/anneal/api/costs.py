"""What tokens cost: shared by the evaluator, which keeps a budget, and the operator, which tells the price."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from pydantic import Field

from anneal.api.model import ApiModel, Sentence
from anneal.api.subjects import BatchPrice, Price

_MILLION = Decimal(1_000_000)
_SMALLEST = Decimal("0.000001")


class CostBenefit(ApiModel):
    """The candidate against one hosted baseline, in money."""

    baseline: str = Field(max_length=40, description="Name of the hosted baseline.")
    break_even_per_hour: int | None = Field(
        default=None,
        ge=0,
        description="Queries in an hour from which on the candidate costs less; absent when it never does.",
    )
    message: Sentence = Field(description="The comparison in one sentence.")


def price_of(price: Price | BatchPrice, input_tokens: int, output_tokens: int) -> Decimal:
    """Price of so many tokens, in the currency of `price`."""
    per_input, per_output = Decimal(price.input_per_million), Decimal(price.output_per_million)
    return (per_input * input_tokens + per_output * output_tokens) / _MILLION


def price_of_a_query(price: Price | None, input_tokens: int, output_tokens: int, queries: int) -> str | None:
    """What one of so many queries cost on average, as results tell it; None without a price or a query."""
    if price is None or queries == 0:
        return None
    return amount(price_of(price, input_tokens, output_tokens) / queries)


def break_even(per_hour: Decimal, per_query: Decimal) -> int | None:
    """Queries in an hour that cost as much hosted as a server of one's own does in it; None where hosted is free."""
    return int((per_hour / per_query).to_integral_value(ROUND_CEILING)) if per_query else None


def amount(value: Decimal) -> str:
    """Money in results: six decimals, since one answer may cost less than a thousandth."""
    return f"{value.quantize(_SMALLEST):f}"
