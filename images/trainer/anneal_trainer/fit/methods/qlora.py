"""The method: LoRA on a base whose linear layers are 4-bit NormalFloats (Dettmers et al. 2023), by bitsandbytes.

The base is quantised while it is loaded and never published: an adapter fits the base as it is, and `output.merge` adds
it to weights in the base's own precision.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from anneal.api.methods import QLora
from anneal.api.runs import MountedPath
from anneal_trainer import model as base_model
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt

_SHOWN = 4


def learner(base: MountedPath, qlora: QLora, seed: int, dtype: torch.dtype, device: torch.device) -> Learner:
    """The base in 4 bits, computing in `dtype`, with adapters. Raises UserMistake."""
    from transformers import BitsAndBytesConfig

    # It advises to install a package that would fetch kernels from the network.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=qlora.double_quantisation,
        bnb_4bit_compute_dtype=dtype,
    )
    loaded = base_model.load(base, dtype, device, quantisation)
    remark = quantised(loaded)
    for layer in _layers(loaded):
        # In evaluation its CPU kernel packs the weights anew, and no gradient passes through them ever after.
        layer.support_avx512bf16_for_cpu = False
    return Learner(adapt(loaded, qlora, seed), remarks=(remark,))


def quantised(model: Any) -> str:
    """What is in 4 bits and what is not, in a sentence. Raises UserMistake when nothing is."""
    layers = _layers(model)
    if not layers:
        raise UserMistake(
            "NothingQuantised", "qlora finds no linear layer in the base model that could be quantised: use lora"
        )
    small = sum(m.in_features * m.out_features for m in layers)
    inside = {id(m.weight) for m in layers}
    rest = {name: p for name, p in model.named_parameters() if id(p) not in inside}
    kept = sum(p.numel() for p in rest.values())
    matrices = sorted((name for name, p in rest.items() if p.dim() > 1), key=lambda name: -rest[name].numel())
    named = ", ".join(matrices[:_SHOWN] or ["vectors"]) + (", …" if len(matrices) > _SHOWN else "")
    return (
        f"{_millions(small)} of {_millions(small + kept)} parameters are in 4 bits; {_millions(kept)} cannot be"
        f" quantised and are as they were: {named}"
    )


def _layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if type(m).__name__ == "Linear4bit"]


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.3g} M"
