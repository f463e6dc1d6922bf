"""The CRDs on a real API server: samples are accepted, every CEL rule refuses with its sentence, pydantic agrees."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from pydantic import ValidationError
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support.schema_values import values

from anneal.api import GROUP, VERSION
from anneal.api.crd import crd
from anneal.api.kind import KindInfo
from anneal.api.kinds import BY_NAME, KINDS
from anneal.api.metrics import METRICS

pytestmark = pytest.mark.integration
NAMESPACE = "crds"


class Server:
    """Creates by dry run and says what the API server thinks."""

    def __init__(self, kubeconfig: str) -> None:
        self.objects = client.CustomObjectsApi(config.new_client_from_config(kubeconfig))

    def refusal(self, kind: KindInfo, obj: dict[str, Any]) -> str | None:
        """The server's sentence, or None when it accepts."""
        try:
            self.objects.create_namespaced_custom_object(
                GROUP, VERSION, NAMESPACE, kind.plural, obj, dry_run="All", field_validation="Strict"
            )
        except ApiException as error:
            assert error.status in (400, 422), error
            return str(json.loads(error.body)["message"])
        return None


@pytest.fixture(scope="module")
def server(control_plane: KubernetesUnderTest) -> Iterator[Server]:
    control_plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=anneal")
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield Server(str(control_plane.kubeconfig))
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def samples() -> dict[str, dict[str, Any]]:
    """The sample of each kind."""
    documents = [
        yaml.safe_load(path.read_text())
        for path in sorted((REPOSITORY / "manifests" / "samples").glob("*.yaml"))
        if path.name != "kustomization.yaml"
    ]
    return {d["kind"]: d for d in documents}


