"""Who answers in an Evaluation, the model under judgement and those it is compared with, and how they answer."""

from __future__ import annotations

from pydantic import Field

from anneal.api.model import ApiModel, Digest, EntryName
from anneal.api.references import LocalReference

RUNTIMES = ("triton",)

#: The name that results use for the model under judgement.
CANDIDATE = "candidate"


class Candidate(ApiModel):
    """The model under judgement."""

    fine_tune_job_ref: LocalReference = Field(description="FineTuneJob whose artifact is judged.")


class FromCandidate(ApiModel):
    """The base model that the candidate was tuned from."""


class Baseline(ApiModel):
    """A model that answers the same rows, to compare with."""

    ONE_OF = ("fromCandidate",)

    name: EntryName = Field(description="Name that gates use for it; not 'candidate'.")
    from_candidate: FromCandidate | None = Field(
        default=None, description="Take the base model that the candidate was tuned from."
    )


class TritonServing(ApiModel):
    """Serve with NVIDIA Triton Inference Server."""


class Serving(ApiModel):
    """The runtime that answers: what is judged is what will be served."""

    ONE_OF = RUNTIMES

    triton: TritonServing | None = Field(default=None, description=TritonServing.__doc__)


class Generation(ApiModel):
    """How answers are generated, for every model alike. Decoding is greedy, so that runs repeat."""

    max_tokens: int = Field(
        default=256,
        ge=1,
        le=32_768,
        description="Longest answer, in tokens; an answer cut off here is an error, not a wrong answer. Default: 256.",
    )
    concurrency: int = Field(default=8, ge=1, le=256, description="Requests under way at once. Default: 8.")
    timeout_seconds: int = Field(
        default=120, ge=1, le=3600, description="Longest wait for one answer, in seconds. Default: 120."
    )


class ModelResult(ApiModel):
    """One model's answers, counted."""

    name: str = Field(max_length=40, description="'candidate' or the name of the baseline.")
    digest: Digest = Field(description="Digest of what answered.")
    n: int = Field(ge=0, description="Rows asked.")
    errors: int = Field(default=0, ge=0, description="Rows without an answer.")
    truncated: int = Field(default=0, ge=0, description="Answers cut off at maxTokens; they count as errors too.")
