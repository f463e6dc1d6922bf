"""Adapter and optimizer as bytes and back: what of a training is in tensors, under names that others load too."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load_file, save

from anneal_trainer.fit.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER, Checkpoint
from anneal_trainer.model import published_name

_MOMENTS = ("exp_avg", "exp_avg_sq")


def encode(model: Any, optimizer: torch.optim.Optimizer, base_uri: str) -> dict[str, bytes]:
    """The files of a checkpoint. The adapter has the names and the configuration that peft and vLLM load."""
    from peft import get_peft_model_state_dict

    adapter = get_peft_model_state_dict(model)
    moments = {
        f"{name}.{moment}": optimizer.state[parameter][moment]
        for name, parameter in _trainable(model)
        for moment in _MOMENTS
    }
    return {
        ADAPTER_WEIGHTS: save(_on_cpu(adapter)),
        ADAPTER_CONFIG: _adapter_config(model, base_uri),
        OPTIMIZER: save(_on_cpu(moments)),
    }


def restore(checkpoint: Checkpoint, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Puts adapter and moments back. After it, the next step is bit for bit that of the run that saved."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(checkpoint.path / ADAPTER_WEIGHTS))
    moments = load_file(checkpoint.path / OPTIMIZER)
    for name, parameter in _trainable(model):
        optimizer.state[parameter] = {
            # Fused AdamW keeps its step count beside the parameter.
            "step": torch.tensor(float(checkpoint.manifest.step), device=parameter.device),
            **{moment: moments[f"{name}.{moment}"].to(parameter.device) for moment in _MOMENTS},
        }


def _adapter_config(model: Any, base_uri: str) -> bytes:
    """The configuration with the base as the user named it, and sets as sorted lists: equal runs, equal bytes."""
    config = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=sorted))
    name, revision = published_name(base_uri)
    config |= {"base_model_name_or_path": name, "revision": revision, "inference_mode": True}
    return json.dumps(config, sort_keys=True, indent=2).encode() + b"\n"


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}


def _trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
