"""What an Evaluation could show at best, from the number of its held-out rows: known before a model is trained.

A gate that the rows cannot decide costs the hours of an accelerator and says "undecided" at the end. What is asked
here is little, since nothing was measured yet: for a demand, that a candidate without a mistake passes; for a
percentile, that so many answers bound it at all; for a margin, that a candidate as good as its baseline passes in 80 %
of evaluations, where the two differ on a tenth of the rows (when they differ on more, more rows are needed); for an
effect, that some difference passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anneal.api.evaluation import EvaluationSpec
from anneal.api.gates import Gate
from anneal.api.power import minimum_detectable_effect, rows_needed
from anneal.api.verdicts import bound, gate_name, is_ceiling

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


def shortage(spec: EvaluationSpec, rows: int) -> str | None:
    """Which gates so many rows cannot decide, and how many could; None when there is no such gate."""
    confidence = float(spec.statistics.confidence)
    short = [
        f"{gate_name(gate)} needs about {needed}"
        for gate in spec.gates
        if (needed := _rows_for(gate, rows, confidence)) is not None and needed > rows
    ]
    return f"{rows} held-out rows are too few to decide: {'; '.join(short)}." if short else None


def _rows_for(gate: Gate, rows: int, confidence: float) -> int | None:
    """Rows that the gate needs; None when no number helps or these suffice."""
    demanded = bound(gate)
    if gate.cost is not None:
        return None
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
