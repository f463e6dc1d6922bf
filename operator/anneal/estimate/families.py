"""The tensors of a model, from its config.json alone: what transformers would build, without building it.

A checkpoint's own headers are no substitute where the family is known: they may hold what is never loaded (the
prediction layer of DeepSeek R1, the vision tower of Llama 4). Names and shapes follow the modelling files of
transformers; tests compare the counts with models that it builds on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Tensor(NamedTuple):
    """`copies` tensors of one shape, under the name that they have within their layer."""

    name: str
    shape: tuple[int, ...]
    copies: int = 1


def text_config(config: Config) -> Config:
    """The part of a configuration that describes the language model."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else config


def is_known(config: Config) -> bool:
    """Whether the configuration alone tells what the model is made of."""
    return str(config.get("model_type")) in _FAMILIES


def tensors(config: Config) -> list[Tensor] | None:
    """All tensors of the model that a configuration describes, None for a family that is not known here.

    Raises ValueError, in a sentence, when the configuration lacks a number.
    """
    family = _FAMILIES.get(str(config.get("model_type")))
    if family is None:
        return None
    try:
        return list(family(config))
    except (KeyError, TypeError) as error:
        raise ValueError(f"config.json of a {config.get('model_type')} model has no usable {error}") from error


def linear(name: str, inputs: int, outputs: int, copies: int, *, bias: object = False) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (outputs, inputs), copies)
    if bias:
        yield Tensor(f"{name}.bias", (outputs,), copies)


def head_size(text: Config) -> int:
    """Width of one attention head."""
    default = 128 if text.get("model_type") == "qwen3" else text["hidden_size"] // text["num_attention_heads"]
    return int(text.get("head_dim") or default)


def _gated(prefix: str, hidden: int, inner: int, copies: int, *, bias: object = False) -> Iterator[Tensor]:
    """A gated feed-forward block (Shazeer 2020)."""
    yield from linear(f"{prefix}.gate_proj", hidden, inner, copies, bias=bias)
    yield from linear(f"{prefix}.up_proj", hidden, inner, copies, bias=bias)
    yield from linear(f"{prefix}.down_proj", inner, hidden, copies, bias=bias)


def _attention(text: Config, *, bias: object = False, output_bias: object = False) -> Iterator[Tensor]:
    """Grouped-query attention."""
    hidden, layers, size = text["hidden_size"], text["num_hidden_layers"], head_size(text)
    queries = text["num_attention_heads"] * size
    keys = (text.get("num_key_value_heads") or text["num_attention_heads"]) * size
    yield from linear("self_attn.q_proj", hidden, queries, layers, bias=bias)
    yield from linear("self_attn.k_proj", hidden, keys, layers, bias=bias)
    yield from linear("self_attn.v_proj", hidden, keys, layers, bias=bias)
    yield from linear("self_attn.o_proj", queries, hidden, layers, bias=output_bias)


def _frame(text: Config) -> Iterator[Tensor]:
    """Embedding, head and the norms of every layer."""
    hidden, layers, vocabulary = text["hidden_size"], text["num_hidden_layers"], text["vocab_size"]
    yield Tensor("embed_tokens.weight", (vocabulary, hidden))
    if not text.get("tie_word_embeddings", False):
        yield Tensor("lm_head.weight", (vocabulary, hidden))
    yield Tensor("input_layernorm.weight", (hidden,), layers)
    yield Tensor("post_attention_layernorm.weight", (hidden,), layers)
    yield Tensor("norm.weight", (hidden,))


def _llama(text: Config) -> Iterator[Tensor]:
    """Llama, and with it Mistral, which differs only in its defaults."""
    yield from _frame(text)
    bias = text.get("attention_bias")
    yield from _attention(text, bias=bias, output_bias=bias)
    inner, layers = text["intermediate_size"], text["num_hidden_layers"]
    yield from _gated("mlp", text["hidden_size"], inner, layers, bias=text.get("mlp_bias"))


