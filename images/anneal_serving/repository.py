"""Triton's model repository as text: one folder per model, its config.pbtxt and the three-line model.py.

The interface of a served model is fixed here: `text_input` or `messages` in, `text_output` out, not decoupled, so
that `infer` of every Triton client and `POST /v2/models/<name>/generate` both work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

#: Tensor names and Triton types; every one has shape [1] behind the batch dimension.
INPUTS = (("text_input", "TYPE_STRING"), ("messages", "TYPE_STRING"), ("max_tokens", "TYPE_INT32"))
OUTPUTS = (
    ("text_output", "TYPE_STRING"),
    ("finish_reason", "TYPE_STRING"),
    ("num_input_tokens", "TYPE_INT32"),
    ("num_output_tokens", "TYPE_INT32"),
)
#: How long a request may wait for others to share its batch, in microseconds: short beside one decoding step.
QUEUE_DELAY_US = 5000

MODEL_PY = '''"""What Triton loads; the code is in the package."""

from anneal_serving.backend import TritonPythonModel  # noqa: F401
'''


@dataclass(frozen=True)
class Settings:
    """What the backend is told about one model, as `parameters` of its config.pbtxt."""

    base: str
    """Directory of the base model."""
    adapter: str
    """Directory of the artifact on top; empty for the base alone."""
    tokenizer: str
    """Directory whose tokenizer and chat template render the prompts."""
    threads: int
    """CPU threads of this model; models of one pod share its cores."""


def write_model(repository: Path, name: str, settings: Settings, max_batch_size: int, gpu: int | None) -> None:
    """The folder of one model: `<repository>/<name>/config.pbtxt` and `1/model.py`."""
    version = repository / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(config_text(settings, max_batch_size, gpu), encoding="utf-8")
    (version / "model.py").write_text(MODEL_PY, encoding="utf-8")


def config_text(settings: Settings, max_batch_size: int, gpu: int | None) -> str:
    """config.pbtxt of one model, on GPU number `gpu` or on CPU."""
    inputs = ",\n".join(f'  {{ name: "{n}" data_type: {t} dims: [ 1 ] optional: true }}' for n, t in INPUTS)
    outputs = ",\n".join(f'  {{ name: "{n}" data_type: {t} dims: [ 1 ] }}' for n, t in OUTPUTS)
    parameters = "\n".join(
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(str(value))} }} }}"
        for key, value in vars(settings).items()
    )
    where = "kind: KIND_CPU" if gpu is None else f"kind: KIND_GPU gpus: [ {gpu} ]"
    return (
        f'backend: "python"\nmax_batch_size: {max_batch_size}\n'
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}\n"
        f"model_transaction_policy {{ decoupled: false }}\n"
        f"input [\n{inputs}\n]\noutput [\n{outputs}\n]\n"
        f"instance_group [ {{ count: 1 {where} }} ]\n{parameters}\n"
    )


def _quoted(text: str) -> str:
    """A protobuf text string; JSON's escapes are a subset of its own."""
    return json.dumps(text, ensure_ascii=False)
