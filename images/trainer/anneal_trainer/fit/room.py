"""Out of memory in the middle of a step: the same step again with less at once, down to one row and all recomputed.

An estimate can be wrong, and others may use the accelerator too. What a step learns does not depend on how many passes
it takes, so nothing but time is lost; the lower limit stays for the steps that follow.

Where ranks share the weights, the others are in the middle of the very pass that failed and wait for what will not
come. There all begin again from the last checkpoint, with the lower limit that was left in the workspace.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError

from anneal.estimate.memory import PassPlan
from anneal_trainer import files
from anneal_trainer.fit import memory
from anneal_trainer.fit.passes import Passes
from anneal_trainer.fit.ranks import Ranks

_LOG = logging.getLogger(__name__)


class Limit(BaseModel):
    """What is not to be exceeded any more: tokens of a pass, and whether every layer is recomputed."""

    tokens: int = Field(ge=1)
    recompute: bool = False

    def __str__(self) -> str:
        return f"passes of up to {self.tokens} tokens{', all layers recomputed' if self.recompute else ''}"

    def of(self, plan: PassPlan) -> PassPlan:
        """`plan` within this limit."""
        return PassPlan(min(plan.tokens, self.tokens), 1 if self.recompute else plan.recompute_every)


class BeginAgainError(Exception):
    """Memory did not suffice where ranks share the weights; with `limit` it may."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(f"out of memory where weights are shared: {limit} from now on")
        self.limit = limit


def lower(passes: Passes, model: Any, error: torch.OutOfMemoryError) -> Limit:
    """The next limit below passes that failed with `error`. Raises it when there is none."""
    longest = int(passes.rows.lengths.max())
    if passes.max_tokens > longest:
        return Limit(tokens=max(longest, passes.max_tokens // 2), recompute=recomputes_all(model))
    if recomputes_all(model):
        raise error
    return Limit(tokens=longest, recompute=True)


def within(limit: Limit, passes: Passes, model: Any) -> Passes:
    """`passes` within a limit, from the next one on."""
    _LOG.warning("out of memory: %s from now on", limit)
    if limit.recompute and not recomputes_all(model):
        memory.recompute(model, PassPlan(limit.tokens, 1))
    return replace(passes, max_tokens=min(passes.max_tokens, limit.tokens))


def remember(path: Path, limit: Limit) -> None:
    """Leaves a limit for those who begin again."""
    files.write(path, limit.model_dump_json().encode())


def remembered(path: Path, ranks: Ranks) -> Limit | None:
    """The limit that was left, the same on all ranks; None where there is none. Asked by all at once."""
    found: Limit | None = None
    try:
        found = Limit.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        _LOG.warning("the limit in %s cannot be read, so memory may run out once more: %s", path, error)
    none = 2**62
    tokens, whole = ranks.least(found.tokens if found else none), ranks.least(-int(found.recompute) if found else 0)
    return Limit(tokens=tokens, recompute=whole < 0) if tokens < none else None


def recomputes_all(model: Any) -> bool:
    """Whether every layer that can compute its activations again does so."""
    flags = [m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    return bool(flags) and all(flags)
