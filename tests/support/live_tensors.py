"""What a training step holds in memory, counted in tensors: exact to the byte, whatever the machine does besides."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class _Kept:
    """A tensor for as long as autograd keeps it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Bytes that autograd keeps for the backward pass, each storage once, those of `known` tensors left out."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        self._known = {t.untyped_storage().data_ptr() for t in known}
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def watching(self) -> AbstractContextManager[None]:
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor)

    def _keep(self, tensor: torch.Tensor) -> _Kept:
        kept = _Kept(tensor)
        if tensor.untyped_storage().data_ptr() not in self._known:
            self._kept.add(kept)
        return kept

    @property
    def bytes(self) -> int:
        """Of what is kept at this moment."""
        storages = {s.data_ptr(): s.nbytes() for s in (kept.tensor.untyped_storage() for kept in self._kept)}
        return sum(storages.values())


class LiveTensors(TorchDispatchMode):
    """Bytes of all tensors that are alive, and the most that there were, those of `known` tensors left out."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._alive: dict[int, int] = {t.untyped_storage()._cdata: 0 for t in known}
        self._now = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._note, result)
        return result

    def _note(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self._alive:
            self._alive[place] = size
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, place)
        return tensor

    def _forget(self, place: int) -> None:
        self._now -= self._alive.pop(place, 0)
