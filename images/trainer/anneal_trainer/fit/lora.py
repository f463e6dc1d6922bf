"""The method: low-rank matrices beside the base model's linear layers (Hu et al. 2021), by the peft library."""

from __future__ import annotations

from typing import Any

import torch

from anneal.api.methods import Lora
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit import targets


def adapt(model: Any, lora: Lora, seed: int) -> Any:
    """`model` with adapters in float32, which alone are trainable. Raises UserMistake when no layer matches.

    By default every linear layer of the language tower but the head is adapted.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        target_modules=target_modules(model, lora),
        exclude_modules=targets.outside(model),
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    # Activations stay in the model's precision and the small matrices are cast to it (by autocast), not the reverse.
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False
    return adapted


def target_modules(model: Any, lora: Lora) -> list[str]:
    """Names (suffixes) of the layers to adapt, sorted. Raises UserMistake for one that matches no linear layer."""
    linear = targets.linear_layers(model)
    head = model.get_output_embeddings()
    body = {n.rpartition(".")[2] for n in linear if model.get_submodule(n) is not head}
    if not lora.target_modules:
        return sorted(body)
    targets.refuse_redirected(model, lora.target_modules)
    for target in lora.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise UserMistake(
                "NoSuchModules",
                f"lora.targetModules names '{target}', but no linear layer of the base model is called so; it has"
                f" {', '.join(sorted(body)) or 'none'}",
            )
    return sorted(set(lora.target_modules))
