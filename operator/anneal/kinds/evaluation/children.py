"""The children of an Evaluation: one Job whose pod holds the server and its only client, and what both are told."""

from __future__ import annotations

import posixpath
from typing import Any

from anneal.api.evaluation import EvaluationSpec
from anneal.api.model import ApiModel, Digest
from anneal.api.references import PvcLocation, PvcUri
from anneal.api.runs import GUARD, JUDGE, RUN_DIR, EvaluateRun, Reporting, ServedModel, ServeRun
from anneal.api.subjects import CANDIDATE, Baseline, Hosted, IncumbentStatus
from anneal.api.workloads import Resources
from anneal.kinds import jobs
from anneal.kinds.children import (
    accelerators_of_pod,
    child_name,
    claim_path,
    claim_volumes,
    container,
    identity,
    key_volumes,
    pod_template,
    resource_requirements,
    run_config_map,
    token_volume,
)
from anneal.kinds.contract import Object, Seen
from anneal.kinds.evaluation import plugins
from anneal.kinds.modeldeployment.serving import chosen
from anneal.kinds.modeldeployment.serving.runtime import HTTP_PORT, accelerators, sidecar
from anneal.kinds.upstream import claims_of, location, mounted

ROLE = "evaluate"
#: The server's half of the ConfigMap; the evaluator's is run.json, as in every pod.
SERVE_FILE = "serve.json"
#: Beside the artifact's folder, below the output of its FineTuneJob.
REPORTS_FOLDER = "evaluations"
#: The evaluator waits for answers and resamples numbers: it needs little.
_EVALUATOR_RESOURCES = Resources(cpu="100m", memory="1Gi")


class Subject(ApiModel):
    """What is judged, as recorded in status before anything is made: the FineTuneJob may be deleted afterwards."""

    subject_uri: PvcUri
    subject_digest: Digest
    base_uri: PvcUri
    base_digest: Digest
    held_out_uri: PvcUri
    dataset_digest: Digest
    incumbents: list[IncumbentStatus] | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        """Claims that must exist."""
        served = [uri for i in self.incumbents or () for uri in (i.uri, i.base_uri) if uri is not None]
        return claims_of(self.subject_uri, self.base_uri, self.held_out_uri, *served)

    @property
    def incumbent_digests(self) -> dict[str, str]:
        """Digest of what answers as each incumbent baseline, by the baseline's name."""
        return {i.name: i.digest or i.base_digest for i in self.incumbents or ()}


def claims_needed(spec: EvaluationSpec, subject: Subject) -> tuple[str, ...]:
    """Claims that must exist: the subject's, and those of files that the spec brings along."""
    return tuple(sorted({*subject.claims, *claims_of(*_brought_along(spec))}))


def _brought_along(spec: EvaluationSpec) -> list[str]:
    """Files that the evaluator reads beside the held-out rows: stored answers, and what people say of answers."""
    labels = _labels_uri(spec)
    return [*(b.answers.uri for b in spec.baselines if b.answers), *([labels] if labels else [])]


def _labels_uri(spec: EvaluationSpec) -> str | None:
    labels = spec.judge_quality.human_labels if spec.judge_quality else None
    return labels.uri if labels else None


def subject_of(status: Object) -> Subject | None:
    """The subject that a raw status has recorded, or None."""
    try:
        subject = Subject.model_validate(status)
        _ = subject.claims
    except ValueError:
        return None
    return subject


def name_of_job(seen: Seen) -> str:
    """Name of the Job, of its ConfigMap and of the report's folder. With the uid: a namesake shares nothing."""
    return child_name(seen.name, ROLE, seen.uid)


def desired(seen: Seen, spec: EvaluationSpec, subject: Subject) -> tuple[Object, ...]:
    """ConfigMap and Job, in the order in which they are needed."""
    return _config_map(seen, spec, subject), _job(seen, spec, subject)


def report_location(seen: Seen, subject: Subject) -> PvcLocation:
    """Where answers, scores and report go."""
    artifact = location(subject.subject_uri)
    return PvcLocation(artifact.claim, posixpath.dirname(artifact.path)).child(REPORTS_FOLDER, name_of_job(seen))


def _config_map(seen: Seen, spec: EvaluationSpec, subject: Subject) -> Object:
    wanted = run_config_map(seen, name_of_job(seen), ROLE, _evaluate_run(seen, spec, subject))
    serve = _serve_run(seen, spec, subject).model_dump_json(by_alias=True, exclude_none=True)
    return {**wanted, "data": {**wanted["data"], SERVE_FILE: serve}}


def _serve_run(seen: Seen, spec: EvaluationSpec, subject: Subject) -> ServeRun:
    candidate = ServedModel(
        name=CANDIDATE,
        base=mounted(location(subject.base_uri)),
        base_digest=subject.base_digest,
        adapter=mounted(location(subject.subject_uri)),
        adapter_digest=subject.subject_digest,
    )
    return ServeRun(
        object=identity(seen),
        models=[candidate, *(_served_baseline(b, subject) for b in _served(spec))],
        vllm=spec.serving.vllm,
        max_batch_size=spec.generation.concurrency,  # all that is under way: half of it would wait for the other half
        accelerators=accelerators(spec.resources),
    )