def _qwen2(text: Config) -> Iterator[Tensor]:
    yield from _frame(text)
    yield from _attention(text, bias=True)
    yield from _gated("mlp", text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"])


def _qwen3(text: Config) -> Iterator[Tensor]:
    yield from _llama({**text, "mlp_bias": False})
    yield Tensor("self_attn.q_norm.weight", (head_size(text),), text["num_hidden_layers"])
    yield Tensor("self_attn.k_norm.weight", (head_size(text),), text["num_hidden_layers"])


def _mistral3(config: Config) -> Iterator[Tensor]:
    """Mistral Small 3.1 and later: a Mistral, the Pixtral vision tower and what joins them."""
    text, vision = config["text_config"], config["vision_config"]
    yield from _llama({**text, "tie_word_embeddings": config.get("tie_word_embeddings", False)})
    hidden, layers, width = vision["hidden_size"], vision["num_hidden_layers"], text["hidden_size"]
    patch = vision["patch_size"]
    yield Tensor("vision_tower.patch_conv.weight", (hidden, vision.get("num_channels", 3), patch, patch))
    yield Tensor("vision_tower.norms", (hidden,), 2 * layers + 1)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield from linear(f"vision_tower.attention.{name}", hidden, hidden, layers)
    yield from _gated("vision_tower.feed_forward", hidden, vision["intermediate_size"], layers)
    bias = config.get("multimodal_projector_bias")
    yield Tensor("vision_projector.norm.weight", (hidden,))
    yield from linear("vision_projector.merging_layer", hidden * int(config["spatial_merge_size"]) ** 2, hidden, 1)
    yield from linear("vision_projector.linear_1", hidden, width, 1, bias=bias)
    yield from linear("vision_projector.linear_2", width, width, 1, bias=bias)


def _llama4(config: Config) -> Iterator[Tensor]:
    """Llama 4, of which only the language model is loaded."""
    text = text_config(config)
    yield from _frame(text)
    bias = text.get("attention_bias")
    yield from _attention(text, bias=bias, output_bias=bias)
    hidden, inner, experts = text["hidden_size"], text["intermediate_size"], text["num_local_experts"]
    moe, dense = moe_layers(text), text["num_hidden_layers"] - moe_layers(text)
    yield from _gated("feed_forward", hidden, text["intermediate_size_mlp"], dense)
    yield from _gated("feed_forward.shared_expert", hidden, inner, moe)
    yield Tensor("feed_forward.router.weight", (experts, hidden), moe)
    yield Tensor("feed_forward.experts.gate_up_proj", (experts, hidden, 2 * inner), moe)
    yield Tensor("feed_forward.experts.down_proj", (experts, inner, hidden), moe)


def _deepseek(text: Config) -> Iterator[Tensor]:
    """DeepSeek V3 and R1: latent attention (MLA), dense first layers, then experts."""
    yield from _frame(text)
    hidden, layers, heads = text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"]
    nope, rope, value = text["qk_nope_head_dim"], text["qk_rope_head_dim"], text["v_head_dim"]
    latent, bias = text["kv_lora_rank"], text.get("attention_bias")
    if (rank := text.get("q_lora_rank")) is None:
        yield from linear("self_attn.q_proj", hidden, heads * (nope + rope), layers)
    else:
        yield from linear("self_attn.q_a_proj", hidden, rank, layers, bias=bias)
        yield Tensor("self_attn.q_a_layernorm.weight", (rank,), layers)
        yield from linear("self_attn.q_b_proj", rank, heads * (nope + rope), layers)
    yield from linear("self_attn.kv_a_proj_with_mqa", hidden, latent + rope, layers, bias=bias)
    yield Tensor("self_attn.kv_a_layernorm.weight", (latent,), layers)
    yield from linear("self_attn.kv_b_proj", latent, heads * (nope + value), layers)
    yield from linear("self_attn.o_proj", heads * value, hidden, layers, bias=bias)
    experts, inner, moe = text["n_routed_experts"], text["moe_intermediate_size"], moe_layers(text)
    yield from _gated("mlp", hidden, text["intermediate_size"], layers - moe)
    yield from _gated("mlp.shared_experts", hidden, inner * text["n_shared_experts"], moe)
    yield Tensor("mlp.gate.weight", (experts, hidden), moe)
    yield Tensor("mlp.experts.gate_up_proj", (experts, 2 * inner, hidden), moe)
    yield Tensor("mlp.experts.down_proj", (experts, hidden, inner), moe)


def moe_layers(text: Config) -> int:
    """Layers with experts, by whichever way the configuration says it."""
    layers = int(text["num_hidden_layers"])
    if isinstance(named := text.get("moe_layers"), list):
        return len(named)
    if (dense := text.get("first_k_dense_replace")) is not None:
        return max(0, layers - int(dense))
    every = int(text.get("interleave_moe_layer_step") or text.get("decoder_sparse_step") or 1)
    return layers // every


_FAMILIES: dict[str, Callable[[Config], Iterator[Tensor]]] = {
    "llama": _llama,
    "mistral": _llama,
    "ministral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mistral3": _mistral3,
    "llama4": _llama4,
    "llama4_text": _llama4,
    "deepseek_v3": _deepseek,
}
