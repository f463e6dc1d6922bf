"""The Python backend of Triton for chat models: it reads requests, decodes them as one batch, answers each by itself.

Triton's dynamic batcher hands over whatever has queued up while the last batch was decoded. A request that cannot be
answered gets its own error and leaves the others of its batch alone.
"""

from __future__ import annotations

import gc
import json
import locale
import sys
from pathlib import Path
from typing import Any

# Triton's stub starts Python in the C locale, where text files are read as ASCII; chat templates are UTF-8.
locale.setlocale(locale.LC_ALL, "C.UTF-8")

# What is imported stays: to look through it for garbage again and again is a fifth of the processor time of a start.
gc.disable()
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers.generation.utils  # noqa: E402 - as the next line, else imported by loading a model
import transformers.modeling_layers  # noqa: E402, F401
import triton_python_backend_utils as pb_utils  # noqa: E402

from anneal_serving.loading import Answer, ChatModel, load  # noqa: E402
from anneal_serving.metrics import Metrics  # noqa: E402
from anneal_serving.probe import heartbeat_file  # noqa: E402
from anneal_serving.questions import REFUSAL, BadRequestError, Question, read_questions  # noqa: E402
from anneal_serving.repository import INPUTS  # noqa: E402
from anneal_serving.termination import failed, write_result  # noqa: E402

gc.freeze()
gc.enable()


class TritonPythonModel:
    """One served model. Triton calls `initialize` once and `execute` with one batch at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; a failure is told to the kubelet first, since Triton's own last words are not about it."""
        self.name = args["model_name"]
        try:
            self.chat = self._load(args)
        except Exception as error:
            message = f"Model {self.name} cannot be loaded: {error}"
            write_result(failed("ModelLoadFailed", message, retryable=True))
            raise
        self.heartbeat = heartbeat_file(self.name)
        self.metrics = Metrics(pb_utils, self.name)

    def _load(self, args: dict[str, str]) -> ChatModel:
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        torch.set_num_threads(int(settings["threads"]))
        on_gpu = args["model_instance_kind"] == "GPU"
        return load(
            base=Path(settings["base"]),
            adapter=Path(settings["adapter"]) if settings["adapter"] else None,
            tokenizer=Path(settings["tokenizer"]),
            device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        started = self.metrics.now()
        rows: list[tuple[int, Question, list[int]]] = []
        responses: list[Any] = [None] * len(requests)
        for index, request in enumerate(requests):
            try:
                rows += [(index, question, self.chat.render(question)) for question in _questions(request)]
            except BadRequestError as error:
                responses[index] = _refusal(f"{REFUSAL}{error}", pb_utils.TritonError.INVALID_ARG)
        try:
            answers = self._answer(rows)
        except Exception as error:
            print(f"decoding a batch of {len(rows)} rows failed: {error!r}", file=sys.stderr, flush=True)
            failure = f"the model failed while decoding: {error}"
            responses = [
                _refusal(failure, pb_utils.TritonError.INTERNAL) if response is None else response
                for response in responses
            ]
        else:
            answered: dict[int, list[Answer]] = {}
            for (index, _, _), answer in zip(rows, answers, strict=True):
                answered.setdefault(index, []).append(answer)
            for index, own in answered.items():
                responses[index] = _response(own)
            self.metrics.count(answers, started)
        self.metrics.refuse(sum(1 for response in responses if response.has_error()))
        return responses

    def _answer(self, rows: list[tuple[int, Question, list[int]]]) -> list[Answer]:
        if not rows:
            return []
        self.heartbeat.touch()
        prompts = [prompt for _, _, prompt in rows]
        return self.chat.answer(prompts, [q.max_tokens for _, q, _ in rows], self.heartbeat.touch)


def _questions(request: Any) -> list[Question]:
    tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name, _ in INPUTS}
    return read_questions({name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None})


def _refusal(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _response(answers: list[Answer]) -> Any:
    """The rows of one request, every output of shape [rows, 1]."""
    columns = {
        "text_output": np.array([[a.text.encode()] for a in answers], dtype=object),
        "finish_reason": np.array([[a.finish_reason.encode()] for a in answers], dtype=object),
        "num_input_tokens": np.array([[a.input_tokens] for a in answers], dtype=np.int32),
        "num_output_tokens": np.array([[a.output_tokens] for a in answers], dtype=np.int32),
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, column) for name, column in columns.items()])
