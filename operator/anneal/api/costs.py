"""What tokens and servers cost: shared by the evaluator, which keeps a budget and tells the report, and the operator,
which tells status. Own servers cost by the hour, hosted models by the query.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

from pydantic import Field

from anneal.api.model import ApiModel, Sentence
from anneal.api.subjects import BatchPrice, Price

_MILLION = Decimal(1_000_000)
_SMALLEST = Decimal("0.000001")


class Costs(ApiModel):
    """What was spent on the candidate so far, and what a query to it costs, in the currency of the spec's prices."""

    training: str | None = Field(
        default=None, max_length=24, description="Spent on training the candidate; absent when nobody knows."
    )
    evaluation: str | None = Field(
        default=None,
        max_length=24,
        description="Spent on hosted models and the judge by this evaluation; absent without a price.",
    )
    invested: str | None = Field(
        default=None, max_length=24, description="Both; absent when nobody knows what training cost."
    )
    queries_per_hour: int | None = Field(
        default=None,
        ge=1,
        description="Queries that one server answers in an hour at full load: with generation.concurrency of them under"
        " way at any time. Absent without spec.servingCostPerHour.",
    )
    per_query: str | None = Field(
        default=None,
        max_length=24,
        description="Price of one of these: spec.servingCostPerHour over queriesPerHour. With less traffic each costs"
        " more.",
    )


class CostBenefit(ApiModel):
    """The candidate against one hosted baseline, in money."""

    baseline: str = Field(max_length=40, description="Name of the hosted baseline.")
    per_query: str | None = Field(
        default=None, max_length=24, description="Mean price of one of its answers, by its list."
    )
    break_even_per_hour: int | None = Field(
        default=None,
        ge=0,
        description="Queries in an hour from which on the candidate costs less; absent when it never does. Out of reach"
        " of one server, and so of any number of them, where it is more than status.costs.queriesPerHour.",
    )
    saved_per_hour: str | None = Field(
        default=None, max_length=24, description="What one server saves in an hour at full load; absent if nothing."
    )
    payback_hours: str | None = Field(
        default=None,
        max_length=24,
        description="Hours of one server at full load until status.costs.invested is saved; absent if never, or when"
        " nobody knows what was invested.",
    )
    message: Sentence = Field(description="The comparison in one sentence.")


def costs_of(per_hour: str | None, queries_per_hour: int | None, training: str | None, evaluation: str | None) -> Costs:
    """From the price of a server's hour and what it answers in it at full load, and what was spent.

    `training` may name its currency, such as "3.20 USD", which is taken for that of the prices.
    """
    trained = _amount_in(training)
    own = None if per_hour is None or queries_per_hour is None else Decimal(per_hour) / queries_per_hour
    return Costs(
        training=None if trained is None else amount(trained),
        evaluation=evaluation,
        invested=None if trained is None else amount(trained + Decimal(evaluation or 0)),
        queries_per_hour=None if own is None else queries_per_hour,
        per_query=None if own is None else amount(own),
    )


def cost_benefit(per_hour: str, costs: Costs, baseline: str, per_query: str) -> CostBenefit:
    """The candidate, served for `per_hour`, against a hosted model that takes `per_query` for an answer."""
    found = CostBenefit(
        baseline=baseline,
        per_query=per_query,
        break_even_per_hour=break_even(Decimal(per_hour), Decimal(per_query)),
        saved_per_hour=_saved(Decimal(per_hour), costs, Decimal(per_query)),
        message="",
    )
    hours = None
    if found.saved_per_hour is not None and costs.invested is not None:
        hours = f"{Decimal(costs.invested) / Decimal(found.saved_per_hour):.1f}"
    found = found.model_copy(update={"payback_hours": hours})
    return found.model_copy(update={"message": _sentence(per_hour, costs, found)})


def _saved(per_hour: Decimal, costs: Costs, per_query: Decimal) -> str | None:
    """In an hour at full load; None if nothing, or if nobody knows what a server answers in it."""
    saved = per_query * (costs.queries_per_hour or 0) - per_hour
    return amount(saved) if saved >= _SMALLEST else None


def _sentence(per_hour: str, costs: Costs, found: CostBenefit) -> str:
    queries, most = found.break_even_per_hour, costs.queries_per_hour
    if queries is None:
        return f"{found.baseline} costs nothing, so serving the candidate never costs less."
    said = f"Serving the candidate costs {per_hour} an hour and a query to {found.baseline} {found.per_query}: "
    if most is None:
        return f"{said}from {queries} queries an hour on, the candidate costs less, if its server can answer so many."
    if found.saved_per_hour is None:
        return f"{said}a server would have to answer {queries} an hour to cost less, and answers {most} at most."
    said += f"from {queries} queries an hour on, the candidate costs less. At full load, {most} an hour, a query to it"
    said += f" costs {costs.per_query} and {found.saved_per_hour} are saved in an hour"
    if found.payback_hours is None:
        return f"{said}."
    return f"{said}: the {costs.invested} of training and evaluation in {found.payback_hours} hours."


def _amount_in(text: str | None) -> Decimal | None:
    """The amount in a text such as "3.20 USD"; None where there is none."""
    try:
        found = Decimal((text or "").partition(" ")[0])
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


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
