"""The examples of a FineTuneJob: where they are, what they must be like, and what became of each row."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.augmentation import Augmentation
from anneal.api.model import ApiModel, Decimal, Digest, Rule
from anneal.api.references import Endpoint, LocalReference, SourceUri
from anneal.api.semantic import SemanticCheck
from anneal.api.sources import ENDPOINT_DESCRIPTION, KEYS_DESCRIPTION

DataFormat = Literal["Auto", "Messages", "PromptCompletion", "Alpaca", "ShareGPT"]
#: The name of a column of a table, or of a key of a JSON object.
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class Columns(ApiModel):
    """Which of a source's columns make an example: `messages`, or `prompt` and `completion`."""

    RULES = (
        Rule(
            cel="has(self.messages) != (has(self.prompt) && has(self.completion))",
            holds=lambda columns: (columns.messages is not None) != bool(columns.prompt and columns.completion),
            message="columns must name either messages, or both prompt and completion",
        ),
    )

    messages: ColumnName | None = Field(default=None, description="Column with the list of messages. Default: none.")
    prompt: ColumnName | None = Field(default=None, description="Column with the question. Default: none.")
    completion: ColumnName | None = Field(default=None, description="Column with the answer. Default: none.")
    system: ColumnName | None = Field(
        default=None, description="Column with the system message, of the rows that have one. Default: none."
    )
    tools: ColumnName | None = Field(
        default=None,
        description="Column with the tools that are offered, a list or its JSON, of the rows that have some. Default:"
        " none.",
    )


class DatasetSource(ApiModel):
    """One file of examples: JSON Lines, a JSON array, CSV or Parquet, plain or packed with gzip or zstd."""

    RULES = (
        Rule(
            cel="!self.uri.startsWith('pvc://') || !has(self.secretRef)",
            holds=lambda source: not (source.uri.startswith("pvc://") and source.secret_ref),
            message="secretRef is for data that is fetched (hf://, s3://, gs://, oci://, https://), not for pvc://",
        ),
        Rule(
            cel="!has(self.endpoint) || self.uri.matches('^(hf|s3|gs|oci)://')",
            holds=lambda source: (
                source.endpoint is None or source.uri.startswith(("hf://", "s3://", "gs://", "oci://"))
            ),
            message="endpoint is for hf://, s3://, gs:// and oci:// alone",
        ),
        Rule(
            cel="!has(self.columns) || !has(self.format) || self.format == 'Auto'",
            holds=lambda source: source.columns is None or source.format == "Auto",
            message="columns and format contradict each other: set only one of them",
        ),
    )

    uri: SourceUri = Field(
        description="File of examples: pvc://claim/path, https://host/path, s3://bucket/key, gs://bucket/key, a file of"
        " a dataset of a Hub, hf://datasets/owner/name[:revision]/path, or the one file of an artifact in a registry,"
        " oci://registry/repository[:tag]."
    )
    secret_ref: LocalReference | None = Field(default=None, description=KEYS_DESCRIPTION)
    endpoint: Endpoint | None = Field(default=None, description=ENDPOINT_DESCRIPTION)
    format: DataFormat = Field(
        default="Auto",
        description="Messages ({messages:[{role,content,tool_calls}],tools}), PromptCompletion ({prompt, completion} or"
        " {prompt, response}), Alpaca ({instruction, input, output, history, system}), ShareGPT"
        " ({conversations:[{from,value}]}), or Auto: detected row by row; status.dataset.sources says what was found."
        " Default: Auto.",
    )
    columns: Columns | None = Field(
        default=None, description="Columns under other names than the formats have. Default: the formats' own names."
    )


