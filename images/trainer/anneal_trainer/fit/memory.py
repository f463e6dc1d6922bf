"""How many tokens one pass through the model may hold, from what the pod may use and what the model is.

Activations are most of training's memory and proportional to the tokens of a pass. The estimate counts what autograd
keeps for one token of one layer of a transformer with LoRA: 13 hidden and 4 intermediate values,
measured with saved-tensor hooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PROGRAM_BYTES = 1024**3
_SHARE_FOR_ACTIVATIONS = 0.6
_LOSS_BYTES_PER_LOGIT = 12
_MOST_TOKENS = 16_384


@dataclass(frozen=True)
class PassLimit:
    """Tokens of one pass, padding included, and whether activations must be computed again in backward."""

    tokens: int
    recompute: bool


def pass_limit(model: Any, device: torch.device, longest_row: int) -> PassLimit:
    """The limit for a model that is loaded. With less room than the longest row needs, activations are recomputed."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    room = (usable_bytes(device) - weights - _PROGRAM_BYTES) * _SHARE_FOR_ACTIVATIONS
    layer, layers, logits = _bytes_per_token(model)
    tokens = int(room / (layer * layers + logits))
    if tokens >= longest_row:
        return PassLimit(min(tokens, _MOST_TOKENS), recompute=False)
    kept = 2 * model.config.get_text_config().hidden_size * model.dtype.itemsize
    tokens = int((room - layer * longest_row) / (kept * layers + logits))
    return PassLimit(min(max(tokens, longest_row), _MOST_TOKENS), recompute=True)


def _bytes_per_token(model: Any) -> tuple[float, int, float]:
    """(activations of one layer, layers, logits), in bytes per token. Half of the tokens are taken to be labelled."""
    config = model.config.get_text_config()
    hidden = config.hidden_size
    experts = getattr(config, "num_experts_per_tok", None) or 1
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None) or 4 * hidden
    layer = (13 * hidden + 4 * inner * experts) * model.dtype.itemsize
    return layer, config.num_hidden_layers, config.vocab_size * _LOSS_BYTES_PER_LOGIT / 2


def usable_bytes(device: torch.device) -> int:
    """Bytes that the process may use: of the accelerator, or of the pod's memory limit, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = _machine_bytes()
    limits = [
        int(text)
        for path in map(Path, _CGROUP_LIMITS)
        if path.exists() and (text := path.read_text().strip()).isdigit()
    ]
    return min([total, *limits])


def _machine_bytes() -> int:
    first = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(first.split()[1]) * 1024
