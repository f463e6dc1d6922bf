"""Attention over rows that lie one after the other in a line, each seeing itself and the beginning that it shares.

One function for every model that transformers lets choose its attention. Accelerators have a kernel for rows of any
length (`torch.nn.attention.varlen`); elsewhere each row is one call of the usual kernel. A model that uses more than
queries, keys and values (windows that rows reach, caps, sinks) is refused in words, and what it does with the layout is
tried, not believed, before training begins (`passes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional

NAME = "anneal_packed"


@dataclass(frozen=True)
class Span:
    """The next `length` tokens of a line. They see themselves, causally, and all of span number `after`, if any."""

    length: int
    after: int | None = None


@dataclass(frozen=True)
class Layout:
    """The spans of a line; together they are the whole line, in order."""

    spans: tuple[Span, ...]
    device: torch.device

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each span."""
        return [s.length for s in self.spans]

    @cached_property
    def queries(self) -> torch.Tensor:
        """(spans + 1,) int32: where each span's queries begin in the line."""
        return _ends(self.lengths).to(self.device)

    @cached_property
    def keys(self) -> torch.Tensor:
        """(spans + 1,) int32: where each span's keys begin in what `seen` picks."""
        return _ends(self._seen_lengths).to(self.device)

    @cached_property
    def seen(self) -> torch.Tensor | None:
        """Places in the line of the keys of each span, one span after the other; None where that is the line itself."""
        if all(s.after is None for s in self.spans):
            return None
        places = torch.split(torch.arange(sum(self.lengths)), self.lengths)
        each = ([places[s.after]] if s.after is not None else [] for s in self.spans)
        return torch.cat([p for before, own in zip(each, places, strict=True) for p in (*before, own)]).to(self.device)

    @cached_property
    def longest(self) -> tuple[int, int]:
        """The most queries and the most keys of a span."""
        return max(self.lengths), max(self._seen_lengths)

    @cached_property
    def _seen_lengths(self) -> list[int]:
        return [s.length + (self.lengths[s.after] if s.after is not None else 0) for s in self.spans]


def _ends(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """(1, heads, line, size) each, keys and values perhaps of fewer heads -> (1, line, heads, size of a value).

    Raises ValueError when the model does not hand the layout on or asks for what this attention has not.
    """
    del module
    if layout is None or attention_mask is not None:
        raise ValueError("the model does not hand the layout of packed rows to its attention")
    if asked := [name for name in ("softcap", "s_aux", "position_bias") if more.get(name) is not None]:
        raise ValueError(f"the model's attention uses {', '.join(asked)}")
    if query.is_cuda and query.dtype != torch.float32 and query.shape[-1] == value.shape[-1] and not dropout:
        return _by_kernel(query, key, value, layout, scaling), None
    # Split, not sliced: the gradient of a split is one concatenation, that of each slice a tensor of the whole line.
    queries, keys, values = (torch.split(t, layout.lengths, 2) for t in (query, key, value))
    parts = []
    for number, span in enumerate(layout.spans):
        seen = [number] if span.after is None else [span.after, number]
        parts.append(_span(queries[number], [keys[i] for i in seen], [values[i] for i in seen], scaling, dropout))
    return torch.cat(parts, 2).transpose(1, 2), None


def _span(
    query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], scaling: float | None, dropout: float
) -> torch.Tensor:
    """What the queries of one span find in its own keys, which are the last, and in those that it shares."""
    own, mask = keys[-1].shape[2], None
    key, value = keys[-1], values[-1]
    if len(keys) > 1:
        key, value = torch.cat(keys, 2), torch.cat(values, 2)
        mask = query.new_ones(own, key.shape[2], dtype=torch.bool).tril(key.shape[2] - own)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float | None
) -> torch.Tensor:
    """The same in one call. Keys of a shared beginning are copied for every row: bytes, not arithmetic."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (t[0].transpose(0, 1) for t in (query, key, value))
    if layout.seen is not None:
        key, value = key[layout.seen], value[layout.seen]
    found = varlen_attn(
        query,
        key,
        value,
        layout.queries,
        layout.keys,
        *layout.longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, torch.Tensor)
    return found[None]


def install(model: Any) -> None:
    """Makes this the model's attention. Raises ValueError for a model that has no choice of attention."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    # No mask function is registered under that name, so models make no mask.
    model.set_attn_implementation(NAME)


def reach(config: Any) -> int | None:
    """The fewest positions that a layer of the model looks back on, or None where all look back on all.

    Packing ignores windows, which is right for rows that never reach one.
    """
    text = config.get_text_config()
    names = ["attention_chunk_size", *(["sliding_window"] if getattr(text, "use_sliding_window", True) else [])]
    return min((window for name in names if (window := getattr(text, name, None)) is not None), default=None)


def longest_line(config: Any, limit: int) -> int:
    """`limit`, or fewer tokens where the model counts places in the line instead of positions in the row."""
    text = config.get_text_config()
    # Llama 4 scales queries by their place as soon as that reaches floor_scale.
    return min(limit, text.floor_scale - 1) if getattr(text, "attn_temperature_tuning", None) else limit