class DatasetExpectations(ApiModel):
    """What the data must be like for the job to go on."""

    RULES = (
        Rule(
            cel="!has(self.maxExamples) || self.maxExamples >= (has(self.minExamples) ? self.minExamples : 10)",
            holds=lambda expect: expect.max_examples is None or expect.max_examples >= expect.min_examples,
            message="maxExamples must not be less than minExamples (10 unless it is set)",
        ),
    )

    min_examples: int = Field(
        default=10, ge=1, le=1_000_000, description="Fewest rows to train on, in rows. Default: 10."
    )
    max_examples: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Most rows to train on, in rows. Default: no limit."
    )
    max_invalid_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Rows that may be invalid before the job fails, in rows; invalid rows are left out and"
        " reported with their line. Default: 0.",
    )


#: ISO 639 codes of the languages that can be told from each other.
LANGUAGES = (
    "ace|af|am|an|ar|ary|arz|as|az|ba|bcl|be|bg|bn|br|bs|ca|crh|cs|cy|da|de|dz|el|en|eo|es|et|eu|ext|fa|fi|fo|fr|fuv|fy"
    "|ga|gcf|gcr|gd|gl|gom|grc|gu|gug|guw|ha|hbo|he|hi|hr|ht|hu|hy|id|ig|is|it|ja|jv|ka|kab|kik|kk|km|kn|ko|ku|ky|la|lb"
    "|lg|lij|ln|lo|lt|ltg|lv|mg|mk|ml|mn|mr|ms|mt|my|ne|nl|nn|no|nso|oc|om|or|pa|pcm|pl|ps|pt|qu|ro|ru|rw|sa|sdh|se|si"
    "|sk|sl|sn|so|sq|sr|st|sv|sw|ta|te|tg|th|tk|tl|tr|tt|ug|uk|ur|uz|uzs|vec|vi|vo|wa|wuu|xh|yo|yue|zh|zu"
)
Language = Annotated[str, Field(pattern=f"^({LANGUAGES})$", max_length=3)]


class Cleaning(ApiModel):
    """What is done to the text of rows before anything is decided by it."""

    unicode: Literal["NFC", "Keep"] = Field(
        default="NFC",
        description="NFC: equal letters are written with equal code points, and control characters (all but line ends"
        " and tabs) are taken out. Keep: text stays as it is. Default: NFC.",
    )
    secrets: Literal["Refuse", "Allow"] = Field(
        default="Refuse",
        description="Refuse: a row with what looks like a key or a password of a well known service is invalid."
        " Default: Refuse.",
    )
    personal_data: Literal["Allow", "Flag", "Redact"] = Field(
        default="Flag",
        description="E-mail addresses, phone numbers, card numbers and IBANs. Flag: their rows are counted in"
        " status.dataset.flagged. Redact: they are replaced, such as by [EMAIL], too. Default: Flag.",
    )
    languages: list[Language] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Languages that are wanted, as ISO 639 codes such as en. Rows whose question or answer is in"
        " another one are left out; those too short to tell are kept and counted in status.dataset.flagged."
        " Default: any.",
    )


class Deduplication(ApiModel):
    """Rows that say what another row says."""

    exact: Literal["Drop", "Keep"] = Field(
        default="Drop", description="Rows with the messages of an earlier row. Default: Drop."
    )
    near: Literal["Drop", "Group", "Ignore"] = Field(
        default="Group",
        description="Rows with a prompt much like that of another row. Group: they are held out together or trained on"
        " together. Drop: of those whose answers are much alike and whose numbers are equal, too, the first is kept;"
        " the others are grouped. Ignore: they are not looked for. Default: Group.",
    )
    threshold: Decimal = Field(
        default="0.8",
        description="From which share of common word triples (Jaccard) on texts are much alike, from 0.3 to 1."
        " Default: 0.8.",
    )
    conflicts: Literal["Keep", "Drop", "Fail"] = Field(
        default="Keep",
        description="Rows with one prompt and different answers; they are listed in the report and counted in"
        " status.dataset.flagged. Drop: all of them are left out. Default: Keep.",
    )


