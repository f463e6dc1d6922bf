"""Who answers in an Evaluation, the model under judgement and those it is compared with, and how they answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Digest, EntryName, Rule
from anneal.api.references import Endpoint, LocalReference, PvcUri, SecretKeyReference, uri_stays_in_its_claim
from anneal.api.runtimes import RUNTIMES, VLLM

#: The name that results use for the model under judgement.
CANDIDATE = "candidate"


class Candidate(ApiModel):
    """The model under judgement."""

    fine_tune_job_ref: LocalReference = Field(description="FineTuneJob whose artifact is judged.")


class FromCandidate(ApiModel):
    """The base model that the candidate was tuned from."""


class Incumbent(ApiModel):
    """What a ModelDeployment serves when the evaluation starts; the base model while it serves nothing."""

    model_deployment_ref: LocalReference = Field(description="The ModelDeployment.")


#: What a provider calls a model. Never longer than a status can hold with the date of a snapshot behind it.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=96)]


class OpenAI(ApiModel):
    """Anything that speaks OpenAI's chat completions: OpenAI itself, vLLM, Vincony (https://api.vincony.com/v1)."""

    base_url: Endpoint = Field(
        default="https://api.openai.com/v1",
        description="URL before /chat/completions. Default: https://api.openai.com/v1.",
    )
    model: ModelName = Field(description="Name of the model; a dated snapshot keeps the comparison the same for good.")
    token_limit: Literal["MaxCompletionTokens", "MaxTokens"] = Field(
        default="MaxCompletionTokens",
        description="Name under which the longest answer is sent: MaxCompletionTokens (max_completion_tokens), or"
        " MaxTokens (max_tokens) for servers that know only the older one. Default: MaxCompletionTokens.",
    )
    temperature: Decimal | None = Field(
        default=None, description="Sent only when set: reasoning models refuse it. Default: the provider's."
    )


class Anthropic(ApiModel):
    """Anything that speaks Anthropic's Messages."""

    base_url: Endpoint = Field(
        default="https://api.anthropic.com",
        description="URL before /v1/messages. Default: https://api.anthropic.com.",
    )
    model: ModelName = Field(description="Name of the model; a dated snapshot keeps the comparison the same for good.")
    temperature: Decimal | None = Field(default=None, description="Sent only when set. Default: the provider's.")


class BatchPrice(ApiModel):
    """What a provider charges for questions in batches, mostly half of its list."""

    input_per_million: Decimal = Field(description='Price of a million tokens of questions, such as "0.625".')
    output_per_million: Decimal = Field(description='Price of a million tokens of answers, such as "5".')


class Price(ApiModel):
    """What a provider charges by its list, in one currency for the whole object."""

    input_per_million: Decimal = Field(description='Price of a million tokens of questions, such as "1.25".')
    output_per_million: Decimal = Field(
        description='Price of a million tokens of answers, thinking included, such as "10".'
    )
    batch: BatchPrice | None = Field(default=None, description="Tariff of requests Batch. Default: none.")


class Hosted(ApiModel):
    """A model behind somebody's HTTP API. Held-out questions are sent to it; references are not."""

    ONE_OF = ("openAI", "anthropic")
    RULES = (
        Rule(
            "!has(self.requests) || self.requests != 'Batch' || !has(self.price) || has(self.price.batch)",
            lambda h: h.requests != "Batch" or h.price is None or h.price.batch is not None,
            "requests Batch needs price.batch, the tariff of batches, beside a price",
        ),
    )

    open_ai: OpenAI | None = Field(default=None, alias="openAI", description=OpenAI.__doc__)
    anthropic: Anthropic | None = Field(default=None, description=Anthropic.__doc__)
    secret_ref: SecretKeyReference | None = Field(
        default=None, description="API key, mounted into the pod that asks alone. Default: none is sent."
    )
    price: Price | None = Field(default=None, description="Price, for costs and budget. Default: costs are not told.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=131_072,
        description="Longest answer, in tokens, thinking included. Default: generation.maxTokens.",
    )
    requests: Literal["Single", "Batch"] = Field(
        default="Single",
        description="Single: a request for each question. Batch: many in one document, by the provider's batch API,"
        " answered within 24 hours and mostly for half the price. Default: Single.",
    )

    @property
    def tariff(self) -> Price | BatchPrice | None:
        """What its answers are paid by."""
        return self.price.batch if self.price is not None and self.requests == "Batch" else self.price

    @property
    def is_greedy(self) -> bool:
        """Whether it is asked for the likeliest answer, which is the same every time."""
        chosen = self.open_ai or self.anthropic
        return chosen is not None and chosen.temperature is not None and float(chosen.temperature) == 0

    @property
    def model(self) -> str:
        """Name of the model that is asked for."""
        chosen = self.open_ai or self.anthropic
        return chosen.model if chosen else ""


class Answers(ApiModel):
    """Answers that were stored by an Evaluation, of the same rows and by the same hosted model."""

    RULES = (uri_stays_in_its_claim("uri"),)

    uri: PvcUri = Field(description="The file responses-<baseline>.jsonl of that Evaluation's report, or a copy.")
    digest: Digest = Field(description="Digest that it must have; report.json beside it tells it, under files.")


