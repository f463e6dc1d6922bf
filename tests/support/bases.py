"""Base models that the guide names, as far as their published config.json decides about sizes, and the demo's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.api.estimate import RowShape

Config = Mapping[str, Any]


def _decoder(
    family: str, layers: int, hidden: int, inner: int, heads: int, keys: int, words: int, **more: Any
) -> Config:
    """A dense decoder: `keys` are its heads of keys and values, `words` its vocabulary."""
    return {
        "model_type": family,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": words,
        **more,
    }


BASES: Mapping[str, Config] = {
    "SmolLM2-135M": _decoder("llama", 30, 576, 1536, 9, 3, 49_152, tie_word_embeddings=True),
    "SmolLM2-360M": _decoder("llama", 32, 960, 2560, 15, 5, 49_152, tie_word_embeddings=True),
    "SmolLM2-1.7B": _decoder("llama", 24, 2048, 8192, 32, 32, 49_152, tie_word_embeddings=True),
    "R1-Distill-Qwen-1.5B": _decoder("qwen2", 28, 1536, 8960, 12, 2, 151_936),
    "R1-Distill-Qwen-7B": _decoder("qwen2", 28, 3584, 18_944, 28, 4, 152_064),
    "R1-Distill-Llama-8B": _decoder("llama", 32, 4096, 14_336, 32, 8, 128_256),
    "R1-Distill-Qwen-14B": _decoder("qwen2", 48, 5120, 13_824, 40, 8, 152_064),
    "Mistral Small 3": _decoder("mistral", 40, 5120, 32_768, 32, 8, 131_072, head_dim=128),
    "R1-Distill-Qwen-32B": _decoder("qwen2", 64, 5120, 27_648, 40, 8, 152_064),
    "R1-Distill-Llama-70B": _decoder("llama", 80, 8192, 28_672, 64, 8, 128_256),
    "Llama 4 Scout": _decoder(
        "llama4_text", 48, 5120, 8192, 40, 8, 202_048, head_dim=128, intermediate_size_mlp=16_384,
        interleave_moe_layer_step=1, num_local_experts=16, num_experts_per_tok=1, use_qk_norm=True,
    ),
    "DeepSeek R1": _decoder(
        "deepseek_v3", 61, 7168, 18_432, 128, 128, 129_280, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128,
        qk_rope_head_dim=64, v_head_dim=128, first_k_dense_replace=3, moe_intermediate_size=2048, n_routed_experts=256,
        n_shared_experts=1, num_experts_per_tok=8,
    ),
}  # fmt: skip
#: What prepare finds of the demo's training rows (`make bench-demo` compares).
DEMO_ROWS = RowShape(tokens=20_641, answer_tokens=3_495, longest=50, squares=715_017)
