"""How an answer of a model is scored against its reference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, EntryName
from anneal.api.plugins import Plugin

METRICS = (
    "exactMatch",
    "normalizedMatch",
    "f1",
    "regex",
    "jsonField",
    "jsonSchema",
    "numeric",
    "label",
    "rougeL",
    "chrf",
    "judged",
    "rubric",
    "preference",
    "noRefusal",
    "guard",
    "plugin",
)


class ExactMatch(ApiModel):
    """1 where the answer, stripped of surrounding white space, equals the reference."""


class NormalizedMatch(ApiModel):
    """1 where answer and reference are equal after NFKC, case folding, and dropping punctuation and articles."""


class TokenF1(ApiModel):
    """Harmonic mean of word precision and recall of the normalised answer (as in SQuAD, Rajpurkar et al. 2016)."""


class Regex(ApiModel):
    """1 where what the pattern finds in the answer equals what it finds in the reference."""

    pattern: str = Field(
        min_length=1,
        max_length=512,
        description="Regular expression with at most one group; its last match counts, in answer and reference.",
    )


class JsonField(ApiModel):
    """1 where a field of the JSON object in the answer equals that of the reference."""

    path: str = Field(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=256,
        description="Field names joined by dots, such as order.status.",
    )


class JsonSchema(ApiModel):
    """1 where the whole answer is JSON that satisfies a schema; without a code fence, prose or a reference."""

    schema_: str = Field(
        alias="schema",
        min_length=2,
        max_length=16_384,
        description="The schema as JSON text, of JSON Schema 2020-12. Its $ref stay in it (#/$defs/...), format is not"
        " checked. The reference answers of the held-out rows must satisfy it.",
    )


class Numeric(ApiModel):
    """1 where the last number of the answer is that of the reference, within the larger of two tolerances."""

    absolute_tolerance: Decimal = Field(
        default="0", description="Largest difference, in the numbers' own unit. Default: 0."
    )
    relative_tolerance: Decimal = Field(
        default="0", description='Largest difference as a share of the reference, such as "0.01". Default: 0.'
    )


LabelName = Annotated[str, Field(min_length=1, max_length=64)]


class Label(ApiModel):
    """1 where the answer is the label of the reference, but for case, punctuation and separators."""

    labels: list[LabelName] = Field(
        min_length=2,
        max_length=100,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="All labels; the report counts which is taken for which.",
    )


class RougeL(ApiModel):
    """F-measure of the longest common subsequence of words (ROUGE-L, Lin 2004)."""


class ChrF(ApiModel):
    """F-measure of character n-grams, recall weighing double (chrF2, Popović 2015): for languages with inflection."""


class Judged(ApiModel):
    """1 where spec.judge finds the answer correct, given the question and the reference."""

    criteria: str | None = Field(
        default=None,
        max_length=2048,
        description="What matters beside the reference, told to the judge. Default: none.",
    )


class Rubric(ApiModel):
    """How well spec.judge finds the answer to meet criteria, graded 1 to 5 and scored (grade - 1) / 4."""

    criteria: str = Field(
        min_length=1, max_length=2048, description="What a good answer is, told to the judge with the scale."
    )


class Preference(ApiModel):
    """Whether spec.judge prefers the candidate's answer to a baseline's: 1 won, 0.5 tie, 0 lost.

    Every pair is judged in both orders; what is not the same in both is a tie. The difference to the baseline is the
    share of rows won less the share lost.
    """

    over: EntryName = Field(description="Name of the baseline; gates on this metric compare with no other.")
    criteria: str | None = Field(
        default=None, max_length=2048, description="What makes an answer better, told to the judge. Default: none."
    )


class NoRefusal(ApiModel):
    """1 where the answer does not refuse what was asked, right or wrong: against refusing what is harmless."""

    told_by: Literal["Judge", "Guard"] = Field(
        default="Judge",
        description="Who tells a refusal: spec.judge, or spec.guard where it is a qwen3Guard. Default: Judge.",
    )


class Safe(ApiModel):
    """1 where spec.guard finds the answer safe, 0 where unsafe: against complying with what is harmful."""


CategoryName = Annotated[str, Field(min_length=1, max_length=256)]


class Only(ApiModel):
    """Some of the held-out rows."""

    categories: list[CategoryName] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Rows of these categories, as dataset.category of the FineTuneJob or the sealed rows have them.",
    )


class Metric(ApiModel):
    """How an answer is scored against its reference, 0 to 1, higher is better. Exactly one kind is set."""

    ONE_OF = METRICS

    name: EntryName = Field(description="Name that gates use for it.")
    exact_match: ExactMatch | None = Field(default=None, description=ExactMatch.__doc__)
    normalized_match: NormalizedMatch | None = Field(default=None, description=NormalizedMatch.__doc__)
    f1: TokenF1 | None = Field(default=None, description=TokenF1.__doc__)
    regex: Regex | None = Field(default=None, description=Regex.__doc__)
    json_field: JsonField | None = Field(default=None, description=JsonField.__doc__)
    json_schema: JsonSchema | None = Field(default=None, description=JsonSchema.__doc__)
    numeric: Numeric | None = Field(default=None, description=Numeric.__doc__)
    label: Label | None = Field(default=None, description=Label.__doc__)
    rouge_l: RougeL | None = Field(default=None, description=RougeL.__doc__)
    chrf: ChrF | None = Field(default=None, description=ChrF.__doc__)
    judged: Judged | None = Field(default=None, description=Judged.__doc__)
    rubric: Rubric | None = Field(default=None, description=Rubric.__doc__)
    preference: Preference | None = Field(default=None, description=Preference.__doc__)
    no_refusal: NoRefusal | None = Field(default=None, description=NoRefusal.__doc__)
    guard: Safe | None = Field(default=None, description=Safe.__doc__)
    plugin: Plugin | None = Field(default=None, description=Plugin.__doc__)
    only: Only | None = Field(
        default=None, description="Score these rows and leave out the others, in its gates too. Default: all."
    )

    @property
    def needs_judge(self) -> bool:
        """Whether spec.judge scores it."""
        return any((self.judged, self.rubric, self.preference, self._refusals_told_by("Judge")))

    @property
    def needs_guard(self) -> bool:
        """Whether spec.guard scores it."""
        return self.guard is not None or self._refusals_told_by("Guard")

    def covers(self, category: str | None) -> bool:
        """Whether it scores rows of this category."""
        return self.only is None or category in self.only.categories

    def _refusals_told_by(self, who: str) -> bool:
        return self.no_refusal is not None and self.no_refusal.told_by == who


class MetricResult(ApiModel):
    """One metric of one model, with its bounds."""

    metric: str = Field(max_length=40, description="Name of the metric.")
    model: str = Field(max_length=40, description="Name of the model.")
    n: int = Field(ge=0, description="Rows scored.")
    value: str = Field(max_length=16, description="Mean score, 0 to 1.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")
