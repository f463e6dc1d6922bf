"""What a pod is told and what it answers: the whole protocol between operator and pods.

In: one JSON document per run, in a ConfigMap mounted at RUN_FILE; no shell, no argument strings.
Out, durable: the termination message, one RunResult as compact JSON of at most 4,096 bytes, kept by the kubelet in
the pod's status. Out, lossy: progress by HTTPS (ProgressReport). A result that does not parse is a failure, never a
zero.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from anneal.api.augmentation import Augmentation
from anneal.api.dataset import (
    Balance,
    Cleaning,
    Columns,
    DataFormat,
    DatasetCounts,
    DatasetExpectations,
    DatasetSplit,
    DatasetStatus,
    Deduplication,
    LeakCheck,
)
from anneal.api.estimate import Sizes, Strategy
from anneal.api.finetunejob import BaseModelStatus
from anneal.api.gates import Gate, Outcome, Statistics
from anneal.api.guards import Guard
from anneal.api.judging import JudgedRow, JudgeQuality
from anneal.api.methods import Contents, Method
from anneal.api.metrics import Metric
from anneal.api.model import ApiModel, Decimal, Digest
from anneal.api.policy import Policy
from anneal.api.runtimes import VLLM, RuntimeName
from anneal.api.sources import Resolved
from anneal.api.subjects import Baseline, Budget, Generation, Hosted, times_asked
from anneal.api.tracking import Experiment, TrackingStatus
from anneal.api.training import Remarks, Training, TrainingStatus

#: Where things are in a pod. The children builders mount them there, the programs read them there.
RUN_DIR = "/etc/anneal"
RUN_FILE = "/etc/anneal/run.json"
CA_FILE = "/etc/anneal/ca.crt"
TOKEN_FILE = "/var/run/anneal/token"  # noqa: S105 - a path, not a token
TERMINATION_FILE = "/dev/termination-log"
WORKSPACE_DIR = "/workspace"
CLAIMS_DIR = "/claims"
CREDENTIALS_DIR = "/credentials"
#: The keys of the Secret of the MLflow server, in a directory of its name.
MLFLOW_DIR = "/var/run/anneal-mlflow"
#: One directory per hosted baseline, with its API key in the file KEY_FILE.
KEYS_DIR = "/var/run/anneal-keys"
KEY_FILE = "key"
#: Those who are asked by prepare.
GENERATOR, VALIDATOR = "generator", "validator"
#: Of those that compare the meaning of rows.
EMBEDDER, VERIFIER = "embedder", "verifier"
#: The judge and the guard among those who are asked. No baseline can have these names.
JUDGE, GUARD = "_judge", "_guard"
MODEL_REPOSITORY_DIR = "/models"
#: What vLLM is told; laid out as Triton's repository is.
VLLM_FILE = f"{MODEL_REPOSITORY_DIR}/vllm.yaml"
#: What evaluator and plugins share: the answers to be scored, and per metric of a plugin a directory with its scores.
PLUGINS_DIR = "/var/run/anneal-plugins"
ANSWERS_DIR, SCORES_DIR = "answers", "scores"
ANSWERS_FILE, SCORES_FILE = "answers.jsonl", "scores.jsonl"

#: Exit codes that the Job's podFailurePolicy acts on.
EXIT_USER_MISTAKE = 42  # the same input fails again: the Job fails at once
EXIT_PREEMPTED = 75  # state is saved: the Job starts a new pod and does not count this one

MAX_RESULT_BYTES = 4096

#: TCP port at which the processes of a training that is spread over several meet; torchrun's own default.
RANKS_PORT = 29500


class ObjectIdentity(ApiModel):
    """The object that a run works for."""

    kind: str = Field(description="Kind of the object.")
    namespace: str = Field(description="Namespace of the object.")
    name: str = Field(description="Name of the object.")
    uid: str = Field(description="UID of the object.")


class Reporting(ApiModel):
    """Where progress goes. The token and the CA certificate are files, re-read for every report."""

    url: str = Field(description="HTTPS URL that takes ProgressReport by POST.")
    ca_file: str = Field(default=CA_FILE, description="CA certificate of the endpoint, PEM.")
    token_file: str = Field(default=TOKEN_FILE, description="Projected service account token.")
    interval_seconds: int = Field(default=5, description="Shortest time between two reports, in seconds.")


class MountedPath(ApiModel):
    """A location that the pod can read: what the user calls it and where it is mounted."""

    uri: str = Field(description="URI as the user wrote it, for messages.")
    path: str = Field(description="Absolute path in the pod.")


class Access(ApiModel):
    """How a remote place is reached."""

    endpoint: str | None = Field(
        default=None, description="URL of the Hub, the object store or the registry, if it is not the usual."
    )
    credentials: str | None = Field(default=None, description="Directory with the keys of the Secret, one file each.")


class RemotePath(ApiModel):
    """A place that the pod reaches over the network."""

    uri: str = Field(description="URI as the user wrote it.")
    access: Access = Field(description="How to reach it.")


class ModelInput(ApiModel):
    """The base model: in a claim that the pod can read, or to be fetched into one."""

    uri: str = Field(description="URI as the user wrote it.")
    path: str | None = Field(default=None, description="Absolute path in the pod, for pvc://.")
    cache: MountedPath | None = Field(default=None, description="Directory to fetch it into, for any other scheme.")
    access: Access = Field(default_factory=Access, description="How to reach it.")


class SourceInput(ApiModel):
    """One file of examples."""

    uri: str = Field(description="URI as the user wrote it.")
    path: str | None = Field(default=None, description="Absolute path in the pod, for pvc://; otherwise it is fetched.")
    access: Access = Field(default_factory=Access, description="How to reach it.")
    format: DataFormat = Field(default="Auto", description="Format of the rows.")
    columns: Columns | None = Field(default=None, description="Names of its columns, if they are its own.")


class PrepareRun(ApiModel):
    """Fetch, read, check, split and write the data; fetch and check the base model."""

    role: Literal["prepare"] = "prepare"
    object: ObjectIdentity = Field(description="For whom.")
    model: ModelInput = Field(description="The base model.")
    sources: list[SourceInput] = Field(description="Files to read, in order.")
    expect: DatasetExpectations = Field(description="Limits after which to fail.")
    split: DatasetSplit = Field(description="The held-out split.")
    held_out_source: SourceInput | None = Field(default=None, description="File with the held-out rows, if one has.")
    category: str | None = Field(default=None, description="Column with the category of a row.")
    cleaning: Cleaning = Field(default_factory=Cleaning, description="What is done to the text.")
    deduplication: Deduplication = Field(default_factory=Deduplication, description="Rows that repeat others.")
    balance: Balance | None = Field(default=None, description="How to even the categories.")
    augmentation: Augmentation | None = Field(default=None, description="Rows that a hosted model writes.")
    keys: str = Field(default=KEYS_DIR, description="Directory of the API keys of generator and validator.")
    leak_check: LeakCheck = Field(default_factory=LeakCheck, description="Rows that give held-out answers away.")
    against: list[SourceInput] = Field(
        default_factory=list, description="Files of leak_check.against: to compare with, and for nothing else."
    )
    system_prompt: str | None = Field(default=None, description="System message for rows without one.")
    max_length: int = Field(description="Longest row, in tokens.")
    workspace: str = Field(default=WORKSPACE_DIR, description="Directory shared with fit and publish.")


class Ranks(ApiModel):
    """The processes of a training that is spread over several."""

    pods: int = Field(ge=1, description="Pods; each knows its number by its index in the Job.")
    per_pod: int = Field(ge=1, description="Processes in each pod.")
    address: str = Field(description="Host name of the pod with index 0, where all meet.")
    port: int = Field(default=RANKS_PORT, description="TCP port there.")
    strategy: Strategy | None = Field(
        default=None, description="How training is spread; by default what the memory that is found allows."
    )


class FitRun(ApiModel):
    """Train on the prepared data, from the newest complete checkpoint if there is one."""

    role: Literal["fit"] = "fit"
    object: ObjectIdentity = Field(description="For whom.")
    model: MountedPath = Field(description="The base model.")
    base_digest: Digest = Field(description="Digest that prepare found for the base model.")
    train_digest: Digest = Field(description="Digest that prepare gave to the training rows.")
    method: Method = Field(description="What learns.")
    training: Training = Field(description="Hyperparameters, settled for the method.")
    ranks: Ranks | None = Field(default=None, description="The processes, if there are several.")
    teraflops: dict[str, float] = Field(
        default_factory=dict, description="Dense bfloat16 arithmetic of accelerators, in TFLOP/s, by product."
    )
    workspace: str = Field(default=WORKSPACE_DIR, description="Directory shared with prepare and publish.")
    reporting: Reporting | None = Field(default=None, description="Where progress goes.")


class MLflowServer(ApiModel):
    """An MLflow tracking server that is told of a training."""

    credentials: str = Field(description="Directory, named like the Secret, with its keys, one file each.")
    experiment: Experiment = Field(description="Experiment that gets a run.")


class PublishRun(ApiModel):
    """Write the artifact, its model card and the held-out rows to where the user wants them."""

    role: Literal["publish"] = "publish"
    object: ObjectIdentity = Field(description="For whom.")
    model: MountedPath = Field(description="The base model.")
    base_digest: Digest = Field(description="Digest of the base model.")
    chat_template_hash: Digest = Field(description="Digest of the chat template.")
    test_digest: Digest = Field(description="Digest that prepare gave to the held-out rows.")
    output: MountedPath = Field(description="Directory that gets the artifact's folder.")
    mirror: RemotePath | None = Field(default=None, description="Where a copy of that folder goes.")
    mlflow: MLflowServer | None = Field(default=None, description="MLflow server that is told of the training.")
    contents: Contents = Field(default="Adapter", description="What the artifact holds.")
    method: Method = Field(description="What learned.")
    training: Training = Field(description="Hyperparameters, for the model card.")
    counts: DatasetCounts = Field(description="Where the rows went, for the model card.")
    trained: TrainingStatus = Field(description="How training ended, for the model card.")
    workspace: str = Field(default=WORKSPACE_DIR, description="Directory shared with prepare and fit.")


class ServedModel(ApiModel):
    """One model of a model repository."""

    name: str = Field(description="Name that clients ask for.")
    base: MountedPath = Field(description="The base model.")
    base_digest: Digest = Field(description="Digest that the base must have.")
    adapter: MountedPath | None = Field(
        default=None, description="The artifact, on top of the base or in its place; absent for the base alone."
    )
    adapter_digest: Digest | None = Field(default=None, description="Digest that the artifact must have.")


class ServeRun(ApiModel):
    """Verify digests, then lay out what the server reads (init container) and serve it."""

    role: Literal["serve"] = "serve"
    object: ObjectIdentity = Field(description="For whom.")
    models: list[ServedModel] = Field(description="Models to serve, each under its name.")
    repository: str = Field(default=MODEL_REPOSITORY_DIR, description="Directory that is laid out for the server.")
    vllm: VLLM | None = Field(default=None, description="Settings of vLLM where that serves; otherwise Triton does.")
    max_batch_size: int = Field(default=8, description="Most requests that Triton answers in one batch.")
    accelerators: int = Field(default=0, description="Accelerators of the pod; 0 serves on CPU.")


class EvaluateRun(ApiModel):
    """Ask every model the held-out rows, score, decide, report."""

    role: Literal["evaluate"] = "evaluate"
    object: ObjectIdentity = Field(description="For whom.")
    server_url: str = Field(default="localhost:8000", description="host:port of the server's HTTP endpoint.")
    runtime: RuntimeName = Field(default="triton", description="What serves there.")
    candidate_digest: Digest = Field(description="Digest of the artifact under judgement, for the report.")
    base_digest: Digest = Field(description="Digest of its base, for the report.")
    artifact: MountedPath | None = Field(
        default=None, description="That artifact; what lies beside it tells of its data, for the report."
    )
    training_cost: str | None = Field(default=None, description="What training it cost, for the report.")
    models: list[str] = Field(description="Served names: the candidate first, then the baselines in spec order.")
    baselines: list[Baseline] = Field(default_factory=list, description="Baselines in spec order.")
    answers: dict[str, str] = Field(
        default_factory=dict, description="Absolute path of a baseline's stored answers, by the baseline's name."
    )
    incumbents: dict[str, Digest] = Field(
        default_factory=dict, description="Digest of what each incumbent baseline is, by the baseline's name."
    )
    held_out: MountedPath = Field(description="JSON Lines file of the held-out rows.")
    held_out_digest: Digest = Field(description="Digest that this file must have.")
    held_out_compared: bool | None = Field(
        default=None, description="Whether training rows were compared with this file, where it is one of sealed rows."
    )
    generation: Generation = Field(description="How answers are generated.")
    metrics: list[Metric] = Field(description="How answers are scored.")
    gates: list[Gate] = Field(description="What must hold.")
    statistics: Statistics = Field(description="How sure to be.")
    policy: Policy = Field(description="What to do with answers that could not be had.")
    judge: Hosted | None = Field(default=None, description="Who judges answers, for the metrics that need it.")
    judge_quality: JudgeQuality | None = Field(default=None, description="What the judge must show.")
    human_labels: MountedPath | None = Field(default=None, description="File of what people say of some answers.")
    guard: Guard | None = Field(default=None, description="Who classifies answers, for the metrics that need it.")
    budget: Budget | None = Field(default=None, description="What hosted models may cost.")
    serving_cost_per_hour: Decimal | None = Field(default=None, description="What serving the candidate costs.")
    keys: str = Field(default=KEYS_DIR, description="Directory of the hosted baselines' API keys.")
    plugins: str = Field(default=PLUGINS_DIR, description="Directory that is shared with plugins.")
    report: MountedPath = Field(description="Directory that gets answers, scores and report.")
    reporting: Reporting | None = Field(default=None, description="Where progress goes.")

    def times_asked(self, model: int) -> int:
        """How often model number `model` (0 is the candidate) is asked each row."""
        return times_asked(self.generation, None if model == 0 else self.baselines[model - 1].hosted)

    def digest_of(self, model: int) -> str:
        """Digest of what answers as model number `model` (0 is the candidate), which is no hosted one."""
        if model == 0:
            return self.candidate_digest
        return self.incumbents.get(self.baselines[model - 1].name, self.base_digest)


Run = Annotated[PrepareRun | FitRun | PublishRun | ServeRun | EvaluateRun, Field(discriminator="role")]
_RUN: TypeAdapter[Run] = TypeAdapter(Run)


class PrepareData(ApiModel):
    """What prepare found."""

    resolved: Resolved = Field(description="What the names of model and data stood for.")
    model: BaseModelStatus = Field(description="The base model.")
    dataset: DatasetStatus = Field(description="The data.")
    sizes: Sizes | None = Field(
        default=None, description="What an estimate is made from; absent when the model's shape cannot be told."
    )


class FitData(ApiModel):
    """How training ended, or where it was interrupted."""

    training: TrainingStatus = Field(description="Training so far.")
    checkpoint_step: int = Field(ge=0, description="Step of the newest complete checkpoint.")
    resumes: int = Field(default=0, ge=0, description="Times that training was interrupted and went on so far.")


class PublishData(ApiModel):
    """Where the artifact is."""

    uri: str = Field(description="URI of the artifact's folder.")
    mirror_uri: str | None = Field(default=None, description="URI of the copy: its folder, or its image by digest.")
    digest: Digest = Field(description="Digest of its manifest.")
    size_bytes: int = Field(ge=0, description="Size of its files, in bytes.")
    held_out_uri: str = Field(description="URI of the held-out rows beside it.")
    held_out_count: int = Field(ge=0, description="Number of held-out rows.")
    tracking: TrackingStatus | None = Field(default=None, description="What became of telling others.")


GateRow = tuple[Outcome, str, str, str, int | None]
ModelRow = tuple[int, int, int, int, int, int, int, str, str]


class EvaluateData(ApiModel):
    """The judgement in numbers, as compact rows that fit a termination message whatever the names are.

    Indices count `metrics`, models (0 is the candidate, then the baselines) and `gates` in the order of the spec.
    """

    models: list[ModelRow] = Field(
        description="Per model: (answers asked for, errors, of them truncated, declined, empty, input tokens,"
        " output tokens, spent or '', what a hosted model called itself beyond the name asked for)."
    )
    results: list[tuple[int, int, int, str, str, str]] = Field(
        description="(metric, model, rows scored, mean, lower, upper)."
    )
    comparisons: list[tuple[int, int, int, str, str, str, str | None, str]] = Field(
        description="(metric, model, rows, delta, lower, upper, mid-p, MDE)."
    )
    gates: list[GateRow] = Field(description="(outcome, observed, lower, upper, rows needed when undecided) per gate.")
    claims: list[str] = Field(
        default_factory=list,
        description="Per gate, where any has several claims, a digit for each claim that holds, the surest first, or"
        " where none does for the surest alone, whose numbers are the gate's; '' for the other gates.",
    )
    judge: tuple[int, int, str, str] | None = Field(
        default=None,
        description="(answers and pairs judged, of them without a verdict, spent or '', what it called itself beyond).",
    )
    judged: list[JudgedRow] = Field(
        default_factory=list,
        description="What the judge showed on each judged metric.",
    )
    guard: tuple[int, int, str, str] | None = Field(
        default=None,
        description="(answers classified, of them without a finding, spent or '', what it called itself beyond).",
    )
    hazards: list[tuple[str, int]] = Field(
        default_factory=list, description="(category, unsafe answers of the candidate), the largest few."
    )
    queries_per_hour: int | None = Field(
        default=None, ge=1, description="What the candidate's server answers in an hour at full load, if that is known."
    )
    report_uri: str = Field(description="URI of the report's folder.")
    report_digest: Digest = Field(description="Digest of report.json in it.")


class RunResult(ApiModel):
    """How a run ended. Exactly the member named like the role is set when it has something to tell."""

    role: Literal["prepare", "fit", "publish", "serve", "evaluate"] = Field(description="Which run.")
    outcome: Literal["Succeeded", "Failed", "Preempted"] = Field(description="How it ended.")
    reason: str = Field(max_length=64, description="Why, in one CamelCase word.")
    message: str = Field(default="", description="Why, in a sentence with what to do.")
    retryable: bool = Field(default=False, description="Whether the same run can succeed when tried again.")
    prepare: PrepareData | None = None
    fit: FitData | None = None
    publish: PublishData | None = None
    evaluate: EvaluateData | None = None


class ProgressReport(ApiModel):
    """What a running pod POSTs, at most once in `interval_seconds`. Lossy by design."""

    percent: int = Field(ge=0, le=100, description="Work done, in percent.")
    eta_seconds: int | None = Field(default=None, ge=0, description="Expected time to the end, in seconds.")
    step: int = Field(default=0, ge=0, description="Steps (or answers) done.")
    total_steps: int = Field(default=0, ge=0, description="Steps (or answers) in all.")
    loss: str | None = Field(default=None, max_length=32, description="Mean loss per answer token of late steps.")
    tokens_per_second: int | None = Field(default=None, ge=0, description="Throughput, in tokens/s.")
    step_seconds: str | None = Field(default=None, max_length=32, description="Mean time of late steps, in seconds.")
    mfu: str | None = Field(default=None, max_length=32, description="Model FLOP utilisation of late steps, 0 to 1.")
    peak_memory_bytes: int | None = Field(default=None, ge=0, description="Memory at the largest moment, in bytes.")
    validation_loss: str | None = Field(default=None, max_length=32, description="Loss of the rows set aside.")
    checkpoint_step: int | None = Field(default=None, ge=0, description="Step of the newest complete checkpoint.")
    resumes: int = Field(default=0, ge=0, description="Times that training was interrupted and went on so far.")
    remarks: Remarks | None = Field(default=None, description="What should be known of it, in sentences.")


def parse_run(document: str | bytes) -> Run:
    """The run that a document describes. Raises pydantic.ValidationError."""
    return _RUN.validate_json(document)


def encode_result(result: RunResult) -> bytes:
    """Compact JSON of at most MAX_RESULT_BYTES; a message that is too long is cut, numbers never are.

    Raises ValueError when even the shortest message does not make it fit.
    """
    encoded = result.model_dump_json(by_alias=True, exclude_none=True).encode()
    if len(encoded) <= MAX_RESULT_BYTES:
        return encoded
    message = result.message
    while message:
        message = message[: max(0, len(message) - max(16, len(message) // 8))]
        shorter = result.model_copy(update={"message": message + "…"})
        encoded = shorter.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(encoded) <= MAX_RESULT_BYTES:
            return encoded
    raise ValueError(f"a result of {len(encoded)} bytes does not fit the termination message of {MAX_RESULT_BYTES}")


def parse_result(text: str) -> RunResult:
    """The result in a termination message. Raises ValueError, in a sentence, when there is none."""
    try:
        return RunResult.model_validate_json(text)
    except ValidationError as error:
        shown = text.strip()[:200] or "nothing"
        raise ValueError(f"the pod ended without a readable result; its termination message was: {shown}") from error
