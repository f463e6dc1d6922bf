"""Batched greedy decoding: the same tokens whatever else is in the batch, but for near-ties that rounding decides.

Rows are padded on the left so that all of them grow at the same end; padding is masked and positions count from each
row's first real token. Finished rows leave the batch at once, and only the logits of the last position are computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """What a model said to one prompt."""

    tokens: list[int]
    """Tokens of the answer, without the one that ended it."""
    finish_reason: FinishReason
    """"stop" when the model ended its turn, "length" when the limit did."""

    @property
    def generated(self) -> int:
        """Tokens decoded, with the one that ended the answer."""
        return len(self.tokens) + (1 if self.finish_reason == "stop" else 0)


@torch.inference_mode()
def complete(
    model: Any,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stops: Collection[int],
    on_step: Callable[[], None] = lambda: None,
) -> list[Completion]:
    """Greedy completions of `prompts` (token ids), at most `limits[i]` tokens each, in the order of the prompts.

    `model` is a causal language model of transformers; `stops` are the tokens that end an answer; `on_step` is called
    once for every token position decoded. Decoding costs one forward pass of the rows still running per position.
    """
    if not prompts or not all(prompts):
        raise ValueError("every prompt needs at least one token")
    answers: list[list[int]] = [[] for _ in prompts]
    reasons: list[FinishReason] = ["length"] * len(prompts)
    running = list(range(len(prompts)))
    tokens, mask = _left_padded(prompts, model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    options = _options(model, cache)
    while True:
        output = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=True, **options)
        chosen = output.logits[:, -1].argmax(dim=-1)
        on_step()
        keep = []
        for place, (row, token) in enumerate(zip(running, chosen.tolist(), strict=True)):
            if token in stops:
                reasons[row] = "stop"
                continue
            answers[row].append(token)
            if len(answers[row]) < limits[row]:
                keep.append(place)
        if not keep:
            return [Completion(a, r) for a, r in zip(answers, reasons, strict=True)]
        if len(keep) < len(running):
            running = [running[place] for place in keep]
            kept = torch.tensor(keep, device=model.device)
            cache.batch_select_indices(kept)
            chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
        tokens = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        positions = positions[:, -1:] + 1


def _options(model: Any, cache: DynamicCache) -> dict[str, Any]:
    """Keyword arguments that not every architecture and release of transformers names alike."""
    known = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"cache" if "cache" in known else "past_key_values": cache}
    if "logits_to_keep" in known:
        options["logits_to_keep"] = 1
    return options


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both of shape [rows, longest prompt]. Padding is token 0, and masked."""
    width = max(len(p) for p in prompts)
    tokens = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return tokens, mask