def changed(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `obj` with the field at `path` set, or taken away when value is None, or changed by calling it."""
    result = copy.deepcopy(obj)
    *parents, last = path.split(".")
    place = result
    for name in parents:
        place = place[int(name)] if name.isdigit() else place.setdefault(name, {})
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value(place[last]) if callable(value) else value
    return result


@pytest.mark.parametrize("kind", [k.kind for k in KINDS])
def test_sample_is_accepted(server: Server, kind: str) -> None:
    assert server.refusal(BY_NAME[kind], samples()[kind]) is None
    BY_NAME[kind].model.model_validate(samples()[kind])


HOSTED = {"openAI": {"baseUrl": "https://m.test/v1", "model": "m"}}
PRICED = {"openAI": {"model": "gpt-5"}, "price": {"inputPerMillion": "1", "outputPerMillion": "1"}}
UNPRICED = {"baselines": [{"name": "base", "hosted": {"openAI": {"model": "gpt-5"}}}]}
#: The sample of a FineTuneJob, without a method.
FINE_TUNING = {k: v for k, v in samples()["FineTuneJob"]["spec"].items() if k != "lora"}
EXPERTS = {"targetParameters": ["experts.down_proj"]}
LABELS = {"humanLabels": {"uri": "pvc://models/labels.jsonl"}}
JUDGE = {"openAI": {"model": "m"}}
GUARD = {"llamaGuard": {}, "openAI": {"baseUrl": "http://guard:8000/v1", "model": "llama-guard-3-8b"}}
DIGEST = "sha256:" + "0" * 64


SUPERIOR = {"metric": "accuracy", "superiority": {"over": "base"}}


def guarded(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric by the guard and a gate on it."""
    gates = [{"metric": "safe", "absolute": {"minLowerBound": "0.9"}}]
    return {"metrics": [{"name": "safe", **metric}], "gates": gates, "guard": GUARD}


def compared(with_: str, over: str = "base") -> dict[str, Any]:
    """A preference metric over one baseline, and a gate that compares with another."""
    return {
        "baselines": [{"name": name, "fromCandidate": {}} for name in ("base", "other")],
        "metrics": [{"name": "preferred", "preference": {"over": with_}}],
        "gates": [{"metric": "preferred", "superiority": {"over": over}}],
    }


REFUSED: list[tuple[str, str, Any, str]] = [
    ("FineTuneJob", "spec.lora", None, "exactly one of lora, qlora, full must be set"),
    ("FineTuneJob", "spec.lora.dropout", "1.0", "dropout must be at least 0 and less than 1"),
    ("FineTuneJob", "spec.lora", {**EXPERTS, "dropout": "0.1"}, "targetParameters and dropout contradict each other"),
    ("FineTuneJob", "spec.lora", {**EXPERTS, "dora": True}, "targetParameters and dora contradict each other"),
    (
        "FineTuneJob",
        "spec.lora",
        {**EXPERTS, "initialisation": "OLoRA"},
        "targetParameters and initialisation PiSSA or OLoRA contradict each other",
    ),
    (
        "FineTuneJob",
        "spec.lora",
        {"dora": True, "initialisation": "PiSSA"},
        "dora and initialisation PiSSA or OLoRA contradict each other",
    ),
    ("FineTuneJob", "spec.training.maxSteps", 10, "epochs and maxSteps contradict each other"),
    (
        "FineTuneJob",
        "spec.training",
        {"warmupSteps": 0, "warmupRatio": "0.1"},
        "warmupSteps and warmupRatio contradict each other",
    ),
    ("FineTuneJob", "spec.training.warmupRatio", "1.5", "warmupRatio must be from 0 to 1"),
    ("FineTuneJob", "spec.training.earlyStopping", {"patience": 2}, "earlyStopping needs validation"),
    ("FineTuneJob", "spec.training.validation", {}, "exactly one of rows, fraction must be set"),
    ("FineTuneJob", "spec.training.validation", {"fraction": "0.6"}, "fraction must be more than 0 and at most 0.5"),
    (
        "FineTuneJob",
        "spec",
        {**FINE_TUNING, "full": {}, "output": {"uri": "pvc://models/a", "merge": True}},
        "output.merge is for adapters",
    ),
    ("FineTuneJob", "spec.training.learningRate", "abc", "must be a decimal number in quotes"),
    ("FineTuneJob", "spec.resources.memory", "6 GB", "must be a quantity"),
    (
        "FineTuneJob",
        "spec",
        {
            **FINE_TUNING,
            "full": {"optimizer": "AdamW8bit"},
            "resources": {"processesPerNode": 2},
            "planner": {"strategy": "FSDP"},
        },
        "planner.strategy must be DDP or Auto with full.optimizer AdamW8bit",
    ),
    ("FineTuneJob", "spec.resources.nodes", 2, "resources.nodes above 1 needs workspace.accessMode ReadWriteMany"),
    (
        "FineTuneJob",
        "spec.resources",
        {"processesPerNode": 2, "accelerator": {"perNode": 4}},
        "resources.processesPerNode must be resources.accelerator.perNode",
    ),
    (
        "FineTuneJob",
        "spec.resources.accelerator",
        {"resourceName": "nvidia.com/gpu", "resourceClaimTemplateName": "two-h100"},
        "resourceName and resourceClaimTemplateName are two ways to ask for the same accelerators",
    ),
    ("FineTuneJob", "spec.planner.strategy", "FSDP", "planner.strategy FSDP needs several processes"),
    ("FineTuneJob", "spec.planner.strategy", "HSDP", "planner.strategy HSDP needs several pods of several processes"),
    (
        "FineTuneJob",
        "spec",
        {**FINE_TUNING, "qlora": {}, "resources": {"processesPerNode": 2}, "planner": {"strategy": "FSDP"}},
        "planner.strategy must be DDP or Auto with qlora",
    ),
    ("FineTuneJob", "spec.output.mirror", {"uri": "s3://store/tuned"}, "a mirror at s3:// or gs:// needs secretRef"),
    ("FineTuneJob", "spec.output.mirror", {"uri": "gs://store/tuned"}, "a mirror at s3:// or gs:// needs secretRef"),
    ("FineTuneJob", "spec.model.uri", "gs://store/tiny", "cache says where a fetched model is kept"),
    ("FineTuneJob", "spec.model.uri", "hf://acme/tiny", "cache says where a fetched model is kept"),
    ("FineTuneJob", "spec.model.secretRef", {"name": "hub"}, "secretRef and endpoint are for a model that is fetched"),
    ("FineTuneJob", "spec.dataset.sources.0.columns", {"prompt": "q"}, "columns must name either messages, or both"),
    ("FineTuneJob", "spec.dataset.expect", {"maxExamples": 5}, "maxExamples must not be less than minExamples"),
    ("FineTuneJob", "spec.dataset.balance", {}, "balance needs category"),
    (
        "FineTuneJob",
        "spec.dataset.leakCheck",
        {"against": [{"uri": "pvc://vault/a.jsonl", "secretRef": {"name": "s"}}]},
        "secretRef is for data that is fetched",
    ),
    (
        "FineTuneJob",
        "spec.dataset.augmentation",
        {"generator": HOSTED, "validator": HOSTED, "rows": 5, "maxCost": "1"},
        "generator and validator both need their price",
    ),
    (
        "FineTuneJob",
        "spec.dataset.leakCheck",
        {
            "semantic": {
                "embedder": {"model": "embed-3", "pricePerMillion": "1"},
                "verifier": HOSTED,
                "maxCost": "1",
            }
        },
        "verifier needs its price",
    ),
    ("FineTuneJob", "spec.dataset.sources.0.secretRef", {"name": "s"}, "secretRef is for data that is fetched"),
    (
        "FineTuneJob",
        "spec.dataset.sources.0.endpoint",
        "https://s3.test",
        "endpoint is for hf://, s3://, gs:// and oci:// alone",
    ),
    (
        "Evaluation",
        "spec.baselines.0.fromCandidate",
        None,
        "exactly one of fromCandidate, incumbent, hosted must be set",
    ),
    (
        "Evaluation",
        "spec.metrics.0.f1",
        {},
        f"exactly one of {', '.join(METRICS)} must be set",
    ),
    ("Evaluation", "spec.gates.0.absolute", None, "exactly one of absolute, superiority, nonInferiority, latency"),
    ("Evaluation", "spec.serving", {}, "exactly one of triton, vllm must be set"),
    ("Evaluation", "spec.gates.0.metric", "nope", "every gate must name a metric of spec.metrics"),
    ("Evaluation", "spec.gates.1.superiority.over", "nope", "must name a baseline of spec.baselines"),
    ("Evaluation", "spec.gates.0.absolute", {}, "exactly one of minLowerBound, maxUpperBound must be set"),
    (
        "Evaluation",
        "spec.gates",
        [{"metric": "accuracy", "latency": {"maxMilliseconds": 9}}],
        "metric is what absolute",
    ),
    ("Evaluation", "spec.gates", [{"absolute": {"maxUpperBound": "0.1"}}], "metric is what absolute"),
    ("Evaluation", "spec.gates", [{"latency": {}}], "exactly one of maxMilliseconds, maxRatio must be set"),
    (
        "Evaluation",
        "spec.baselines",
        [{"name": "base", "hosted": {**PRICED, "requests": "Batch"}}],
        "requests Batch needs price.batch",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {
            **spec,
            "baselines": [{"name": "base", "hosted": {**UNPRICED["baselines"][0]["hosted"], "requests": "Batch"}}],
            "gates": [{"latency": {"maxRatio": "1", "to": "base"}}],
        },
        "a latency gate's 'to' cannot name a baseline whose requests are Batch",
    ),
    ("Evaluation", "spec.gates", [{"cost": {}}], "exactly one of maxPerQuery, maxRatio must be set"),
    ("Evaluation", "spec.gates", [{"latency": {"maxRatio": "1.2"}}], "to and maxRatio need each other"),
    ("Evaluation", "spec.gates", [{"latency": {"maxRatio": "1", "to": "nope"}}], "must name a baseline of"),
    ("Evaluation", "spec.gates", [{"cost": {"maxPerQuery": "0.01"}}], "a cost gate needs spec.servingCostPerHour"),
    ("Evaluation", "spec.baselines.0.name", "candidate", "a baseline cannot be named 'candidate'"),
    ("Evaluation", "spec.baselines", [{"name": "base", "hosted": {}}], "exactly one of openAI, anthropic must be set"),
    (
        "Evaluation",
        "spec.metrics",
        [{"name": "accuracy", "plugin": {"image": "tone:1", "lowest": "1"}}],
        "highest must be greater than lowest",
    ),
    ("Evaluation", "spec.baselines.0.answers", {"uri": "pvc://b/a", "digest": DIGEST}, "answers need hosted"),
    (
        "Evaluation",
        "spec.baselines",
        [{**UNPRICED["baselines"][0], "answers": {"uri": "pvc://b/../a", "digest": DIGEST}}],
        "uri must not have '..' in its path",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "budget": {"cost": "5"}, **UNPRICED},
        "price of every hosted baseline, of the judge and of the guard",
    ),
    (
        "Evaluation",
        "spec.policy",
        {"approval": "WhenInconclusive", "onInconclusive": "Fail"},
        "approval WhenInconclusive and onInconclusive Fail contradict each other",
    ),
    (
        "Evaluation",
        "spec.sealed",
        {"uri": "pvc://vault/../rows.jsonl", "digest": DIGEST},
        "sealed.uri must not have '..' in its path",
    ),
    ("Evaluation", "spec.judge", JUDGE, "or noRefusal told by Judge, and spec.judge need each other"),
    ("Evaluation", "spec.metrics", [{"name": "accuracy", "noRefusal": {}}], "or noRefusal told by Judge, and spec.jud"),
    ("Evaluation", "spec.metrics", [{"name": "accuracy", "guard": {}}], "a guard metric, or noRefusal told by Guard"),
    ("Evaluation", "spec.guard", GUARD, "a guard metric, or noRefusal told by Guard, and spec.guard need each other"),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, **guarded({"noRefusal": {"toldBy": "Guard"}})},
        "noRefusal told by Guard needs spec.guard.qwen3Guard",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, **guarded({"guard": {}}), "guard": {**GUARD, "qwen3Guard": {}}},
        "exactly one of llamaGuard, qwen3Guard must be set",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, **guarded({"guard": {}}), "budget": {"cost": "5"}},
        "spec.budget needs the price of every hosted baseline, of the judge and of the guard",
    ),
    ("Evaluation", "spec.judgeQuality", {}, "spec.judgeQuality needs spec.judge"),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "judge": JUDGE, **compared("base"), "judgeQuality": {"minSwapConsistency": "1.1"}},
        "minSwapConsistency must be from 0 to 1",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "judge": JUDGE, **compared("base"), "judgeQuality": {**LABELS, "minAgreement": "1.1"}},
        "minAgreement must be from 0 to 1",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "judge": JUDGE, **compared("base"), "judgeQuality": {"minAgreement": "0.8"}},
        "minAgreement needs humanLabels",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {
            **spec,
            "judge": JUDGE,
            **compared("base"),
            "judgeQuality": {"humanLabels": {"uri": "pvc://a/../b"}},
        },
        "humanLabels.uri must not have '..' in its path",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "judge": JUDGE, **compared("nope")},
        "every preference metric must name a baseline of spec.baselines",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {**spec, "judge": JUDGE, **compared("base", over="other")},
        "a gate on a preference metric must compare with the baseline that the metric names",
    ),
    ("Evaluation", "spec.gates", [{"metric": "accuracy", "anyOf": [SUPERIOR] * 2}], "metric is what absolute"),
    ("Evaluation", "spec.gates", [{"anyOf": [SUPERIOR]}], "should have at least 2 items"),
    ("Evaluation", "spec.gates", [{"anyOf": [SUPERIOR, {"metric": "accuracy"}]}], "exactly one of superiority, nonInf"),
    ("Evaluation", "spec.gates", [{"anyOf": [SUPERIOR, {**SUPERIOR, "metric": "no"}]}], "must name a metric of spec"),
    (
        "Evaluation",
        "spec.gates",
        [{"anyOf": [SUPERIOR, {"metric": "accuracy", "superiority": {"over": "no"}}]}],
        "must name a baseline of spec.baselines",
    ),
    (
        "Evaluation",
        "spec",
        lambda spec: {
            **spec,
            "judge": JUDGE,
            **compared("base"),
            "gates": [
                {"anyOf": [{"metric": "preferred", "superiority": {"over": name}} for name in ("base", "other")]}
            ],
        },
        "a gate on a preference metric must compare with the baseline that the metric names",
    ),
    ("Evaluation", "spec.generation", {"temperature": "2.1"}, "temperature must be 0 to 2"),
    ("Evaluation", "spec.generation", {"temperature": "0.7"}, "generation.temperature above 0 needs serving.vllm"),
    ("Evaluation", "spec.generation", {"epochs": 2}, "generation.epochs above 1 would get the same answers again"),
    ("ModelDeployment", "spec.triton", None, "exactly one of triton, vllm must be set"),
    ("ModelDeployment", "spec.model", {}, "exactly one of fineTuneJobRef, selector must be set"),
    ("ModelDeployment", "spec.model", {"selector": {"matchLabels": {"a": "b"}}}, "set only one"),
]


