"""What an Evaluation could show at best, from the number of its held-out rows: known before a model is trained.

A gate that the rows cannot decide costs the hours of an accelerator and says "undecided" at the end. What is asked
here is little, since nothing was measured yet: for a demand, that a candidate without a mistake passes; for a
percentile, that so many answers bound it at all; for a margin, that a candidate as good as its baseline passes in 80 %
of evaluations, where the two differ on a tenth of the rows (when they differ on more, more rows are needed); for an
effect, that some difference passes; for several claims of which any may hold, that much of one of them, at the level
that is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from anneal.api.evaluation import CategoryRows, EvaluationSpec
from anneal.api.gates import Gate
from anneal.api.power import minimum_detectable_effect, rows_needed, shared
from anneal.api.verdicts import bound, claims_of, gate_name, is_ceiling

#: Categories that a FineTuneJob's status lists at most, and how long a name in it can be.
LISTED, NAME_LENGTH = 6, 24
#: Share of rows on which two models of much the same quality differ.
LEAST_DISCORDANCE = 0.1


def held_out_rows(job: Mapping[str, Any]) -> int | None:
    """Held-out rows of a FineTuneJob: counted once its data is prepared, before that as its spec wants them."""
    status, spec = job.get("status") or {}, job.get("spec") or {}
    counted = ((status.get("dataset") or {}).get("counts") or {}).get("heldOut")
    if counted is None:
        split = (spec.get("dataset") or {}).get("split") or {}
        counted = split.get("heldOut", None if split.get("heldOutSource") else 150)
    return counted if isinstance(counted, int) else None


def held_out_categories(spec: EvaluationSpec, job: Mapping[str, Any]) -> list[CategoryRows]:
    """Held-out rows by category, as far as the FineTuneJob tells, of the categories that metrics of `spec` are about.

    It tells the six largest, and cuts long names; where there are fewer than six, there are no others.
    """
    told = ((job.get("status") or {}).get("dataset") or {}).get("categories") or []
    counted = {c["name"]: c["heldOut"] for c in told}
    wanted = {name for metric in spec.metrics if metric.only for name in metric.only.categories}
    known = (name for name in sorted(wanted) if len(name) < NAME_LENGTH and (name in counted or 0 < len(told) < LISTED))
    return [CategoryRows(name=name, rows=counted.get(name, 0)) for name in known]


def shortage(spec: EvaluationSpec, rows: int, categories: Mapping[str, int] = MappingProxyType({})) -> str | None:
    """Which gates so many rows cannot decide, and how many could; None when there is no such gate.

    `categories` are the rows by category where they are known; a metric of others has `rows` at most.
    """
    confidence = float(spec.statistics.confidence)
    short = []
    for gate in spec.gates:
        claims = claims_of(gate)
        level = shared(confidence, len(claims))
        found = [_lacking(claim, _rows_of(spec, claim, rows, categories), level) for claim in claims]
        lacking = [lack for lack in found if lack is not None]
        if len(lacking) == len(claims):
            needed, there = min(lacking, key=lambda lack: lack[0] - lack[1])
            of_it = f" of its categories and has {there}" if there < rows else ""
            short.append(f"{gate_name(gate)} needs about {needed}{of_it}")
    return f"{rows} held-out rows are too few to decide: {'; '.join(short)}." if short else None


def is_told(spec: EvaluationSpec, categories: Mapping[str, int]) -> bool:
    """Whether it is known how many rows each gate has."""
    only = {metric.name: metric.only for metric in spec.metrics}
    claims = (claim for gate in spec.gates for claim in claims_of(gate))
    chosen = (only[claim.metric] for claim in claims if claim.metric is not None)
    return all(name in categories for some in chosen if some is not None for name in some.categories)


def _rows_of(spec: EvaluationSpec, gate: Gate, rows: int, categories: Mapping[str, int]) -> int:
    only = next((metric.only for metric in spec.metrics if metric.name == gate.metric), None)
    if only is None or not all(name in categories for name in only.categories):
        return rows
    return sum(categories[name] for name in set(only.categories))


def _lacking(gate: Gate, there: int, confidence: float) -> tuple[int, int] | None:
    """(rows that the gate needs, rows that there are for it); None when they suffice or no number would."""
    needed = _rows_for(gate, there, confidence)
    return None if needed is None or needed <= there else (needed, there)


def _rows_for(gate: Gate, rows: int, confidence: float) -> int | None:
    """Rows that the gate needs; None when no number helps or these suffice."""
    if gate.cost is not None:
        return None
    demanded = bound(gate)
    if gate.absolute is not None or gate.latency is not None:
        # All n right have the exact lower bound ((1 − confidence)/2)^(1/n); so has the share below the slowest of n.
        share = gate.latency.percentile / 100 if gate.latency else 1 - demanded if is_ceiling(gate) else demanded
        return None if not 0 < share < 1 else math.ceil(math.log((1 - confidence) / 2) / math.log(share))
    if gate.non_inferiority is not None:
        return rows_needed(-demanded, LEAST_DISCORDANCE, LEAST_DISCORDANCE, confidence)
    discordance = max(LEAST_DISCORDANCE, demanded)
    if demanded + minimum_detectable_effect(discordance, rows, confidence) < 1:
        return None
    return rows_needed(1 - demanded, discordance, discordance, confidence)
