"""Out of memory in the middle of a step: the same step again with less at once, down to one row and all recomputed.

An estimate can be wrong, and others may use the accelerator too. What a step learns does not depend on how many passes
it takes, so nothing but time is lost; the lower limit stays for the steps that follow.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch

from anneal.estimate.memory import PassPlan
from anneal_trainer.fit import memory
from anneal_trainer.fit.passes import Passes

_LOG = logging.getLogger(__name__)


def less(passes: Passes, model: Any, error: torch.OutOfMemoryError) -> Passes:
    """Passes that need less memory than those which failed with `error`. Raises it when there are none."""
    longest = int(passes.rows.lengths.max())
    if passes.max_tokens > longest:
        tokens = max(longest, passes.max_tokens // 2)
        _LOG.warning("out of memory: passes of up to %d tokens from now on, instead of %d", tokens, passes.max_tokens)
        return replace(passes, max_tokens=tokens)
    if recomputes_all(model):
        raise error
    _LOG.warning("out of memory: activations are computed again in the backward pass from now on")
    memory.recompute(model, PassPlan(longest, 1))
    return passes


def recomputes_all(model: Any) -> bool:
    """Whether every layer that can compute its activations again does so."""
    flags = [m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    return bool(flags) and all(flags)
