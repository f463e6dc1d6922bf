"""What of a training is in tensors, as files and back: what learned, under names that others load too, and the moments.

All of it is safetensors and JSON. Reading checks names, shapes and types of everything before anything is taken over,
so a checkpoint is restored whole or not at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from anneal_trainer.fit.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MASTERS, OPTIMIZER, Checkpoint
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.optimizer import count, kept
from anneal_trainer.fit.sharding import like, whole

#: A file holds at most this many bytes, or one tensor: its tensors are copied from the accelerator together.
_FILE_BYTES = 2 * 1024**3


class BrokenTensorsError(ValueError):
    """A checkpoint whose files are what was saved, but do not hold what this training needs."""


@dataclass(frozen=True)
class Content:
    """What the files of a checkpoint hold.

    Attributes:
        tensors: by the stem of their files, then by name.
        texts: by file name.
    """

    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    texts: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for each in self.tensors.values() for tensor in each.values())

    def copied(self) -> Content:
        """The same in memory of its own, which later steps do not change."""
        return replace(
            self,
            tensors={
                stem: {name: whole(tensor.detach()).to("cpu", copy=True) for name, tensor in each.items()}
                for stem, each in self.tensors.items()
            },
        )

    def write(self, folder: Path) -> None:
        """The files. An adapter is one, whatever its size, as peft and vLLM load it."""
        for stem, each in self.tensors.items():
            _write(folder, stem, each, sys.maxsize if stem == ADAPTER_WEIGHTS else _FILE_BYTES)
        for name, text in self.texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def content(learner: Learner, optimizer: torch.optim.Optimizer, base_uri: str) -> Content:
    """What a checkpoint holds, not copied. An adapter has the names and the configuration that peft and vLLM load."""
    from anneal_trainer.fit.methods import lora

    moments = _moments(learner, optimizer)
    if not _is_adapter(learner):
        return Content({OPTIMIZER: moments, MASTERS: _weights(learner)}, {})
    adapter = lora.on_untouched_base(_adapter(learner), learner.origin)
    config = lora.configuration(learner.model, base_uri, learner.origin)
    # Sets as sorted lists: equal runs, equal bytes.
    text = json.dumps(config, default=sorted, sort_keys=True, indent=2) + "\n"
    return Content({OPTIMIZER: moments, ADAPTER_WEIGHTS: adapter}, {ADAPTER_CONFIG: text})


def take_part(learner: Learner, optimizer: torch.optim.Optimizer) -> None:
    """What every other rank does while the leading one copies or writes: puts together what is dealt out."""
    for tensors in (_moments(learner, optimizer), _weights(learner)):
        for tensor in tensors.values():
            if isinstance(tensor, DTensor):
                whole(tensor.detach())


def _moments(learner: Learner, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """By name, in the order of names, as files have them: all ranks put tensors together in the same order."""
    moments = {f"{name}.{key}": t for name, p in learner.trainable for key, t in kept(optimizer, p).items()}
    return {name: moments[name] for name in sorted(moments)}


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    """What learns, in the order of names."""
    return dict(sorted(learner.trainable, key=lambda named: named[0]))


def restore(checkpoint: Checkpoint, learner: Learner, optimizer: torch.optim.Optimizer) -> None:
    """Puts weights and moments back. After it, the next step is bit for bit that of the run that saved.

    Raises BrokenTensorsError, with nothing changed.
    """
    from anneal_trainer.fit.methods import lora

    trainable = dict(learner.trainable)
    moments, current_moments = read(checkpoint.path, OPTIMIZER), _moments(learner, optimizer)
    _check(moments, current_moments)
    if _is_adapter(learner):
        from peft import set_peft_model_state_dict

        saved = read(checkpoint.path, ADAPTER_WEIGHTS)
        current = _adapter(learner)
        _check(saved, lora.on_untouched_base(current, learner.origin))
        set_peft_model_state_dict(learner.model, lora.on_reduced_base(saved, learner.origin))
    else:
        saved = read(checkpoint.path, MASTERS)
        _check(saved, trainable)
        for name, parameter in trainable.items():
            parameter.data.copy_(like(saved[name], parameter))
    for name, moment in current_moments.items():
        moment.copy_(like(moments[name], moment))
    for parameter in trainable.values():
        count(optimizer, parameter, checkpoint.manifest.step)


def read(folder: Path, stem: str) -> dict[str, torch.Tensor]:
    """All tensors of the files that `Content.write` made of one stem, on the CPU. Raises BrokenTensorsError."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob(f"{stem}*.safetensors")):
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise BrokenTensorsError(f"{path.name} in it is not safetensors: {error}") from error
    return tensors


def _is_adapter(learner: Learner) -> bool:
    return hasattr(learner.model, "peft_config")


def _adapter(learner: Learner) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(learner.model))


def _check(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    if different := sorted(found.keys() ^ expected.keys()):
        raise BrokenTensorsError(f"it has other tensors than this training, first {different[0]}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise BrokenTensorsError(f"{name} in it has another shape or type than in this training")


def _write(folder: Path, stem: str, tensors: Mapping[str, torch.Tensor], most: int) -> None:
    """`<stem>.safetensors`, or `<stem>-00001.safetensors` and so on when one file would have `most` bytes or more."""
    parts: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        size += tensor.nbytes
        if parts[-1] and size > most:
            parts.append({})
            size = tensor.nbytes
        parts[-1][name] = tensor
    for number, part in enumerate(parts, 1):
        name = stem if len(parts) == 1 else f"{stem}-{number:05d}"
        save_file({n: whole(t).cpu().contiguous() for n, t in part.items()}, folder / f"{name}.safetensors")