def _named(value: Any) -> str:
    """A test's name is the same in every process: no address of a function in it."""
    return "changed" if callable(value) else str(value)[:40]


@pytest.mark.parametrize(("kind", "path", "value", "sentence"), REFUSED, ids=_named)
def test_rule_refuses_with_its_sentence(server: Server, kind: str, path: str, value: Any, sentence: str) -> None:
    obj = changed(samples()[kind], path, value)
    assert sentence in (server.refusal(BY_NAME[kind], obj) or "accepted")
    with pytest.raises(ValidationError, match=sentence[:20]):
        BY_NAME[kind].model.model_validate(obj)


def test_every_rule_is_exercised() -> None:
    """No rule without a refusal above (rules that need an older object are exercised below)."""
    messages = {r["message"] for kind in KINDS for r in rules_of(crd(kind)["spec"]["versions"][0]["schema"])}
    unseen = {m for m in messages if not any(s in m for _, _, _, s in REFUSED) and "cannot be changed" not in m}
    assert not unseen


def rules_of(node: Any) -> Iterator[dict[str, str]]:
    """Every CEL rule below a schema node."""
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", ())
        for child in node.values():
            yield from rules_of(child)
    elif isinstance(node, list):
        for child in node:
            yield from rules_of(child)


CHANGES: dict[str, dict[str, tuple[str, Any]]] = {
    "FineTuneJob": {
        "model": ("spec.model.uri", "pvc://hub/other"),
        "dataset": ("spec.dataset.split.seed", 7),
        "lora": ("spec.lora.rank", 4),
        "qlora": ("spec", {**FINE_TUNING, "qlora": {}}),
        "full": ("spec", {**FINE_TUNING, "full": {}}),
        "training": ("spec.training.epochs", 5),
        "resources": ("spec.resources.memory", "9Gi"),
        "planner": ("spec.planner", {"policy": "Warn"}),
        "scheduling": ("spec.scheduling.priorityClassName", "high"),
        "workspace": ("spec.workspace.size", "3Gi"),
        "output": ("spec.output.uri", "pvc://models/other"),
        "tracking": ("spec.tracking", {"mlflow": {"secretRef": {"name": "tracker"}}}),
    },
    "Evaluation": {
        "candidate": ("spec.candidate.fineTuneJobRef.name", "other"),
        "baselines": ("spec.baselines", [{"name": "base", "fromCandidate": {}}, {"name": "b", "fromCandidate": {}}]),
        "sealed": ("spec.sealed", {"uri": "pvc://vault/rows.jsonl", "digest": DIGEST}),
        "serving": ("spec.serving", None),
        "generation": ("spec.generation.maxTokens", 5),
        "metrics": ("spec.metrics", [{"name": "accuracy", "f1": {}}]),
        "judge": (
            "spec",
            lambda spec: {
                **spec,
                "judge": JUDGE,
                "metrics": [*spec["metrics"], {"name": "judged", "judged": {}}],
            },
        ),
        "judgeQuality": (
            "spec",
            lambda spec: {**spec, "judge": JUDGE, **compared("base"), "judgeQuality": {}},
        ),
        "guard": (
            "spec",
            lambda spec: {**spec, "guard": GUARD, "metrics": [*spec["metrics"], {"name": "safe", "guard": {}}]},
        ),
        "gates": ("spec.gates", [{"metric": "accuracy", "absolute": {"minLowerBound": "0.1"}}]),
        "statistics": ("spec.statistics.seed", 4),
        "budget": ("spec.budget", {"cost": "5"}),
        "servingCostPerHour": ("spec.servingCostPerHour", "2"),
        "policy": ("spec.policy.maxErrorRate", "0.5"),
        "resources": ("spec.resources.cpu", "2"),
        "scheduling": ("spec.scheduling.priorityClassName", "high"),
    },
}


