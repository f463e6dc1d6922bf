"""What vLLM is told about the models of a run: one file of its own options, which are those of its command line.

One server holds one base model, the adapters beside it, and one chat template. A run that needs more is refused before
the server is started, in a sentence; so is an adapter that vLLM would refuse minutes later, in its log, and one that it
would load and never apply, so that a base would be judged and served in the place of the tuned model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anneal.api.artifacts import read_manifest
from anneal.api.quantities import bytes_of
from anneal.api.runs import VLLM_FILE, ServedModel, ServeRun
from anneal.api.runtimes import VLLM
from anneal_serving.parts import parts_of, tokenizer_of

ADAPTER_CONFIG = "adapter_config.json"
#: Ranks that vLLM makes room for; an adapter is padded to the next of them.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: On CPU, where vLLM itself would take most of the node's memory.
CACHE_MEMORY = "1Gi"
#: Makes vLLM choose the longest that its cache can hold, up to what the model reads.
LONGEST = -1
#: How configurations of models call the number of their routed experts.
EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts")
_OTHERWISE = "Serve them with Triton (triton: {}), or leave one of them out."
_ADVICE = "Train with output.merge: true, which needs no adapter, or serve it with Triton (triton: {})."


class UnservableError(ValueError):
    """vLLM cannot serve these models; the message says why and what to do."""


def write_configuration(run: ServeRun, settings: VLLM) -> None:
    """The file of options in the repository of `run`. Raises UnservableError."""
    # JSON is YAML too.
    text = json.dumps(configuration(run, settings), indent=1)
    (Path(run.repository) / Path(VLLM_FILE).name).write_text(text, encoding="utf-8")


def configuration(run: ServeRun, settings: VLLM) -> dict[str, Any]:
    """vLLM's options by their long names. Raises UnservableError."""
    parts = {model.name: parts_of(model) for model in run.models}
    adapters = {name: adapter for name, (_, adapter) in parts.items() if adapter}
    options: dict[str, Any] = {
        "model": _base(parts),
        "served-model-name": [name for name in parts if name not in adapters] or [f"base-of-{run.models[0].name}"],
        "tokenizer": _tokenizer(run.models),
        # As transformers reads it: the template is the one that was trained with, weights are never unpickled.
        "tokenizer-mode": "hf",
        "config-format": "hf",
        "load-format": "safetensors",
        "max-model-len": settings.max_model_length or LONGEST,
        # A question may not make the server fetch a picture from an address of its choice.
        "language-model-only": True,
        "disable-access-log-for-endpoints": "/health,/metrics",
    }
    if adapters:
        _check_base(Path(options["model"]), next(iter(adapters)), run.accelerators)
    return {**options, **_hardware(run.accelerators, settings), **_lora(adapters)}


def _base(parts: dict[str, tuple[str, str]]) -> str:
    """The model that all others are, or are adapters on."""
    first, (base, _) = next(iter(parts.items()))
    for name, (other, _) in parts.items():
        if other != base:
            raise UnservableError(
                f"vLLM holds one base model, but {first} needs {base} and {name} needs {other}. {_OTHERWISE}"
            )
    return base


def _check_base(base: Path, name: str, accelerators: int) -> None:
    """Raises UnservableError where vLLM 0.32 does not start with adapters on this base, or applies none of them."""
    config = json.loads((base / "config.json").read_bytes())
    if config.get("model_type") == "llama4":
        raise UnservableError(
            f"{name} is an adapter on a Llama 4 with a vision tower, whose layers vLLM calls by other names: it would"
            f" load the adapter and answer as the base. {_ADVICE}"
        )
    language = {**config, **(config.get("text_config") or {})}
    if not accelerators and any(language.get(key) for key in EXPERTS):
        raise UnservableError(
            f"{name} is an adapter on a model with experts, with which vLLM does not start on CPU. {_ADVICE}"
        )


def _tokenizer(models: list[ServedModel]) -> str:
    """The one that renders all prompts."""
    tuned = {m.name: read_manifest(Path(m.adapter.path)).chat_template_hash for m in models if m.adapter is not None}
    for name, template in tuned.items():
        if template != next(iter(tuned.values())):
            raise UnservableError(
                f"vLLM asks all models by one chat template, but {next(iter(tuned))} and {name} were tuned with"
                f" different ones. {_OTHERWISE}"
            )
    return tokenizer_of(models[0], models)


def _hardware(accelerators: int, settings: VLLM) -> dict[str, Any]:
    """Precision as Triton's: fp32 on CPU, where it is both exact and hardly slower; bf16 on accelerators."""
    cache = settings.cache_memory or (None if accelerators else CACHE_MEMORY)
    options: dict[str, Any] = {"kv-cache-memory-bytes": bytes_of(cache)} if cache else {}
    if accelerators:
        return {**options, "dtype": "bfloat16", "tensor-parallel-size": accelerators}
    # Compiling for a CPU takes minutes at every start, and a compiler that the image does not have.
    return {**options, "dtype": "float32", "enforce-eager": True}


def _lora(adapters: dict[str, str]) -> dict[str, Any]:
    if not adapters:
        return {}
    needed = max(_rank(name, adapter) for name, adapter in adapters.items())
    return {
        "enable-lora": True,
        # One slot stays empty: in a batch of base and adapter, vLLM on CPU takes the last slot for "no adapter".
        "max-loras": len(adapters) + 1,
        "max-lora-rank": next(rank for rank in RANKS if rank >= needed),
        "lora-modules": [json.dumps({"name": name, "path": path}) for name, path in adapters.items()],
    }


def _rank(name: str, adapter: str) -> int:
    """The largest rank of an adapter. Raises UnservableError for one that vLLM does not load or apply."""
    config = json.loads((Path(adapter) / ADAPTER_CONFIG).read_bytes())
    if config.get("use_dora"):
        raise UnservableError(f"The adapter of {name} is a DoRA, which vLLM does not load. {_ADVICE}")
    # Latent attention. On CPU read once, when the base is loaded; elsewhere, by its source, not applied throughout.
    if "kv_b_proj" in json.dumps(config.get("target_modules")):
        raise UnservableError(
            f"The adapter of {name} is also on kv_b_proj, where vLLM applies it in part or not at all: answers would be"
            f" wrong. Leave it out of lora.targetModules, whose default does. {_ADVICE}"
        )
    rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    if rank > RANKS[-1]:
        raise UnservableError(
            f"The adapter of {name} has rank {rank}; vLLM loads adapters of at most {RANKS[-1]}. {_ADVICE}"
        )
    return rank
