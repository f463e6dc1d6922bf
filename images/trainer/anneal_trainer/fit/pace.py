"""How fast training is: tokens a second, model FLOP utilisation, time of a step, memory at the largest moment."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from anneal.api.runs import ProgressReport
from anneal.estimate.accelerators import peak_of
from anneal_trainer.fit.state import Point, TrainingState


@dataclass(frozen=True)
class Meter:
    """What a step's time is compared with.

    Attributes:
        flops_per_token: operations that the model asks for, for one token of the rows.
        peak: operations a second that all accelerators can do together; None where that is not known.
    """

    device: torch.device
    flops_per_token: float = 0.0
    peak: float | None = None

    def measured(self, point: Point, row_tokens: int, computed: int, seconds: float) -> Point:
        """`point` with what a step of so many tokens and seconds was.

        Model FLOP utilisation (Chowdhery et al. 2022, PaLM, section 4.1) is tokens a second, times the operations that
        the model asks for per token, over the peak of the accelerators. What is computed again to save memory does not
        count, nor do gradients of frozen weights, which nobody needs (`anneal.estimate.time.flops_per_token`). Padding
        is no token of a row, and beginnings that rows share are computed, and so counted, once.
        """
        useful = self.flops_per_token * min(row_tokens, computed)
        return point.model_copy(
            update={
                "row_tokens": row_tokens,
                "computed": computed,
                "seconds": seconds,
                "useful": useful if self.peak is not None else 0.0,
                "possible": self.peak * seconds if self.peak is not None else 0.0,
                "peak_bytes": peak_bytes(self.device),
            }
        )


def peak_flops(device: torch.device, arithmetic: torch.dtype, teraflops: Mapping[str, float]) -> float | None:
    """FLOP/s of this accelerator at most; None on CPU, for an unknown product, and in any arithmetic but bfloat16."""
    if device.type != "cuda" or arithmetic != torch.bfloat16:
        return None
    return peak_of(torch.cuda.get_device_name(device), teraflops)


def peak_bytes(device: torch.device) -> int:
    """Memory of this process at its largest moment so far: tensors on an accelerator, or all of it on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class Pace:
    """How fast this attempt is, saving and validating included, for the time that is left."""

    state: TrainingState
    total_steps: int
    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        self.steps, self.tokens = self.state.step, self.state.tokens

    def report(self, saved_step: int) -> ProgressReport:
        """What is told of the training now."""
        state, lately = self.state, self.state.lately
        seconds = max(1e-3, time.monotonic() - self.began)
        steps = state.step - self.steps
        return ProgressReport(
            percent=100 * state.step // self.total_steps,
            eta_seconds=round((self.total_steps - state.step) * seconds / steps) if steps else None,
            step=state.step,
            total_steps=self.total_steps,
            loss=state.loss or None,
            tokens_per_second=round((state.tokens - self.tokens) / seconds),
            step_seconds=f"{lately.seconds / len(state.recent):.3g}" if state.recent else None,
            mfu=f"{lately.mfu:.3f}" if lately.mfu is not None else None,
            peak_memory_bytes=lately.peak_bytes or None,
            checkpoint_step=saved_step,
            resumes=state.resumes,
            validation_loss=f"{state.validated.loss:.4g}" if state.validated else None,
            remarks=state.remarks or None,
        )