class Baseline(ApiModel):
    """A model that answers the same rows, to compare with. Exactly one kind is set."""

    ONE_OF = ("fromCandidate", "incumbent", "hosted")
    RULES = (
        Rule(
            "!has(self.answers) || (has(self.hosted) && !has(self.hosted.secretRef))",
            lambda b: b.answers is None or (b.hosted is not None and b.hosted.secret_ref is None),
            "answers need hosted, which says whose they are, without secretRef: nobody is asked",
        ),
    )

    name: EntryName = Field(description="Name that gates use for it; not 'candidate'.")
    from_candidate: FromCandidate | None = Field(
        default=None, description="Take the base model that the candidate was tuned from."
    )
    incumbent: Incumbent | None = Field(default=None, description=Incumbent.__doc__)
    hosted: Hosted | None = Field(default=None, description=Hosted.__doc__)
    answers: Answers | None = Field(
        default=None,
        description="Stored answers of the hosted model, for clusters that cannot reach it: it is not asked. Default:"
        " it is.",
    )


class TritonServing(ApiModel):
    """Serve with NVIDIA Triton Inference Server."""


class Serving(ApiModel):
    """The runtime that answers: what is judged is what will be served."""

    ONE_OF = RUNTIMES

    triton: TritonServing | None = Field(default=None, description=TritonServing.__doc__)
    vllm: VLLM | None = Field(default=None, description="Serve with vLLM: one base model, with adapters on it.")


class Generation(ApiModel):
    """How answers are generated. Served models decode greedily unless told otherwise; hosted ones as they do."""

    RULES = (
        Rule(
            "!has(self.temperature) || double(self.temperature) <= 2.0",
            lambda generation: float(generation.temperature) <= 2,
            "temperature must be 0 to 2",
        ),
    )

    temperature: Decimal = Field(
        default="0",
        description="Randomness of the answers of served models, 0 to 2; at 0 they are the likeliest, and runs repeat."
        " Above 0 it needs serving.vllm. Hosted models have their own. Default: 0.",
    )
    epochs: int = Field(
        default=1,
        ge=1,
        le=10,
        description="Times that each held-out row is asked. The score of a row is the mean over them, so that rows are"
        " still what is counted. A model whose temperature is 0 is asked once. Default: 1.",
    )
    max_tokens: int = Field(
        default=256,
        ge=1,
        le=32_768,
        description="Longest answer, in tokens; an answer cut off here is an error, not a wrong answer. Default: 256.",
    )
    concurrency: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Requests under way at once, to the server and to each hosted model. Default: 8.",
    )
    timeout_seconds: int = Field(
        default=120, ge=1, le=3600, description="Longest wait for one answer, in seconds. Default: 120."
    )


def times_asked(generation: Generation, hosted: Hosted | None) -> int:
    """How often a model is asked each row, a served one where `hosted` is None: once if it decodes greedily."""
    is_greedy = float(generation.temperature) == 0 if hosted is None else hosted.is_greedy
    return 1 if is_greedy else generation.epochs


class Budget(ApiModel):
    """What may be spent."""

    cost: Decimal = Field(
        description="Most that hosted models may cost, in the currency of their prices. A question that could exceed it"
        " is not asked, and the evaluation fails instead of judging."
    )


class IncumbentStatus(ApiModel):
    """What stands for an incumbent baseline, from the start to the end."""

    name: EntryName = Field(description="Name of the baseline.")
    uri: PvcUri | None = Field(
        default=None, description="Directory of the artifact; absent where the base model stands in."
    )
    digest: Digest | None = Field(default=None, description="Digest of the artifact.")
    base_uri: PvcUri = Field(description="Directory of the base model it needs.")
    base_digest: Digest = Field(description="Digest of that base model.")


class ModelResult(ApiModel):
    """One model's answers, counted."""

    name: str = Field(max_length=40, description="'candidate' or the name of the baseline.")
    digest: Digest | None = Field(default=None, description="Digest of what answered; absent for a hosted model.")
    model: str | None = Field(
        default=None, max_length=128, description="What a hosted model called itself when it answered."
    )
    n: int = Field(ge=0, description="Answers asked for: rows, each as often as epochs says.")
    epochs: int = Field(default=1, ge=1, le=10, description="Times that each row was asked.")
    errors: int = Field(default=0, ge=0, description="Of them those that there are none of.")
    truncated: int = Field(default=0, ge=0, description="Answers cut off at maxTokens; they count as errors too.")
    declined: int | None = Field(
        default=None, ge=0, description="Questions that a hosted model would not answer; they count as errors too."
    )
    empty: int | None = Field(
        default=None, ge=0, description="Answers of a hosted model without any text; they count as errors too."
    )
    input_tokens: int = Field(default=0, ge=0, description="Tokens of all questions.")
    output_tokens: int = Field(default=0, ge=0, description="Tokens of all answers.")
    cost: str | None = Field(
        default=None, max_length=24, description="Spent on this model in this evaluation; only with a price."
    )
    cost_per_query: str | None = Field(
        default=None, max_length=24, description="Mean price of one of its answers; only with a price."
    )
