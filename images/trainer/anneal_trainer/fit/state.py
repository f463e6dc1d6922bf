"""How far training is, in numbers: what a checkpoint has to remember beside the tensors."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, Field

from anneal.api.training import TrainingStatus

_RECENT_STEPS = 10
_CURVE_POINTS = 128
_REMARKS = 8
_REMARK_LENGTH = 256


class LossPoint(BaseModel):
    """The loss of some steps that end with `step`: its sum over `tokens` answer tokens."""

    step: int
    loss_sum: float
    tokens: int

    @property
    def mean(self) -> float:
        return self.loss_sum / max(1, self.tokens)

    def joined(self, later: LossPoint) -> LossPoint:
        return LossPoint(step=later.step, loss_sum=self.loss_sum + later.loss_sum, tokens=self.tokens + later.tokens)


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
    tokens: int = 0
    computed: int = 0
    seconds: float = 0.0
    resumes: int = 0
    recent: list[LossPoint] = Field(default_factory=list)
    curve: list[LossPoint] = Field(default_factory=list)
    curve_width: int = 1
    remarks: list[str] = Field(default_factory=list)
    validated: Validated | None = None

    def record(self, point: LossPoint, tokens: int, computed: int, seconds: float) -> None:
        """Counts a step that is done: its loss, the tokens of its rows and those that were computed, its time."""
        self.step = point.step
        self.tokens += tokens
        self.computed += computed
        self.seconds += seconds
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

    def _extend_curve(self, point: LossPoint) -> None:
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
        if not self.recent:
            return ""
        total = self.recent[0]
        for point in self.recent[1:]:
            total = total.joined(point)
        return f"{total.mean:.4g}"

    def status(self) -> TrainingStatus:
        return TrainingStatus(
            steps=self.step,
            loss=self.loss,
            tokens=self.tokens,
            computed_tokens=self.computed,
            seconds=round(self.seconds),
            validation_loss=f"{self.validated.best_loss:.4g}" if self.validated else None,
            best_step=self.validated.best_step if self.validated else None,
            remarks=self.remarks or None,
        )
