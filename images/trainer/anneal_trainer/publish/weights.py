"""The weights of an artifact: an adapter as training saved it, or a whole model, written as any other model is.

A whole model is made from the base as it was published, never from what training held in memory: an adapter that was
trained on a 4-bit base is added to the base's own weights, and weights that were trained in float32 are rounded once,
to the precision of the base.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anneal.api.runs import PublishRun
from anneal_trainer.fit.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MASTERS, Checkpoint

if TYPE_CHECKING:
    import torch

#: Largest file of a whole model.
_SHARD = "4GB"


def write(folder: Path, run: PublishRun, checkpoint: Checkpoint) -> None:
    """Writes the weights and the configuration that they need. Raises UserMistake when the base cannot be loaded."""
    if run.contents == "Adapter":
        for name in (f"{ADAPTER_WEIGHTS}.safetensors", ADAPTER_CONFIG):
            shutil.copyfile(checkpoint.path / name, folder / name)
        return
    whole = _trained(run, checkpoint) if run.method.full is not None else _merged(run, checkpoint)
    whole.save_pretrained(folder, max_shard_size=_SHARD)


def _base(run: PublishRun) -> Any:
    """The base on the CPU, in the precision of its files."""
    import torch

    from anneal_trainer import model

    return model.load(run.model, "auto", torch.device("cpu"))


def _trained(run: PublishRun, checkpoint: Checkpoint) -> Any:
    """The base with all weights that were trained in place of its own."""
    from anneal_trainer.fit import tensors

    model = _base(run)
    masters = tensors.read(checkpoint.path, MASTERS)
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    if different := sorted(masters.keys() - parameters.keys()):
        raise tensors.BrokenTensorsError(f"the checkpoint does not fit the base model, first {different[0]}")
    for name, master in masters.items():
        parameters[name].data.copy_(master)
    return model


def _merged(run: PublishRun, checkpoint: Checkpoint) -> Any:
    """The base with the adapter's change added to its weights, in float32, rounded once."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_base(run), checkpoint.path).merge_and_unload(safe_merge=True)
