"""The examples of a FineTuneJob: where they are, what they must be like, and what became of each row."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.model import ApiModel, Digest, Rule
from anneal.api.references import Endpoint, LocalReference, SourceUri
from anneal.api.sources import ENDPOINT_DESCRIPTION, KEYS_DESCRIPTION

DataFormat = Literal["Auto", "Messages", "PromptCompletion", "Alpaca"]


class DatasetSource(ApiModel):
    """One JSONL file of examples."""

    RULES = (
        Rule(
            cel="!self.uri.startsWith('pvc://') || !has(self.secretRef)",
            holds=lambda source: not (source.uri.startswith("pvc://") and source.secret_ref),
            message="secretRef is for data that is fetched (hf://, s3://, https://), not for pvc://",
        ),
        Rule(
            cel="!has(self.endpoint) || self.uri.startsWith('hf://') || self.uri.startsWith('s3://')",
            holds=lambda source: source.endpoint is None or source.uri.startswith(("hf://", "s3://")),
            message="endpoint is for hf:// and s3:// alone",
        ),
    )

    uri: SourceUri = Field(
        description="JSON Lines file: pvc://claim/path, https://host/path, s3://bucket/key, or a file of a dataset of a"
        " Hub, hf://datasets/owner/name[:revision]/path."
    )
    secret_ref: LocalReference | None = Field(default=None, description=KEYS_DESCRIPTION)
    endpoint: Endpoint | None = Field(default=None, description=ENDPOINT_DESCRIPTION)
    format: DataFormat = Field(
        default="Auto",
        description="Messages ({messages:[{role,content}]}), PromptCompletion ({prompt, completion} or {prompt,"
        " response}), Alpaca ({instruction, input, output}), or Auto: detected row by row. Default: Auto.",
    )


class DatasetExpectations(ApiModel):
    """What the data must be like for the job to go on."""

    min_examples: int = Field(
        default=10, ge=1, le=1_000_000, description="Fewest valid training rows, in rows. Default: 10."
    )
    max_invalid_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Rows that may be invalid before the job fails, in rows; invalid rows are left out and"
        " reported with their line. Default: 0.",
    )


class DatasetSplit(ApiModel):
    """The rows that are kept from training, for the Evaluation to judge with."""

    held_out: int = Field(
        default=150,
        ge=0,
        le=100_000,
        description="Held-out rows, drawn at random by seed, in rows. Default: 150.",
    )
    seed: int = Field(default=42, ge=0, le=2_147_483_647, description="Seed of the draw. Default: 42.")


class Dataset(ApiModel):
    """The examples to learn from."""

    sources: list[DatasetSource] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Files to read, in order; together they are one dataset.",
    )
    expect: DatasetExpectations = Field(
        default_factory=DatasetExpectations,
        description="Limits after which the job fails instead of going on.",
    )
    split: DatasetSplit = Field(default_factory=DatasetSplit, description="The held-out split.")
    system_prompt: str | None = Field(
        default=None,
        max_length=8192,
        description="System message put before rows that have none, in training and in evaluation. Default: none.",
    )


class DatasetCounts(ApiModel):
    """Where the rows went."""

    read: int = Field(default=0, ge=0, description="Rows read from all sources.")
    invalid: int = Field(default=0, ge=0, description="Rows left out as invalid.")
    train: int = Field(default=0, ge=0, description="Rows to train on.")
    held_out: int = Field(default=0, ge=0, description="Rows kept for evaluation.")
    train_tokens: int = Field(default=0, ge=0, description="Tokens of the training rows, one pass.")


class DatasetStatus(ApiModel):
    """The data as it was prepared."""

    digest: Digest = Field(description="Digest of the prepared training rows.")
    test_digest: Digest = Field(description="Digest of the held-out rows.")
    counts: DatasetCounts = Field(description="Where the rows went.")
