"""The pod of an Evaluation: what it may touch, what its parts are told, and that it is the server of production."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import as_stored, digest, evaluation
from tests.unit.kinds.evaluation.objects import ARTIFACT, RECORDED, SCORED, at
from tests.unit.kinds.modeldeployment.stage import stage
from tests.unit.kinds.scenes import FACTS, NOW, live

from anneal.api.runs import EvaluateRun, ServeRun, parse_run
from anneal.kinds.contract import Images, Reference, Seen
from anneal.kinds.evaluation.plan import plan, references

Json = dict[str, Any]


def made(given: Seen | None = None, **spec: Any) -> tuple[Json, Json]:
    """(ConfigMap, Job) that are asked for."""
    config_map, job = plan(given or at(RECORDED, spec=spec), NOW).apply
    return dict(config_map), dict(job)


def containers(job: Json) -> dict[str, Json]:
    spec = job["spec"]["template"]["spec"]
    return {c["name"]: c for c in [*spec["initContainers"], *spec["containers"]]}


def mounts(container: Json) -> dict[str, bool]:
    """Claims that a container mounts, and whether it may write to them."""
    found = {m["mountPath"]: not m.get("readOnly", False) for m in container["volumeMounts"]}
    return {p.removeprefix("/claims/"): w for p, w in found.items() if p.startswith("/claims/")}


def test_the_server_is_a_sidecar_that_answers_before_it_is_asked() -> None:
    _, job = made()
    spec = job["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["layout", "server"]
    assert [c["name"] for c in spec["containers"]] == ["evaluate"]
    server = containers(job)["server"]
    assert server["restartPolicy"] == "Always"
    assert server["startupProbe"]["exec"]["command"] == ["python", "-m", "anneal_serving", "probe"]
    assert "readinessProbe" not in server
    assert spec["restartPolicy"] == "Never"


def test_vllm_judges_with_the_pod_that_serves() -> None:
    settings = {"maxModelLength": 2048}
    config_map, job = made(serving={"triton": None, "vllm": settings})
    serve, run = parse_run(config_map["data"]["serve.json"]), parse_run(config_map["data"]["run.json"])
    assert isinstance(serve, ServeRun)
    assert isinstance(run, EvaluateRun)
    assert serve.vllm is not None
    assert (serve.vllm.to_json(), run.runtime) == (settings, "vllm")
    server, deployed = containers(job)["server"], stage(triton=None, vllm=settings)
    revision = (deployed.settle(), deployed.revisions[0])[1]
    [production] = deployed.deployment(revision)["spec"]["template"]["spec"]["containers"]
    for member in ("image", "command", "securityContext"):
        assert server[member] == production[member]
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]


def test_the_probe_has_time_for_every_model() -> None:
    baselines = [{"name": f"base-{n}", "fromCandidate": {}} for n in range(4)]
    gates = [{"metric": "accuracy", "absolute": {"minLowerBound": "0.5"}}]
    _, job = made(baselines=baselines, gates=gates)
    assert containers(job)["server"]["startupProbe"]["timeoutSeconds"] == 4 + 4 * 5


def test_resources_are_the_servers_and_the_evaluator_needs_little() -> None:
    _, job = made(resources={"cpu": "2", "memory": "6Gi", "accelerator": {"perNode": 2}})
    parts = containers(job)
    assert parts["server"]["resources"] == {
        "requests": {"cpu": "2", "memory": "6Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "6Gi", "nvidia.com/gpu": "2"},
    }
    assert parts["evaluate"]["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}


def test_only_the_evaluator_writes_and_only_beside_the_artifact() -> None:
    _, job = made()
    parts = containers(job)
    assert mounts(parts["layout"]) == mounts(parts["server"]) == {"hub": False, "models": False}
    assert mounts(parts["evaluate"]) == {"models": True}
    claims = [v for v in job["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert [v["persistentVolumeClaim"] for v in claims] == [
        {"claimName": "hub", "readOnly": True},
        {"claimName": "models"},
    ]


def test_every_container_passes_pod_security_restricted() -> None:
    _, job = made()
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(job).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_all_questions_under_way_fit_one_batch_of_the_server() -> None:
    config_map, _ = made(generation={"concurrency": 33})
    run = parse_run(config_map["data"]["serve.json"])
    assert isinstance(run, ServeRun)
    assert run.max_batch_size == 33


def test_the_server_is_told_of_the_candidate_and_of_the_bare_base() -> None:
    config_map, job = made()
    run = parse_run(config_map["data"]["serve.json"])
    assert isinstance(run, ServeRun)
    candidate, base = run.models
    assert (candidate.name, base.name) == ("candidate", "base")
    assert candidate.adapter is not None
    assert candidate.adapter.path == "/claims/models/intents-v1/0123456789abcdef"
    assert candidate.adapter_digest == ARTIFACT["digest"]
    assert base.adapter is None
    assert candidate.base == base.base
    assert (base.base.path, base.base_digest) == ("/claims/hub/base", ARTIFACT["baseDigest"])
    environment = {e["name"]: e["value"] for e in containers(job)["server"]["env"]}
    assert environment["ANNEAL_RUN_FILE"] == "/etc/anneal/serve.json"
    assert containers(job)["layout"]["env"] == containers(job)["server"]["env"]


def test_the_evaluator_is_told_what_to_ask_and_where_to_write() -> None:
    config_map, job = made()
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.models == ["candidate", "base"]
    assert run.server_url == "localhost:8000"
    assert run.held_out.path == "/claims/models/intents-v1/0123456789abcdef/evaluation/held-out.jsonl"
    assert run.held_out_digest == digest("held out")
    name = job["metadata"]["name"]
    assert run.report.uri == f"pvc://models/intents-v1/evaluations/{name}"
    assert run.reporting is not None
    assert config_map["data"]["ca.crt"] == "CA of leader 1"
    environment = {e["name"]: e["value"] for e in containers(job)["evaluate"]["env"]}
    assert environment["ANNEAL_RUN_FILE"] == "/etc/anneal/run.json"
    assert "/var/run/anneal" in [m["mountPath"] for m in containers(job)["evaluate"]["volumeMounts"]]


CLAIMS = ("hub", "models", "brought")
GATE = {"metric": "accuracy", "absolute": {"minLowerBound": "0.5"}}


def hosted(name: str, **more: Any) -> Json:
    return {"name": name, "hosted": {"openAI": {"model": "gpt-5"}, **more}}


def test_a_hosted_baseline_is_not_served_and_its_key_is_the_evaluators_alone() -> None:
    secret = {"secretRef": {"name": "openai", "key": "api-key"}}
    baselines = [{"name": "base", "fromCandidate": {}}, hosted("gpt", **secret), hosted("local")]
    config_map, job = made(baselines=baselines)
    serve, run = parse_run(config_map["data"]["serve.json"]), parse_run(config_map["data"]["run.json"])
    assert isinstance(serve, ServeRun)
    assert [m.name for m in serve.models] == ["candidate", "base"]
    assert isinstance(run, EvaluateRun)
    assert run.models == ["candidate", "base", "gpt", "local"]
    spec, parts = job["spec"]["template"]["spec"], containers(job)
    assert parts["server"]["startupProbe"]["timeoutSeconds"] == 4 + 4 * 2
    assert [v for v in spec["volumes"] if "secret" in v] == [
        {
            "name": "key-1",
            "secret": {
                "secretName": "openai",
                "items": [{"key": "api-key", "path": "key"}],
                "defaultMode": 0o440,
                "optional": True,
            },
        }
    ]
    holders = {n for n, c in parts.items() if any(m["name"] == "key-1" for m in c["volumeMounts"])}
    assert holders == {"keys", "evaluate"}
    assert [c["name"] for c in spec["initContainers"]] == ["keys", "layout", "server"], "looked for before loading"
    assert parts["keys"]["command"] == ["python", "-m", "anneal_evaluator", "keys"]
    assert mounts(parts["keys"]) == {}
    assert "openai" not in json.dumps(parts), "the Secret is named in the volume alone"


def test_human_labels_are_mounted_into_the_evaluator_and_their_claim_is_missed() -> None:
    judged = {
        "metrics": [{"name": "accuracy", "judged": {}}],
        "judge": {"openAI": {"model": "mistral-large"}},
        "judgeQuality": {"humanLabels": {"uri": "pvc://labels/a.jsonl"}},
        "gates": [{"metric": "accuracy", "absolute": {"minLowerBound": "0.8"}}],
    }
    claims = ("hub", "models", "labels")
    config_map, job = made(at(RECORDED, spec=judged, claims=claims))
    assert mounts(containers(job)["evaluate"]) == {"models": True, "labels": False}
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.human_labels is not None
    assert run.human_labels.path == "/claims/labels/a.jsonl"
    missing = plan(at(RECORDED, spec=judged), NOW).status
    assert missing["reason"] == "ClaimNotFound"
    assert "'labels'" in missing["message"]


def test_the_judges_key_is_mounted_where_no_baselines_can_be() -> None:
    judge = {"anthropic": {"model": "claude"}, "secretRef": {"name": "anthropic", "key": "k"}}
    metrics = [{"name": "accuracy", "judged": {}}]
    _, job = made(metrics=metrics, judge=judge, baselines=[{"name": "base", "fromCandidate": {}}])
    paths = [m["mountPath"] for m in containers(job)["evaluate"]["volumeMounts"] if m["name"].startswith("key-")]
    assert paths == ["/var/run/anneal-keys/_judge"]


def test_the_guard_has_a_key_of_its_own_and_is_asked_the_same_every_time() -> None:
    guard = {"llamaGuard": {}, "openAI": {"model": "llama-guard-3-8b"}, "secretRef": {"name": "guard", "key": "k"}}
    config_map, job = made(metrics=[{"name": "accuracy", "guard": {}}], guard=guard)
    paths = [m["mountPath"] for m in containers(job)["evaluate"]["volumeMounts"] if m["name"].startswith("key-")]
    assert paths == ["/var/run/anneal-keys/_guard"]
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.guard is not None
    asked = run.guard.hosted
    assert (asked.open_ai and asked.open_ai.temperature, asked.max_tokens) == ("0", 128)


def test_plugins_stand_between_asking_and_judging() -> None:
    second = {"name": "style", "plugin": {"image": "style"}}
    _, job = made(metrics=[*SCORED["metrics"], second], baselines=[hosted("gpt")], gates=[GATE])
    spec = job["spec"]["template"]["spec"]
    order = ["layout", "server", "respond", "plugin-tone", "plugin-style"]
    assert [c["name"] for c in spec["initContainers"]] == order
    assert containers(job)["respond"]["command"] == ["python", "-m", "anneal_evaluator", "respond"]
    assert mounts(containers(job)["respond"]) == mounts(containers(job)["evaluate"]) == {"models": True}


def test_a_plugin_gets_the_answers_and_a_place_for_scores_and_nothing_else() -> None:
    secret = {"secretRef": {"name": "openai", "key": "api-key"}}
    second = {"name": "style", "plugin": {"image": "style"}}
    _, job = made(metrics=[*SCORED["metrics"], second], baselines=[hosted("gpt", **secret)], gates=[GATE])
    parts, spec = containers(job), job["spec"]["template"]["spec"]
    plugin = parts["plugin-tone"]
    assert plugin["volumeMounts"] == [
        {"name": "answers", "mountPath": "/answers", "readOnly": True},
        {"name": "scores-0", "mountPath": "/scores"},
        {"name": "plugin-tmp-0", "mountPath": "/tmp"},
    ]
    assert (plugin["image"], plugin["args"], "command" in plugin) == ("registry.test/tone:1", ["--strict"], False)
    assert plugin["resources"] == {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}
    assert {e["name"]: e["value"] for e in plugin["env"]} == {
        "HOME": "/tmp",
        "ANNEAL_ANSWERS": "/answers/answers.jsonl",
        "ANNEAL_SCORES": "/scores/scores.jsonl",
    }
    assert plugin["securityContext"] == parts["server"]["securityContext"]
    writers = [n for n, c in parts.items() for m in c["volumeMounts"] if m["name"] == "answers" and "readOnly" not in m]
    assert writers == ["respond"]
    seen = {m["mountPath"] for m in parts["evaluate"]["volumeMounts"] if m["name"].startswith("scores-")}
    assert seen == {"/var/run/anneal-plugins/scores/tone", "/var/run/anneal-plugins/scores/style"}
    sizes = {v["name"]: v["emptyDir"].get("sizeLimit") for v in spec["volumes"] if "emptyDir" in v}
    assert (sizes["scores-1"], sizes["plugin-tmp-1"]) == ("64Mi", "256Mi")


def test_a_plugin_that_fails_by_itself_is_not_tried_again() -> None:
    _, job = made(**SCORED)
    first, *rest = job["spec"]["podFailurePolicy"]["rules"]
    exits = {"containerName": "plugin-tone", "operator": "NotIn", "values": [137, 143]}
    assert first == {"action": "FailJob", "onExitCodes": exits}
    assert rest == made()[1]["spec"]["podFailurePolicy"]["rules"]


def test_without_plugins_the_pod_is_as_it_was() -> None:
    _, job = made()
    assert {v["name"] for v in job["spec"]["template"]["spec"]["volumes"] if "emptyDir" in v} == {"tmp", "models"}


def test_answers_that_are_brought_along_are_read_by_the_evaluator_alone() -> None:
    answers = {"uri": "pvc://brought/gpt.jsonl", "digest": digest("answers")}
    baselines = [{**hosted("gpt"), "answers": answers}]
    config_map, job = made(at(RECORDED, spec={"baselines": baselines, "gates": [GATE]}, claims=CLAIMS))
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.answers == {"gpt": "/claims/brought/gpt.jsonl"}
    assert mounts(containers(job)["evaluate"]) == {"brought": False, "models": True}
    without = at(RECORDED, spec={"baselines": baselines, "gates": [GATE]})
    assert "PersistentVolumeClaim 'brought' does not exist" in plan(without, NOW).status["message"]
    assert Reference("PersistentVolumeClaim", "brought") in references(without.obj, {})


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ({"name": "base", "fromCandidate": {}}, "answers need hosted"),
        (hosted("gpt", secretRef={"name": "openai", "key": "k"}), "answers need hosted"),
        (hosted("gpt"), "uri must not have '..'"),
    ],
)
def test_answers_of_nobody_or_out_of_a_claim_are_refused(baseline: Json, said: str) -> None:
    answers = {"uri": "pvc://brought/../gpt.jsonl" if "uri" in said else "pvc://b/a", "digest": digest("answers")}
    given = at(RECORDED, spec={"baselines": [{**baseline, "answers": answers}], "gates": [GATE]})
    assert said in plan(given, NOW).status["message"]


def test_without_an_endpoint_nothing_is_reported() -> None:
    config_map, job = made(at(RECORDED, facts=replace(FACTS, reports=None)))
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.reporting is None
    assert "/var/run/anneal" not in [m["mountPath"] for m in containers(job)["evaluate"]["volumeMounts"]]


def test_an_artifact_at_the_root_of_its_claim_has_its_reports_there() -> None:
    config_map, job = made(at({**RECORDED, "subjectUri": "pvc://models/0123456789abcdef"}))
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.report.path == f"/claims/models/evaluations/{job['metadata']['name']}"


def test_a_job_that_exists_keeps_its_template_when_the_operator_is_upgraded() -> None:
    config_map, job = made()
    newer = replace(
        FACTS, images=Images(trainer="trainer:2", evaluator="evaluator:2", triton="triton:2", vllm="vllm:2")
    )
    _, later = made(at(RECORDED, live(config_map), live(job), facts=newer))
    assert later["spec"]["template"] == job["spec"]["template"]


def test_objects_of_one_name_share_nothing() -> None:
    """A deleted Evaluation's Job may still be there when one of the same name is created."""
    first = made(at(RECORDED))[1]
    second = made(replace(at(RECORDED), obj=as_stored(evaluation(), uid="uid-00002", **RECORDED)))[1]
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_names_of_253_characters_stay_apart() -> None:
    long = "a" * 250
    names = {
        made(replace(at(RECORDED), obj=as_stored(evaluation(f"{long}{end}"), **RECORDED)))[1]["metadata"]["name"]
        for end in ("xyz", "xyw")
    }
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)
