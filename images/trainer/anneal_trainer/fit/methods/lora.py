"""The method: low-rank matrices beside the base model's layers (Hu et al. 2021), by the peft library.

What is published fits the base as it is. PiSSA and OLoRA take a part B0 A0 out of the base's weights when they start,
so their adapter B A only fits what is left; it is published as [B, -B0] [A; A0], of twice the rank, which is the same
change of the untouched base (the conversion of Meng et al. 2024, appendix).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from anneal.api.methods import NOT_BY_DEFAULT, Lora, QLora
from anneal.api.runs import MountedPath
from anneal_trainer import model as base_model
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit import targets
from anneal_trainer.fit.methods import Learner

_INITIALISATIONS: dict[str, bool | str] = {"Default": True, "Gaussian": "gaussian", "PiSSA": "pissa", "OLoRA": "olora"}
_FROM_WEIGHTS = ("PiSSA", "OLoRA")


def learner(base: MountedPath, lora: Lora, seed: int, dtype: torch.dtype, device: torch.device) -> Learner:
    """The base in `dtype` with adapters. Raises UserMistake."""
    adapted = adapt(base_model.load(base, dtype, device), lora, seed)
    return Learner(adapted, origin=_origin(adapted) if lora.initialisation in _FROM_WEIGHTS else {})


def adapt(model: Any, adapter: Lora | QLora, seed: int) -> Any:
    """`model` with adapters in float32, which alone are trainable. Raises UserMistake when no layer matches.

    By default every linear layer of the language tower is adapted, but the head and `NOT_BY_DEFAULT`.
    """
    from peft import LoraConfig, get_peft_model

    parameters = target_parameters(model, adapter.target_parameters) if isinstance(adapter, Lora) else []
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=float(adapter.dropout),
        target_modules=target_modules(model, adapter.target_modules),
        target_parameters=parameters or None,
        exclude_modules=targets.outside(model),
        use_rslora=adapter.rs_lora,
        use_dora=adapter.dora,
        init_lora_weights=_INITIALISATIONS[adapter.initialisation],
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    # Activations stay in the model's precision and the small matrices are cast to it (by autocast), not the reverse.
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False
    return adapted


def target_modules(model: Any, wanted: list[str]) -> list[str]:
    """Names (suffixes) of the layers to adapt, sorted. Raises UserMistake for one that matches no linear layer."""
    linear = targets.linear_layers(model)
    head = model.get_output_embeddings()
    body = {n.rpartition(".")[2] for n in linear if model.get_submodule(n) is not head}
    targets.refuse_redirected(model, wanted)
    _check_names("targetModules", "linear layer", wanted, linear, body)
    return sorted(set(wanted or body - NOT_BY_DEFAULT))


def target_parameters(model: Any, wanted: list[str]) -> list[str]:
    """Names (suffixes) of the stacked parameters to adapt, sorted. Raises UserMistake for one that there is not."""
    stacked = [name for name, parameter in model.named_parameters() if parameter.dim() == 3]
    _check_names("targetParameters", "stack of experts", wanted, stacked, {_without_layers(n) for n in stacked})
    return sorted(set(wanted))


def _check_names(field: str, what: str, wanted: list[str], names: list[str], known: set[str]) -> None:
    for target in wanted:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise UserMistake(
                "NoSuchModules",
                f"lora.{field} names '{target}', but no {what} of the base model is called so; it has"
                f" {', '.join(sorted(known)) or 'none'}",
            )


def _without_layers(name: str) -> str:
    """The part of a parameter's name behind its layer's number."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :] if numbers else parts)


def _origin(adapted: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(adapted).items()}


def on_untouched_base(adapter: Mapping[str, torch.Tensor], origin: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The adapter's tensors such that they fit the base as it was before `origin` was taken out of it."""
    if not origin:
        return dict(adapter)
    return {
        name: torch.cat([tensor, origin[name]], dim=0)
        if "lora_A" in name
        else torch.cat([tensor, -origin[name]], dim=1)
        for name, tensor in adapter.items()
    }


def on_reduced_base(adapter: Mapping[str, torch.Tensor], origin: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The inverse: the trained half of what `on_untouched_base` gave."""
    if not origin:
        return dict(adapter)
    return {
        name: tensor.narrow(0 if "lora_A" in name else 1, 0, tensor.shape[0 if "lora_A" in name else 1] // 2)
        for name, tensor in adapter.items()
    }


def configuration(model: Any, base_uri: str, origin: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What peft and vLLM read beside the tensors, with the base as the user named it."""
    config = dict(model.peft_config["default"].to_dict())
    name, revision = base_model.published_name(base_uri)
    config |= {"base_model_name_or_path": name, "revision": revision, "inference_mode": True}
    if origin:
        # Twice the rank at the same scale, which is alpha / rank or alpha / sqrt(rank).
        factor = 2**0.5 if config["use_rslora"] else 2
        config |= {"r": 2 * config["r"], "lora_alpha": config["lora_alpha"] * factor, "init_lora_weights": True}
    return config
