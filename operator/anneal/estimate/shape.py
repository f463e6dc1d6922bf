"""From tensors to the counts and widths that memory and time follow from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from anneal.api.estimate import Linear, ModelShape
from anneal.estimate.families import Config, Tensor, head_size, moe_layers, tensors, text_config

#: Families whose experts were one stack of weights from the beginning, not layers of their own.
FUSED_EXPERTS = frozenset({"llama4", "llama4_text"})
_NUMBER = re.compile(r"\.(\d+)(?=\.)")
_ROUTERS = ("gate.weight", "router.weight")


def shape_of(config: Config, stored: Mapping[str, tuple[int, ...]] | None = None) -> ModelShape:
    """The shape of the model that config.json describes.

    `stored` (name to shape, as in the headers of its safetensors files) is what a model of an unknown family is made
    of. Raises ValueError, in a sentence, when neither tells.
    """
    known = tensors(config)
    if known is None and not stored:
        raise ValueError(f"models of type '{config.get('model_type')}' can be sized by their weights only")
    made_of = known if known is not None else grouped(stored or {})
    try:
        return _shape(config, made_of)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"config.json of a {config.get('model_type')} model has no usable {error}") from error


def grouped(stored: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
    """Tensors of a checkpoint, those of all layers that are alike together."""
    counts = Counter((_NUMBER.sub(".N", name), tuple(shape)) for name, shape in stored.items())
    return [Tensor(name, shape, copies) for (name, shape), copies in counts.items()]


def _shape(config: Config, made_of: Iterable[Tensor]) -> ModelShape:
    text, parts, linears, shared = text_config(config), Counter[str](), Counter[tuple[str, int, int]](), 0
    for tensor in made_of:
        part = _part(tensor)
        parts[part] += prod(tensor.shape) * tensor.copies
        if part == "linear":
            outputs, inputs = tensor.shape
            linears[_suffix(tensor.name), inputs, outputs] += tensor.copies
            if "shared_expert" in tensor.name and tensor.name.endswith("down_proj.weight"):
                shared = inputs
    rows: list[Linear] = [(*key, copies) for key, copies in sorted(linears.items()) if copies]
    if parts["experts"] and config.get("model_type") not in FUSED_EXPERTS:
        # peft takes these names for experts, so that no ordinary layer of such a model is adapted under them.
        rows = [row for row in rows if row[0] not in ("gate_proj", "up_proj", "down_proj")]
    layers, experts = (
        int(text["num_hidden_layers"]),
        _first(text, "n_routed_experts", "num_local_experts", "num_experts"),
    )
    moe = moe_layers(text) if experts else 0
    if text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)):
        del parts["head"]  # a checkpoint may store it, the model has it once
    return ModelShape(
        family=str(config.get("model_type"))[:64],
        parameters=parts.total(),
        embedding_parameters=parts["embedding"],
        head_parameters=parts["head"],
        expert_parameters=parts["experts"],
        vision_parameters=parts["vision"],
        vocabulary=int(text["vocab_size"]),
        hidden=int(text["hidden_size"]),
        layers=layers,
        heads=int(text["num_attention_heads"]),
        **_attention_widths(text, rows),
        intermediate=_first(text, "intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner")
        or 4 * int(text["hidden_size"]),
        moe_layers=moe,
        experts=experts,
        experts_per_token=_first(text, "num_experts_per_tok", "num_experts_per_token") if moe else 0,
        expert_intermediate=_expert_width(text) if moe else 0,
        shared_intermediate=shared,
        linears=rows[:64],
    )


def _part(tensor: Tensor) -> str:
    """Which part of the model a tensor belongs to."""
    name = tensor.name
    if "vision" in name or "multi_modal" in name:
        return "vision"
    if name.endswith(("lm_head.weight", "embed_out.weight")):
        return "head"
    if name.endswith(("embed_tokens.weight", "wte.weight", "wpe.weight", "embed_in.weight", "word_embeddings.weight")):
        return "embedding"
    if ".experts." in name:
        return "experts"
    if len(tensor.shape) == 2 and name.endswith(".weight") and not name.endswith(tuple(f".{r}" for r in _ROUTERS)):
        return "linear"
    return "other"


def _suffix(name: str) -> str:
    """The last word of a linear layer's name, by which adapters are aimed at it."""
    return name.removesuffix(".weight").rpartition(".")[2][:64]


def _attention_widths(text: Config, linears: Iterable[Linear]) -> dict[str, int]:
    """Widths of queries, keys, values and output of a layer, in values per token."""
    heads, size = int(text["num_attention_heads"]), head_size(text)
    if latent := text.get("kv_lora_rank"):
        keys = heads * (int(text["qk_nope_head_dim"]) + int(text["qk_rope_head_dim"]))
        values = heads * int(text["v_head_dim"])
        # What is kept of the values is all that their latent is expanded to, of which they are a view.
        expanded = values + heads * int(text["qk_nope_head_dim"])
        return _widths(keys, keys, expanded, values, int(latent) + int(text.get("q_lora_rank") or 0))
    shared = int(text.get("num_key_value_heads") or heads) * size
    normed = str(text.get("model_type")).startswith("qwen3") or bool(text.get("use_qk_norm"))
    return _widths(heads * size, shared, shared, heads * size, (heads * size + shared) if normed else 0)


def _widths(query: int, key: int, value: int, output: int, normalised: int) -> dict[str, int]:
    return {
        "query_width": query,
        "key_width": key,
        "value_width": value,
        "output_width": output,
        "normalised_width": normalised,
    }


def _first(text: Config, *names: str) -> int:
    return next((int(text[n]) for n in names if text.get(n)), 0)


def _expert_width(text: Config) -> int:
    return _first(text, "moe_intermediate_size", "intermediate_size")
