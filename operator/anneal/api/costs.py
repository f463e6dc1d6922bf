"""What tokens cost: shared by the evaluator, which keeps a budget, and the operator, which tells the price."""

from __future__ import annotations

from decimal import Decimal

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


def amount(value: Decimal) -> str:
    """Money in results: six decimals, since one answer may cost less than a thousandth."""
    return f"{value.quantize(_SMALLEST):f}"
