"""What makes updates from gradients, and what of it a checkpoint has to remember.

The moments are there from the beginning, as zeros, rather than from the first update on: what does not fit is seen
before anything is learned, and a checkpoint is copied into what is there.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from anneal.api.methods import Optimizer
from anneal_trainer.fit.methods import Learner

#: Names of what is kept of a parameter beside its number of updates: by torch, and by bitsandbytes, whose 8-bit moments
#: have a scale for each block. Its tables of what 8 bits mean are constants.
_KEPT = ("exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")


def optimizer(learner: Learner, kind: Optimizer, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW whose decay leaves out vectors: norms, biases and magnitudes have no reason to be near zero."""
    trainable = [p for _, p in learner.trainable]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return _in_8_bits(learner, groups) if kind == "AdamW8bit" else _in_float32(groups)


def kept(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
    """The tensors that the next update of a parameter depends on, by name; theirs, not copies."""
    state = optimizer.state[parameter]
    return {name: state[name] for name in _KEPT if name in state}


def count(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, updates: int) -> None:
    """Notes how many updates a parameter has had."""
    state = optimizer.state[parameter]
    if isinstance(state["step"], torch.Tensor):
        state["step"].fill_(updates)
    else:
        state["step"] = updates


def _in_float32(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    made = torch.optim.AdamW(groups, fused=True)
    for parameter in _all(groups):
        made.state[parameter] = {
            # Fused AdamW keeps its count beside the parameter.
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return made


def _in_8_bits(learner: Learner, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Moments in 8 bits but for small tensors, as the library does, and for the embedding.

    Words are as rare as they are in the data, so gradients of the embedding differ by orders of magnitude within a
    block; Dettmers et al. 2022 keep its moments in 32 bits, without which training was seen to be unstable.
    """
    # It advises to install a package that would fetch kernels from the network.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes import optim

    library: Any = optim
    made: torch.optim.Optimizer = library.AdamW8bit(groups)
    begin: Any = made.init_state  # type: ignore[attr-defined]
    embedding = learner.model.get_input_embeddings().weight
    for number, group in enumerate(made.param_groups):
        for place, parameter in enumerate(group["params"]):
            if parameter is embedding:
                long = {name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("state1", "state2")}
                made.state[parameter] = {"step": 0, **long}
            else:
                begin(group, parameter, number, place)
    return made


def _all(groups: list[dict[str, Any]]) -> list[torch.nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]