class DatasetSplit(ApiModel):
    """The rows that are kept from training, for the Evaluation to judge with."""

    RULES = (
        Rule(
            cel="!has(self.heldOut) || !has(self.heldOutSource)",
            holds=lambda split: split.held_out is None or split.held_out_source is None,
            message="heldOut and heldOutSource contradict each other: set only one of them",
        ),
    )

    held_out: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Held-out rows, drawn at random by seed, in rows. Rows with one prompt, near duplicates and groups"
        " stay together. Default: 150, or none with heldOutSource.",
    )
    seed: int = Field(default=42, ge=0, le=2_147_483_647, description="Seed of the draw. Default: 42.")
    group_by: ColumnName | None = Field(
        default=None,
        description="Column whose equal values stay together, such as a customer or a document; metadata.x names x in"
        " the object metadata. Default: none.",
    )
    held_out_source: DatasetSource | None = Field(
        default=None, description="File with the held-out rows, instead of drawing them. Default: none."
    )


class Balance(ApiModel):
    """How uneven the categories of the training rows may be. Held-out rows keep the shares that the data has."""

    strategy: Literal["Downsample", "Upsample"] = Field(
        default="Downsample",
        description="Downsample: rows of large categories are left out by seed. Upsample: rows of small ones are"
        " repeated, at most three times. Default: Downsample.",
    )
    max_ratio: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Most rows of the largest category for one row of the smallest. Default: 5.",
    )


class LeakCheck(ApiModel):
    """The last look, after everything: is anything that is trained on much like anything held out?"""

    policy: Literal["Drop", "Fail"] = Field(
        default="Drop", description="Drop: such rows are not trained on. Fail: the job fails. Default: Drop."
    )
    threshold: Decimal = Field(
        default="0.8",
        description="From which share on a held-out prompt counts as seen: of common word triples (Jaccard), or of its"
        " runs of eight words that occur in a training row; from 0.3 to 1. Default: 0.8.",
    )
    against: list[DatasetSource] | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Further files that must not be in what is trained on, such as the sealed rows of an Evaluation or"
        " a public benchmark, written like sources or like the file of status.artifact.heldOutUri. They are read to"
        " compare and for nothing else. Default: none.",
    )
    semantic: SemanticCheck | None = Field(
        default=None,
        description="Looks for held-out questions in other words, by hosted models. The files of against are not sent"
        " to them. Default: words alone are compared.",
    )


class Dataset(ApiModel):
    """The examples to learn from."""

    RULES = (
        Rule(
            cel="!has(self.balance) || has(self.category)",
            holds=lambda dataset: dataset.balance is None or dataset.category is not None,
            message="balance needs category: the column with the category of a row",
        ),
    )

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
    category: ColumnName | None = Field(
        default=None,
        description="Column with the category of a row, such as an intent; metadata.x names x in the object metadata."
        " The held-out draw keeps the shares of categories, status counts them, balance evens them. Default: none.",
    )
    cleaning: Cleaning = Field(default_factory=Cleaning, description="What is done to the text.")
    deduplication: Deduplication = Field(default_factory=Deduplication, description="Rows that repeat others.")
    split: DatasetSplit = Field(default_factory=DatasetSplit, description="The held-out split.")
    balance: Balance | None = Field(
        default=None, description="Evens the categories of the training rows. Default: rows stay as they are."
    )
    augmentation: Augmentation | None = Field(
        default=None, description="Rows that a hosted model writes after the training rows. Default: none."
    )
    leak_check: LeakCheck = Field(default_factory=LeakCheck, description="Training rows that give answers away.")
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


class RowCount(ApiModel):
    """How many rows something is true of."""

    reason: str = Field(max_length=24, description="What, in a CamelCase word.")
    rows: int = Field(ge=0, description="Of how many rows.")


class SourceFound(ApiModel):
    """What sources turned out to be."""

    detected: str = Field(max_length=96, description="Kind of file, formats of its rows and why they were taken so.")
    files: int = Field(default=1, ge=0, description="How many sources are so.")
    rows: int = Field(ge=0, description="Rows read from them.")


