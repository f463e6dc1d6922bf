"""The method: every weight of the base's language tower learns.

Weights are kept in float32 whatever the arithmetic: an update of AdamW is often smaller than the last bit of a bfloat16
weight, and would be lost without a word.
"""

from __future__ import annotations

import torch

from anneal.api.runs import MountedPath
from anneal_trainer import model
from anneal_trainer.fit import targets
from anneal_trainer.fit.methods import Learner


def learner(base: MountedPath, device: torch.device) -> Learner:
    """The base in float32, of which all that text passes is to be trained. Raises UserMistake."""
    loaded = model.load(base, torch.float32, device)
    tower = targets.language_tower(loaded)
    for part in (loaded.get_submodule(tower), loaded.get_output_embeddings()):
        if part is not None:
            part.requires_grad_(requires_grad=True)
    return Learner(loaded)
