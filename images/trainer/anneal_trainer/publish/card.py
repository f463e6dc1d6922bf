"""The model card and the report that lie beside an artifact: where a model comes from, for people and for programs."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anneal.api.artifacts import Manifest
from anneal.api.runs import PublishRun
from anneal_trainer.fit.schedule import learning_rate
from anneal_trainer.fit.state import Point, TrainingState
from anneal_trainer.model import published_name
from anneal_trainer.workspace import Workspace

_CURVE_ROWS = 10
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


_LOADING = {
    "Adapter": """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), ARTIFACT)
tokenizer = AutoTokenizer.from_pretrained(ARTIFACT)
```
`BASE` must be the base model with the digest above.""",
    "Model": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(ARTIFACT)
tokenizer = AutoTokenizer.from_pretrained(ARTIFACT)
```
It stands alone: the base model is not needed.""",
}


def report(run: PublishRun, manifest: Manifest, state: TrainingState, workspace: Workspace) -> dict[str, Any]:
    """Everything that is known of the training, as JSON. `history` tells of stretches of steps, by the last of each."""
    return {
        "object": run.object.to_json(),
        "digest": manifest.digest,
        "model": {"uri": run.model.uri, "digest": run.base_digest, "chatTemplateHash": run.chat_template_hash},
        "data": json.loads(workspace.report.read_bytes()) if workspace.report.exists() else None,
        "heldOutDigest": run.test_digest,
        "method": run.method.to_json(),
        "contents": run.contents,
        "training": run.training.to_json(),
        "trained": run.trained.to_json(),
        "history": [_told(run, point) for point in state.curve],
        "packages": _versions(),
    }


def _told(run: PublishRun, point: Point) -> dict[str, float]:
    told = {
        "step": point.step,
        "loss": point.mean,
        "learningRate": learning_rate(run.training, point.step, run.trained.steps),
        "tokensPerSecond": point.tokens_per_second,
        "peakMemoryBytes": point.peak_bytes,
    }
    if point.mfu is not None:
        told["mfu"] = point.mfu
    return {name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in told.items()}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # publish itself needs none of them
            continue
    return found


def text(run: PublishRun, manifest: Manifest, state: TrainingState) -> str:
    """The model card: Markdown with the metadata block that model hubs read."""
    trained, counts = run.trained, run.counts
    return f"""---
base_model: {json.dumps(published_name(run.model.uri)[0])}
library_name: {"peft" if run.contents == "Adapter" else "transformers"}
pipeline_tag: text-generation
tags: [{next(iter(run.method.to_json()))}, anneal]
---
# {run.object.name}

{_what(run)}, trained by FineTuneJob `{run.object.namespace}/{run.object.name}`.

| What | |
|---|---|
| Digest | `{manifest.digest}` |
| Base model | `{run.model.uri}`, `{run.base_digest}` |
| Chat template | `{run.chat_template_hash}` |
| Data | {counts.read} rows read, {counts.invalid} invalid, {counts.train} trained on, {counts.held_out} held out |
| Held-out rows | `{run.test_digest}`, in `evaluation/held-out.jsonl` |
| Training | {trained.steps} steps, {trained.tokens} tokens, {trained.seconds} s |
{_validation(run)}| Loss at the end | {trained.loss} per answer token, over the last steps |

The loss says how well the training rows were learned, not how good the model is: that is what an Evaluation on the
held-out rows is for.

## Loss
| Up to step | Mean loss per answer token |
|---:|---:|
{_curve(state.curve)}

## Settings
```json
{json.dumps({**run.method.to_json(), "training": run.training.to_json()}, indent=2, sort_keys=True)}
```

## How to load it
{_LOADING[run.contents]}
The tokenizer in this folder carries the chat template that the rows were written with.
"""


def _validation(run: PublishRun) -> str:
    trained = run.trained
    if trained.best_step is None:
        return ""
    return (
        f"| Validation | step {trained.best_step} had the lowest loss, {trained.validation_loss}, and is this one |\n"
    )


def _what(run: PublishRun) -> str:
    if run.contents == "Adapter":
        return f"A {run.method.title} adapter on `{run.model.uri}`"
    if run.method.adapter is None:
        return f"All weights of `{run.model.uri}`"
    return f"`{run.model.uri}` with a {run.method.title} adapter merged in"


def _curve(points: list[Point]) -> str:
    """The loss over the run in at most ten rows of a table."""
    size = max(1, -(-len(points) // _CURVE_ROWS))
    rows = []
    for start in range(0, len(points), size):
        joined = points[start]
        for point in points[start + 1 : start + size]:
            joined = joined.joined(point)
        rows.append(f"| {joined.step} | {joined.mean:.4f} |")
    return "\n".join(rows)