def _served_baseline(baseline: Baseline, subject: Subject) -> ServedModel:
    """The base of the candidate, or what an incumbent was when it was recorded."""
    incumbent = next((i for i in subject.incumbents or () if i.name == baseline.name), None)
    if incumbent is None:
        return ServedModel(
            name=baseline.name, base=mounted(location(subject.base_uri)), base_digest=subject.base_digest
        )
    return ServedModel(
        name=baseline.name,
        base=mounted(location(incumbent.base_uri)),
        base_digest=incumbent.base_digest,
        adapter=mounted(location(incumbent.uri)) if incumbent.uri is not None else None,
        adapter_digest=incumbent.digest,
    )


def _evaluate_run(seen: Seen, spec: EvaluationSpec, subject: Subject) -> EvaluateRun:
    reports = seen.facts.reports
    return EvaluateRun(
        object=identity(seen),
        server_url=f"localhost:{HTTP_PORT}",
        runtime=chosen(spec.serving).name,
        candidate_digest=subject.subject_digest,
        base_digest=subject.base_digest,
        artifact=mounted(location(subject.subject_uri)),
        training_cost=seen.status.get("trainingCost"),
        models=[CANDIDATE, *[b.name for b in spec.baselines]],
        baselines=spec.baselines,
        answers={b.name: mounted(location(b.answers.uri)).path for b in spec.baselines if b.answers},
        incumbents=subject.incumbent_digests,
        held_out=mounted(location(subject.held_out_uri)),
        held_out_digest=subject.dataset_digest,
        held_out_compared=seen.status.get("heldOutCompared"),
        generation=spec.generation,
        metrics=spec.metrics,
        gates=spec.gates,
        statistics=spec.statistics,
        policy=spec.policy,
        judge=spec.judge,
        judge_quality=spec.judge_quality,
        human_labels=mounted(location(labels)) if (labels := _labels_uri(spec)) else None,
        guard=spec.guard,
        budget=spec.budget,
        serving_cost_per_hour=spec.serving_cost_per_hour,
        report=mounted(report_location(seen, subject)),
        reporting=Reporting(url=reports.url) if reports else None,
    )


def _job(seen: Seen, spec: EvaluationSpec, subject: Subject) -> Object:
    name = name_of_job(seen)
    report = report_location(seen, subject).claim
    claims, mounts = claim_volumes(claims_needed(spec, subject), writable=[report])
    read_only = [{**m, "readOnly": True} for m in mounts]
    evaluator_needs = {claim_path(c) for c in (report, *claims_of(subject.held_out_uri, *_brought_along(spec)))}
    token, token_mounts = token_volume(seen)
    keys, key_mounts = key_volumes(_hosted(spec))
    serve_file = f"{RUN_DIR}/{SERVE_FILE}"
    working = [*[m for m in mounts if m["mountPath"] in evaluator_needs], *token_mounts, *key_mounts]
    scoring = plugins.containers(seen, spec.metrics)
    runtime = chosen(spec.serving)
    server = runtime.server(seen, spec.resources, read_only, 1 + len(_served(spec)), serve_file)
    template = pod_template(
        seen,
        ROLE,
        config_map=name,
        init_containers=[
            *([_key_check(seen, key_mounts)] if keys else []),
            runtime.layout(seen, read_only, serve_file),
            sidecar(server),
            *([_evaluator(seen, plugins.RESPOND, [*working, plugins.answers_mount()], "respond")] if scoring else []),
            *scoring,
        ],
        containers=[_evaluator(seen, ROLE, [*working, *plugins.scores_mounts(spec.metrics)])],
        volumes=[*runtime.all_volumes(), *claims, *token, *keys, *plugins.volumes(spec.metrics)],
        scheduling=spec.scheduling,
        **accelerators_of_pod(spec.resources),
    )
    return jobs.job(seen, name, ROLE, template, spec.backoff_limit, plugins.failure_rules(spec.metrics))


def _hosted(spec: EvaluationSpec) -> list[tuple[str, Hosted | None]]:
    """Everybody who may be asked over the network."""
    guard = spec.guard.hosted if spec.guard is not None else None
    return [*((b.name, b.hosted) for b in spec.baselines), (JUDGE, spec.judge), (GUARD, guard)]


def _served(spec: EvaluationSpec) -> list[Baseline]:
    """The baselines that the server of this pod serves."""
    return [b for b in spec.baselines if b.hosted is None]


def _key_check(seen: Seen, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Init container: looks for the API keys before any model is loaded."""
    return _evaluator(seen, "keys", mounts, "keys")


def _evaluator(seen: Seen, name: str, mounts: list[dict[str, Any]], *arguments: str) -> dict[str, Any]:
    return container(
        seen,
        name=name,
        image=seen.facts.images.evaluator,
        requirements=resource_requirements(_EVALUATOR_RESOURCES),
        mounts=mounts,
        command=["python", "-m", "anneal_evaluator", *arguments],
    )
