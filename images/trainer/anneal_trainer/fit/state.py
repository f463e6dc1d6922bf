"""How far training is, in numbers: what a checkpoint has to remember beside the tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

from pydantic import BaseModel, Field

from anneal.api.training import TrainingStatus

_RECENT_STEPS = 10
_CURVE_POINTS = 128
_REMARKS = 8
_REMARK_LENGTH = 256


class Point(BaseModel):
    """Some steps that end with `step`, in sums over all ranks.

    Attributes:
        loss_sum: over the answer tokens, of which there are `tokens`.
        row_tokens: tokens of the rows.
        computed: tokens that went through the model: padding counts, beginnings that rows share count once a pass.
        seconds: in steps, without saving and validating.
        useful, possible: operations that the model asks for, and those that the accelerators can do in that time; both
            0 where the latter is not known.
        peak_bytes: memory at the largest moment so far, of the leading rank.
    """

    step: int
    loss_sum: float
    tokens: int
    row_tokens: int = 0
    computed: int = 0
    seconds: float = 0.0
    useful: float = 0.0
    possible: float = 0.0
    peak_bytes: int = 0

    @property
    def mean(self) -> float:
        """Loss per answer token."""
        return self.loss_sum / max(1, self.tokens)

    @property
    def tokens_per_second(self) -> float:
        return self.row_tokens / max(1e-9, self.seconds)

    @property
    def mfu(self) -> float | None:
        """Model FLOP utilisation (`pace.py`), None where the peak of the accelerator is not known."""
        return self.useful / self.possible if self.possible else None

    def joined(self, later: Point) -> Point:
        sums = ("loss_sum", "tokens", "row_tokens", "computed", "seconds", "useful", "possible")
        return Point(
            step=later.step,
            peak_bytes=max(self.peak_bytes, later.peak_bytes),
            **{name: getattr(self, name) + getattr(later, name) for name in sums},
        )


class Validated(BaseModel):
    """What the rows set aside have said so far. `mark` is the loss that a gain must be below."""

    loss: float
    best_step: int
    best_loss: float
    mark: float
    without_gain: int = 0


class TrainingState(BaseModel):
    """Counters over all attempts. The step is also the data cursor: which rows come next follows from it."""

    step: int = 0
    resumes: int = 0
    recent: list[Point] = Field(default_factory=list)
    curve: list[Point] = Field(default_factory=list)
    curve_width: int = 1
    remarks: list[str] = Field(default_factory=list)
    validated: Validated | None = None

    def record(self, point: Point) -> None:
        """Counts a step that is done."""
        self.step = point.step
        self.recent = [*self.recent, point][-_RECENT_STEPS:]
        self._extend_curve(point)

    def validate_with(self, loss: float, min_delta: float) -> bool:
        """Takes the loss of the rows set aside after the last step. Whether it is the best so far."""
        before = self.validated
        if before is None:
            self.validated = Validated(loss=loss, best_step=self.step, best_loss=loss, mark=loss)
            return True
        gained, best = loss < before.mark - min_delta, loss < before.best_loss
        self.validated = Validated(
            loss=loss,
            best_step=self.step if best else before.best_step,
            best_loss=loss if best else before.best_loss,
            mark=loss if gained else before.mark,
            without_gain=0 if gained else before.without_gain + 1,
        )
        return best

    def remark(self, sentences: Iterable[str]) -> None:
        """Keeps what the user should know, once, at most 8 sentences of 256 characters: the oldest give way."""
        for sentence in sentences:
            short = sentence if len(sentence) <= _REMARK_LENGTH else sentence[: _REMARK_LENGTH - 1] + "…"
            self.remarks = [*(r for r in self.remarks if r != short), short][-_REMARKS:]

    def _extend_curve(self, point: Point) -> None:
        """The whole run in at most 128 points: when they are used up, neighbours become one."""
        if self.curve and (point.step - 1) % self.curve_width:
            self.curve[-1] = self.curve[-1].joined(point)
        else:
            self.curve.append(point)
        if len(self.curve) > _CURVE_POINTS:
            pairs = [self.curve[i : i + 2] for i in range(0, len(self.curve), 2)]
            self.curve = [p[0].joined(p[1]) if len(p) == 2 else p[0] for p in pairs]
            self.curve_width *= 2

    @property
    def loss(self) -> str:
        """Mean loss per answer token over the last steps, four digits; empty before the first step."""
        return f"{self.lately.mean:.4g}" if self.recent else ""

    @property
    def lately(self) -> Point:
        """The last steps as one."""
        return _as_one(self.recent)

    @property
    def whole(self) -> Point:
        """All steps as one."""
        return _as_one(self.curve)

    @property
    def tokens(self) -> int:
        """Tokens of the rows that were trained on."""
        return sum(point.row_tokens for point in self.curve)

    def status(self) -> TrainingStatus:
        whole = self.whole
        return TrainingStatus(
            steps=self.step,
            loss=self.loss,
            tokens=whole.row_tokens,
            computed_tokens=whole.computed,
            seconds=round(whole.seconds),
            mfu=f"{whole.mfu:.3f}" if whole.mfu is not None else None,
            peak_memory_bytes=whole.peak_bytes or None,
            validation_loss=f"{self.validated.best_loss:.4g}" if self.validated else None,
            best_step=self.validated.best_step if self.validated else None,
            remarks=self.remarks or None,
        )


def _as_one(points: Sequence[Point]) -> Point:
    return reduce(Point.joined, points, Point(step=0, loss_sum=0.0, tokens=0))
