"""What is wrong with a FineTuneJob that its user must put right, in one sentence.

The API server refuses most mistakes by schema and CEL, so that `--dry-run=server` shows them. What it cannot see is
checked here: numbers that are written as text, and paths that would leave their claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from pydantic import ValidationError

from anneal.api.finetunejob import FineTuneJob, FineTuneJobSpec
from anneal.api.references import parse
from anneal.kinds.contract import Object
from anneal.kinds.finetunejob import examples
from anneal.kinds.validation import complaint

ADVICE = "correct it and apply the object again"


def problem(obj: Object) -> str | None:
    """The first thing that is wrong with the object, with its field and what to do; None when it can be worked on."""
    try:
        job = FineTuneJob.model_validate(obj)
    except ValidationError as error:
        return f"{complaint(error)}; {ADVICE}"
    found = next(_problems(job.spec), None)
    return f"{found}; {ADVICE}" if found else None


def _problems(spec: FineTuneJobSpec) -> Iterator[str]:
    training, accelerator = spec.training, spec.resources.accelerator
    if training.learning_rate is not None and not 0 < Decimal(training.learning_rate) <= 1:
        yield (
            f"spec.training.learningRate is '{training.learning_rate}': it must be more than 0 and at most 1,"
            ' such as "2e-4"'
        )
    if not Decimal(training.max_grad_norm) > 0:
        yield f"spec.training.maxGradNorm is '{training.max_grad_norm}': it must be more than 0, such as \"1.0\""
    if not Decimal(training.weight_decay) <= 1:
        yield f"spec.training.weightDecay is '{training.weight_decay}': it must be from 0 to 1, such as \"0.01\""
    yield from examples.problems(spec.dataset)
    for field, quantity in (
        ("spec.resources.cpu", spec.resources.cpu),
        ("spec.resources.memory", spec.resources.memory),
        ("spec.resources.accelerator.minMemory", accelerator.min_memory if accelerator is not None else None),
        ("spec.workspace.size", spec.workspace.size),
    ):
        if quantity is not None and re.fullmatch(r"[0.]+\D*", quantity):
            yield f"{field} is '{quantity}': it must be more than 0"
    for field, uri in uris(spec):
        try:
            parse(uri)
        except ValueError as error:
            yield f"{field}: {error}"


def uris(spec: FineTuneJobSpec) -> tuple[tuple[str, str], ...]:
    """(field, URI) of every location that the spec names."""
    cache = (("spec.model.cache", spec.model.cache),) if spec.model.cache is not None else ()
    sources = ((f"{field}.uri", source.uri) for field, source in examples.sources(spec.dataset))
    mirror = (("spec.output.mirror.uri", spec.output.mirror.uri),) if spec.output.mirror is not None else ()
    return ("spec.model.uri", spec.model.uri), *cache, *sources, ("spec.output.uri", spec.output.uri), *mirror