@pytest.mark.parametrize("kind", ["FineTuneJob", "Evaluation"])
def test_spec_is_frozen_after_the_start_and_not_before(
    server: Server, control_plane: KubernetesUnderTest, kind: str
) -> None:
    frozen = {
        r["message"].split()[0].removeprefix("spec.")
        for r in BY_NAME[kind].rules
        if "cannot be changed" in r["message"]
    }
    assert frozen == set(CHANGES[kind])
    sample = samples()[kind]
    for started in (False, True):
        name = f"frozen-{str(started).lower()}"
        obj = changed(sample, "metadata.name", name)
        control_plane.kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=json.dumps(obj))
        if started:
            patch = '{"status":{"startTime":"2026-01-01T00:00:00Z"}}'
            control_plane.kubectl(
                "-n", NAMESPACE, "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch
            )
        for field, (path, value) in CHANGES[kind].items():
            new = json.dumps(changed(obj, path, value))
            done = control_plane.try_kubectl("-n", NAMESPACE, "replace", "--dry-run=server", "-f", "-", stdin=new)
            assert (done.returncode != 0) is started, (field, done.stderr)
            assert not started or f"spec.{field} cannot be changed once the object has started" in done.stderr


def with_known_names(spec: dict[str, Any]) -> dict[str, Any]:
    """An Evaluation's spec whose parts name each other, which chance alone rarely draws."""
    named = copy.deepcopy(spec)
    named["baselines"] = named.get("baselines") or [{"fromCandidate": {}}]
    for entries in (named["metrics"], named["baselines"]):
        for i, entry in enumerate(entries):
            entry["name"] = f"n{i}"
    for baseline in named["baselines"]:
        if "secretRef" in baseline.get("hosted", {"secretRef": None}):
            baseline.pop("answers", None)
    for gate in named["gates"]:
        _name_its_parts(gate)
        if "cost" in gate:
            named.setdefault("servingCostPerHour", "1")
    for metric in named["metrics"]:
        if "preference" in metric:
            metric["preference"]["over"] = "n0"
    return named


