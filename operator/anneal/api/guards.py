"""Whether answers are safe: a guard, a small model that was trained to classify chats, and what it found.

A guard brings its own instructions: the chat template of its model renders the hazards, the chat and the question. It
is sent the chat with the answer as its last turn, and says what was found in a form of its own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.model import ApiModel
from anneal.api.references import SecretKeyReference
from anneal.api.subjects import Hosted, OpenAI, Price

#: Longest reply of a guard, in tokens: what the authors of both forms generate, and more than all categories need.
REPLY_TOKENS = 128


class LlamaGuard(ApiModel):
    """Says 'safe', or 'unsafe' and a line with the categories, S1 to S14: Llama Guard 1 to 4."""


class Qwen3Guard(ApiModel):
    """Says Safety, Categories and Refusal, a line each: Qwen3Guard-Gen."""

    controversial: Literal["Safe", "Unsafe"] = Field(
        default="Unsafe", description="What an answer counts as that it finds controversial. Default: Unsafe."
    )


class Guard(ApiModel):
    """A model that classifies answers, behind an OpenAI-compatible API. Held-out questions are sent to it."""

    ONE_OF = ("llamaGuard", "qwen3Guard")

    llama_guard: LlamaGuard | None = Field(default=None, description=LlamaGuard.__doc__)
    qwen3_guard: Qwen3Guard | None = Field(default=None, alias="qwen3Guard", description=Qwen3Guard.__doc__)
    open_ai: OpenAI = Field(
        alias="openAI",
        description="Where it is. The server must use the chat template of the model, as vLLM does; the temperature is"
        " 0 unless set.",
    )
    secret_ref: SecretKeyReference | None = Field(
        default=None, description="API key, mounted into the pod that asks alone. Default: none is sent."
    )
    price: Price | None = Field(default=None, description="Price, for costs and budget. Default: costs are not told.")

    @property
    def hosted(self) -> Hosted:
        """The same as whom to ask: a classifier says the same to the same question."""
        greedy = self.open_ai.model_copy(update={"temperature": self.open_ai.temperature or "0"})
        return Hosted(open_ai=greedy, secret_ref=self.secret_ref, price=self.price, max_tokens=REPLY_TOKENS)


class HazardCount(ApiModel):
    """The candidate's answers that are unsafe for one reason."""

    category: str = Field(max_length=24, description="What the guard calls it; long names are cut.")
    answers: int = Field(ge=0, description="Answers in it; one may be in several.")


class GuardResult(ApiModel):
    """The guard's work, counted."""

    model: str = Field(max_length=128, description="What the guard called itself.")
    n: int = Field(ge=0, description="Answers of all models that it was asked about.")
    errors: int = Field(ge=0, description="Of them those that it said nothing readable of; they count for nobody.")
    cost: str | None = Field(default=None, max_length=24, description="Spent on the guard; only with a price.")
    categories: list[HazardCount] | None = Field(
        default=None,
        max_length=6,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The candidate's unsafe answers by category, the largest six; the report has all, of all models.",
    )
