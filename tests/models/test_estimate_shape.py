"""Counts from config.json equal those of the models that transformers builds from it (on the meta device)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DeepseekV3Config,
    Llama4Config,
    Llama4TextConfig,
    LlamaConfig,
    Mistral3Config,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from anneal.estimate.shape import shape_of

#: The published configurations, as far as they decide about sizes.
MISTRAL_SMALL = MistralConfig(
    vocab_size=131072, hidden_size=5120, intermediate_size=32768, num_hidden_layers=40, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128,
)  # fmt: skip
SMALL = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, intermediate_size=80, num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "llama, tied": LlamaConfig(**SMALL, intermediate_size=80, tie_word_embeddings=True),
    "mistral": MistralConfig(**SMALL, intermediate_size=80, num_key_value_heads=2, head_dim=12),
    "Mistral Small 3": MISTRAL_SMALL,
    "qwen2": Qwen2Config(**SMALL, intermediate_size=80, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SMALL, intermediate_size=80, num_key_value_heads=2),
    "DeepSeek R1": DeepseekV3Config(),
    "deepseek_v3 without a latent for queries": DeepseekV3Config(**SMALL, q_lora_rank=None, num_key_value_heads=4),
    "Llama 4 Scout": Llama4TextConfig(),
    "llama4, every second layer": Llama4TextConfig(**SMALL, num_key_value_heads=2, interleave_moe_layer_step=2),
    "mistral3": Mistral3Config(),
}


def built(config: Any) -> Any:
    """The model, without memory."""
    auto = AutoModelForImageTextToText if config.model_type == "mistral3" else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


def count(model: Any, *parts: str) -> int:
    """Parameters whose name has one of the parts; each once, however many names it has."""
    return sum(p.numel() for name, p in model.named_parameters() if not parts or any(part in name for part in parts))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_counts_are_those_of_the_model(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    shape = shape_of(json.loads((tmp_path / "config.json").read_text()))
    model = built(config)
    assert shape.parameters == count(model)
    assert shape.embedding_parameters == count(model, "embed_tokens")
    assert shape.head_parameters == count(model, "lm_head")
    assert shape.expert_parameters == count(model, ".experts.")
    assert shape.vision_parameters == count(model, "vision_tower", "multi_modal_projector")


@pytest.mark.parametrize(
    ("config", "billions"),
    [(MISTRAL_SMALL, 23.57), (DeepseekV3Config(), 671.03), (Llama4TextConfig(), 107.77)],
    ids=["Mistral Small 3", "DeepSeek R1", "Llama 4 Scout"],
)
def test_published_sizes(config: Any, billions: float) -> None:
    assert round(shape_of(config.to_dict()).parameters / 1e9, 2) == billions


def test_nearly_all_of_r1_is_experts() -> None:
    assert round(shape_of(DeepseekV3Config().to_dict()).expert_parameters / 1e9, 1) == 653.9


def test_llama4_loads_its_language_model_only() -> None:
    whole = Llama4Config()
    assert shape_of(whole.to_dict()).parameters == shape_of(whole.text_config.to_dict()).parameters


@pytest.mark.parametrize(
    "config",
    [
        Phi3Config(**SMALL, intermediate_size=80, pad_token_id=0),
        Qwen3MoeConfig(**SMALL, intermediate_size=80, num_key_value_heads=2, num_experts=4, moe_intermediate_size=24),
    ],
    ids=["phi3", "qwen3_moe"],
)
def test_other_families_are_sized_by_their_weights(config: Any) -> None:
    model = built(config)
    stored = {name: tuple(p.shape) for name, p in model.named_parameters()}
    shape = shape_of(config.to_dict(), stored)
    assert shape.parameters == count(model)
    assert shape.expert_parameters == count(model, ".experts.")
    assert shape.head_parameters == count(model, "lm_head")


def test_a_family_that_is_not_known_needs_its_weights() -> None:
    with pytest.raises(ValueError, match="models of type 'phi3' can be sized by their weights only"):
        shape_of({"model_type": "phi3"})


def test_a_number_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"config\.json of a llama model has no usable 'hidden_size'"):
        shape_of({"model_type": "llama", "num_hidden_layers": 2})