def _name_its_parts(gate: dict[str, Any]) -> None:
    gate["metric"] = "n0"
    for test, member in (("superiority", "over"), ("nonInferiority", "to")):
        if test in gate:
            gate[test][member] = "n0"
    for test in ("latency", "cost"):
        if test in gate:
            gate.pop("metric", None)
            gate[test].pop("to", None)
            gate[test] |= {"to": "n0"} if "maxRatio" in gate[test] else {}


@pytest.mark.parametrize("kind", KINDS, ids=[k.kind for k in KINDS])
def test_pydantic_and_the_server_agree(server: Server, kind: KindInfo) -> None:
    """Whatever the schema can draw, good or nearly good: both accept it or both refuse it."""
    spec = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    tally = {True: 0, False: 0}

    @settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(values(spec), st.booleans())
    def agree(drawn: dict[str, Any], settled: bool) -> None:
        if settled and "gates" in drawn:
            drawn = with_known_names(drawn)
        obj = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind.kind, "metadata": {"name": "drawn"}, "spec": drawn}
        refusal = server.refusal(kind, obj)
        try:
            kind.model.model_validate(obj)
        except ValidationError as error:
            assert refusal is not None, f"only pydantic refuses: {error}\n{drawn}"
        else:
            assert refusal is None, f"only the server refuses: {refusal}\n{drawn}"
        tally[refusal is None] += 1

    agree()
    assert tally[True] > 10, tally
    assert tally[False] > 10, tally