class ComparedFile(ApiModel):
    """A file of leakCheck.against, as it was when training rows were compared with it."""

    digest: Digest = Field(description="Digest of the file, as sha256sum tells it.")
    rows: int = Field(ge=0, description="Rows in it.")
    leaks: int = Field(ge=0, description="Training rows that gave one of them away, and were dropped.")


class CategoryCount(ApiModel):
    """The rows of a category."""

    name: str = Field(max_length=24, description="The category; long names are cut.")
    train: int = Field(ge=0, description="Rows to train on.")
    held_out: int = Field(ge=0, description="Rows kept for evaluation.")


class AugmentationStatus(ApiModel):
    """What came of the rows that were written by a hosted model."""

    generator: str = Field(max_length=128, description="What the generator called itself; empty if it never answered.")
    validator: str = Field(max_length=128, description="What the validator called itself; empty if it never answered.")
    asked: int = Field(ge=0, description="Training rows that the generator was asked to write after.")
    unanswered: int = Field(default=0, ge=0, description="Of those, the ones without a usable reply.")
    written: int = Field(ge=0, description="Rows that it wrote.")
    accepted: int = Field(ge=0, description="Of those, the ones that are trained on.")
    rejected: list[RowCount] | None = Field(
        default=None,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The others by reason: Invalid, Duplicate, NearDuplicate, Conflict, Leak (also of files of"
        " leakCheck.against), Incorrect, Unjudged or Surplus. rejected.jsonl in the workspace names each.",
    )
    ended: Literal["Enough", "Share", "Cost", "Seeds"] = Field(
        description="Why no more were written: rows or maxShare was reached, maxCost was spent, or every training row"
        " was asked about."
    )
    cost: str = Field(max_length=24, description="Spent on both models, in the currency of their prices.")


class SemanticStatus(ApiModel):
    """What came of comparing the meaning of questions."""

    embedder: str = Field(max_length=128, description="What the embedder called itself.")
    verifier: str | None = Field(
        default=None, max_length=128, description="What the verifier called itself; absent if it was not asked."
    )
    compared: int = Field(ge=0, description="Different questions that were compared, of both sides.")
    pairs: int = Field(ge=0, description="Pairs of a training and a held-out question from the threshold on.")
    leaks: int = Field(ge=0, description="Training rows that were dropped for it.")
    unjudged: int = Field(
        default=0, ge=0, description="Of the pairs, those without a verdict of the verifier: they count as the same."
    )
    cost: str = Field(max_length=24, description="Spent on both models, in the currency of their prices.")


class DatasetStatus(ApiModel):
    """The data as it was prepared."""

    digest: Digest = Field(description="Digest of the prepared training rows.")
    test_digest: Digest = Field(description="Digest of the held-out rows.")
    counts: DatasetCounts = Field(description="Where the rows went.")
    sources: list[SourceFound] | None = Field(
        default=None,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="What the sources turned out to be: the four kinds with the most rows. The report names each file.",
    )
    left_out: list[RowCount] | None = Field(
        default=None,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Valid rows that are not used, by reason: Language, Duplicate, NearDuplicate, Conflict, Balance,"
        " Leak (of held-out rows), SemanticLeak (of held-out rows, in other words) or LeakAgainst (of the files of"
        " leakCheck.against). rejected.jsonl in the workspace names each row.",
    )
    compared: list[ComparedFile] | None = Field(
        default=None,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The files of leakCheck.against, in their order.",
    )
    semantic: SemanticStatus | None = Field(
        default=None, description="What came of leakCheck.semantic; absent where it was not wanted."
    )
    flagged: list[RowCount] | None = Field(
        default=None,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="What to know of rows that are used: Conflict, LanguageUnknown, PersonalData, Redacted or"
        " Normalized.",
    )
    categories: list[CategoryCount] | None = Field(
        default=None,
        max_length=6,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Rows by category, the largest six; all are in the report.",
    )
    augmentation: AugmentationStatus | None = Field(
        default=None, description="What came of the rows that a hosted model wrote; absent where none were wanted."
    )
