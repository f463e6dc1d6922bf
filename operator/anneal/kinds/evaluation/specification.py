"""What is wrong with an Evaluation that its user must put right, in one sentence.

The API server refuses all of this by schema and CEL. What it let in before a rule was there must still end in a
sentence, never in an exception.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from anneal.api.evaluation import CANDIDATE, Evaluation, EvaluationSpec
from anneal.api.verdicts import baseline_of
from anneal.kinds.contract import Object
from anneal.kinds.validation import complaint


def problem(obj: Object) -> str | None:
    """The first thing that is wrong with the spec, with what to do; None when it can be worked on."""
    try:
        spec = Evaluation.model_validate({"spec": obj.get("spec")}).spec
    except ValidationError as error:
        return complaint(error)
    return next(_problems(spec), None)


def _problems(spec: EvaluationSpec) -> Iterator[str]:
    metrics, baselines = {m.name for m in spec.metrics}, {b.name for b in spec.baselines}
    if CANDIDATE in baselines:
        yield f"spec.baselines: '{CANDIDATE}' is the model under judgement; give the baseline another name"
    for i, gate in enumerate(spec.gates):
        if gate.metric not in metrics:
            yield f"spec.gates[{i}].metric: no metric is named '{gate.metric}'; spec.metrics has {_names(metrics)}"
        baseline = baseline_of(gate)
        if baseline is not None and baseline not in baselines:
            yield f"spec.gates[{i}]: no baseline is named '{baseline}'; spec.baselines has {_names(baselines)}"
        if sum(test is not None for test in (gate.absolute, gate.superiority, gate.non_inferiority)) != 1:
            yield f"spec.gates[{i}]: exactly one of absolute, superiority, nonInferiority must be set"


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
