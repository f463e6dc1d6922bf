"""`python vllm_families.py TASKS`, in vLLM's environment: log-probabilities of texts under bases and their adapters.

One process for all families, since importing vLLM takes longer than all of them. TASKS is a JSON list of objects with
`model` (directory), `adapters` (names to directories, and to null for the model alone) and `tokens` (of one text); the
answer, on the last line of the output, is a list of objects with a list for each name: natural logarithms of the
probability of each token but the first.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.lora.request import LoRARequest

LORA: dict[str, Any] = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8}
#: As the pod of a ModelDeployment is told (anneal_serving.vllm).
OPTIONS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "load_format": "safetensors",
    "dtype": "float32",
    "enforce_eager": True,
    "language_model_only": True,
    "kv_cache_memory_bytes": 32 * 1024 * 1024,
    "distributed_executor_backend": "uni",
}


def main(tasks: Path) -> None:
    print(json.dumps([_probabilities(task) for task in json.loads(tasks.read_text())]), flush=True)


def _probabilities(task: dict[str, Any]) -> dict[str, list[float]]:
    adapters: dict[str, str | None] = task["adapters"]
    model = LLM(model=task["model"], **OPTIONS, **(LORA if any(adapters.values()) else {}))
    asked = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    prompt = {"prompt_token_ids": task["tokens"]}
    found = {}
    # One at a time: with an adapter, vLLM on CPU fails on a batch that wants the probabilities of its prompts.
    for name, path in adapters.items():
        adapter = LoRARequest(name, 1, path) if path else None
        (answer,) = model.generate([prompt], asked, lora_request=adapter, use_tqdm=False)
        steps = zip(task["tokens"][1:], answer.prompt_logprobs[1:], strict=True)
        found[name] = [step[token].logprob for token, step in steps]
    del model
    gc.collect()
    cleanup_dist_env_and_memory()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
