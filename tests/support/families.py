"""A model folder of every supported family, with random weights, made from the family's own classes in a blink.

Each has what makes its family special: two kinds of layers where it has two, a vision tower where it sees, experts
that are seen to be chosen differently by different tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.support.tiny_model import write_tokenizer
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CONTEXT = 192
SHAPE: dict[str, Any] = {
    "vocab_size": 264,  # the tokenizer has 257, and some classes of tokenizers add their own
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": 256,
    "bos_token_id": None,
    "pad_token_id": 256,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,
}
_EYE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


def mistral3(**changes: Any) -> Any:
    """Mistral Small 3.1 and 3.2: a Mistral with a vision tower whose layers are called as its own are."""
    text = {**SHAPE, "model_type": "mistral", "head_dim": 8, "sliding_window": None, **changes}
    vision = {**_EYE, "model_type": "pixtral", "intermediate_size": 32, "head_dim": 8}
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=vision, tie_word_embeddings=False)
    )


def llama4_text(**changes: Any) -> dict[str, Any]:
    """Settings of a Llama 4: first a dense layer with chunked attention, then one of experts without positions."""
    return {
        **SHAPE,
        "intermediate_size_mlp": 40,
        "head_dim": 8,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "no_rope_layer_interval": 2,
        "attention_chunk_size": 24,
        "floor_scale": 16,
        **changes,
    }


def llama4(**changes: Any) -> Any:
    """Scout and Maverick: as they are published, with their vision tower."""
    vision = {**_EYE, "intermediate_size": 64}
    vision |= dict.fromkeys(("vision_output_dim", "projector_input_dim", "projector_output_dim"), 16)
    return Llama4ForConditionalGeneration(Llama4Config(text_config=llama4_text(**changes), vision_config=vision))


def deepseek_v3(**changes: Any) -> Any:
    """R1: latent attention, a dense layer, then experts chosen in groups beside a shared one."""
    settings = {
        **SHAPE,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 16,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "topk_method": "noaux_tc",  # transformers takes this and the next for granted; R1's own config tells others
        "scoring_func": "sigmoid",
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 48,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
        **changes,
    }
    return DeepseekV3ForCausalLM(DeepseekV3Config(**settings))


FAMILIES: dict[str, Callable[..., Any]] = {
    "mistral3": mistral3,
    "llama4": llama4,
    "deepseek_v3": deepseek_v3,
    "llama": lambda **changes: LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes})),
    "qwen2": lambda **changes: Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, **changes})),
    "qwen3": lambda **changes: Qwen3ForCausalLM(Qwen3Config(**{**SHAPE, "head_dim": 8, **changes})),
    "mistral": lambda **changes: MistralForCausalLM(MistralConfig(**{**SHAPE, "sliding_window": 64, **changes})),
}


def write_family(directory: Path, family: str, seed: int = 0, **changes: Any) -> None:
    """The folder of a model of `family`, with a tokenizer of bytes; dense families take changes of their shape."""
    torch.manual_seed(seed)
    model = FAMILIES[family](**changes)
    with torch.no_grad():  # stacks of experts begin as zeros or as they were found in memory
        for name, parameter in model.named_parameters():
            if parameter.dim() == 3:
                parameter.normal_(std=0.1)
            assert parameter.isfinite().all(), name
    model.save_pretrained(directory)
    write_tokenizer(directory)
