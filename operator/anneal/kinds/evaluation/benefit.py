"""Whether serving a model of one's own is worth it: own servers cost by the hour, hosted models by the query.

The two meet where so many queries come in an hour that they cost as much hosted: price of the hour / price of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from anneal.api.costs import CostBenefit, break_even
from anneal.api.subjects import ModelResult


def cost_benefit(per_hour: str | None, models: Sequence[ModelResult]) -> list[CostBenefit]:
    """The candidate, served for `per_hour`, against each hosted model with a price; empty without prices."""
    if per_hour is None:
        return []
    return [_against(Decimal(per_hour), m.name, Decimal(m.cost_per_query)) for m in models if m.cost_per_query]


def _against(per_hour: Decimal, baseline: str, per_query: Decimal) -> CostBenefit:
    if (queries := break_even(per_hour, per_query)) is None:
        said = f"{baseline} costs nothing, so serving the candidate never costs less."
        return CostBenefit(baseline=baseline, message=said)
    said = (
        f"Serving the candidate costs {per_hour} an hour and a query to {baseline} {per_query}: from {queries} queries"
        " an hour on, the candidate costs less, if its server can answer so many."
    )
    return CostBenefit(baseline=baseline, break_even_per_hour=queries, message=said)
