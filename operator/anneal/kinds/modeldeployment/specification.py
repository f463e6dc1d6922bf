"""What is wrong with a ModelDeployment that its user must put right, in one sentence.

The API server refuses all of this by schema and CEL. What it let in before a rule was there must still end in a
sentence, never in an exception.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from anneal.api.modeldeployment import RUNTIMES, ModelDeployment, ModelDeploymentSpec
from anneal.kinds.contract import Object
from anneal.kinds.validation import complaint


def problem(obj: Object) -> str | None:
    """The first thing that is wrong with the spec; None when it can be worked on."""
    try:
        spec = ModelDeployment.model_validate({"spec": obj.get("spec")}).spec
    except ValidationError as error:
        return complaint(error)
    return next(_problems(spec), None)


def _problems(spec: ModelDeploymentSpec) -> Iterator[str]:
    if (spec.model.fine_tune_job_ref is None) == (spec.model.selector is None):
        yield "spec.model: exactly one of fineTuneJobRef, selector must be set"
    if spec.triton is None:
        yield f"spec: exactly one of {', '.join(RUNTIMES)} must be set"
    if spec.model.selector is not None and spec.gate.evaluation_ref is not None:
        yield "spec.gate.evaluationRef names one Evaluation and spec.model.selector follows many jobs; set only one"
