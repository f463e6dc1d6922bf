"""Training rows that mean the same as held-out ones in other words: which models tell, and for how much money."""

from __future__ import annotations

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Rule
from anneal.api.references import Endpoint, SecretKeyReference
from anneal.api.subjects import Hosted, ModelName, OpenAI, Price


class Embedder(ApiModel):
    """An embedding model behind anything that speaks OpenAI's embeddings: OpenAI, vLLM, Vincony."""

    base_url: Endpoint = Field(
        default="https://api.openai.com/v1",
        description="URL before /embeddings. Default: https://api.openai.com/v1.",
    )
    model: ModelName = Field(description="Name of the model.")
    secret_ref: SecretKeyReference | None = Field(
        default=None, description="API key, mounted into the pod that asks alone. Default: none is sent."
    )
    price_per_million: Decimal = Field(description='Price of a million tokens, "0" for a server of your own.')

    @property
    def hosted(self) -> Hosted:
        """The same as whoever asks knows it: its answers have no tokens."""
        price = Price(input_per_million=self.price_per_million, output_per_million="0")
        asked = OpenAI(base_url=self.base_url, model=self.model)
        return Hosted(open_ai=asked, secret_ref=self.secret_ref, price=price)


class SemanticCheck(ApiModel):
    """Compares the meaning of questions. Training rows and held-out rows are sent to the models that it names."""

    RULES = (
        Rule(
            cel="!has(self.verifier) || has(self.verifier.price)",
            holds=lambda wanted: wanted.verifier is None or wanted.verifier.price is not None,
            message="verifier needs its price: maxCost is counted by it",
        ),
    )

    embedder: Embedder = Field(description=Embedder.__doc__)
    threshold: Decimal = Field(
        default="0.8",
        description="From which cosine similarity of embeddings on a training row counts as the same question, or is"
        " shown to the verifier, where there is one; from 0.3 to 1. What it means depends on the embedder."
        " Default: 0.8.",
    )
    verifier: Hosted | None = Field(
        default=None,
        description="A chat model that is shown pairs from threshold on and says whether they ask the same: only then"
        " they do. Its maxTokens is 1024 by default. Default: none.",
    )
    neighbours: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Most held-out rows that the verifier is asked about for each training row, nearest first."
        " Default: 3.",
    )
    max_cost: Decimal = Field(
        description="Most that embedder and verifier may cost together, in the currency of their prices. The job fails"
        " before it is exceeded: half a check would pass for a whole one."
    )
    concurrency: int = Field(
        default=8, ge=1, le=64, description="Requests under way at once to each model. Default: 8."
    )
    timeout_seconds: int = Field(
        default=120, ge=1, le=3600, description="Longest wait for one reply, in seconds. Default: 120."
    )
