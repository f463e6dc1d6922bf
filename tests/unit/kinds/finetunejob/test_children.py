"""What a FineTuneJob asks for: small, restricted pods that know what to do and can do nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import as_stored, claim, digest, fine_tune_job
from tests.unit.kinds.finetunejob.cases import (
    ARTIFACT,
    PREPARED,
    RESULTS,
    STARTED,
    TRAINED,
    at,
    children_of,
    message,
    succeeding,
)
from tests.unit.kinds.scenes import FACTS, NOW, live, pod, seen

from anneal.api.runs import FitRun, PrepareRun, PublishRun, parse_run
from anneal.kinds.finetunejob.plan import plan
from anneal.reconcile.apply import contains

Json = dict[str, Any]
STATUSES = {"prepare": STARTED, "fit": PREPARED, "publish": TRAINED}
every_step = pytest.mark.parametrize("role", STATUSES)


def asked(role: str, **more: Any) -> dict[str, Any]:
    """What the step asks for, by kind."""
    return {o["kind"]: o for o in plan(at(STATUSES[role], **more), NOW).apply}


def pod_spec(role: str, **more: Any) -> Any:
    return asked(role, **more)["Job"]["spec"]["template"]["spec"]


def run_of(role: str, **more: Any) -> Any:
    return parse_run(asked(role, **more)["ConfigMap"]["data"]["run.json"])


def mounts(role: str, **more: Any) -> dict[str, bool]:
    """Mount path -> whether the pod may write there."""
    (container,) = pod_spec(role, **more)["containers"]
    return {m["mountPath"]: not m.get("readOnly", False) for m in container["volumeMounts"]}


@every_step
def test_what_is_needed_first_comes_first(role: str) -> None:
    assert list(asked(role)) == ["PersistentVolumeClaim", "ConfigMap", "Job"]


@every_step
def test_a_pod_passes_pod_security_restricted(role: str) -> None:
    spec = pod_spec(role)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {k for v in spec["volumes"] for k in v} <= {
        "name",
        "configMap",
        "emptyDir",
        "persistentVolumeClaim",
        "projected",
    }


@every_step
def test_children_are_owned_and_carry_no_label_of_the_users(role: str) -> None:
    obj = as_stored(fine_tune_job(labels={"argocd.argoproj.io/instance": "models"}), **STATUSES[role])
    for child in plan(seen(obj), NOW).apply:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-00001", True)
        assert set(child["metadata"]["labels"]) == {
            "app.kubernetes.io/managed-by",
            "anneal.dev/owner-uid",
            "anneal.dev/role",
        }


@every_step
def test_the_longest_names_and_the_shortest_still_give_dns_labels(role: str) -> None:
    names = [("a." * 126) + "a", "x", "1"]
    found: list[str] = []
    for name in names:
        obj = as_stored(fine_tune_job(name), uid=f"uid-of-{name}", **STATUSES[role])
        found += [f"{c['kind']}/{c['metadata']['name']}" for c in plan(seen(obj), NOW).apply]
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", n.partition("/")[2]) for n in found)
    assert len(set(found)) == len(found)


def test_two_long_names_that_differ_at_their_end_have_different_children() -> None:
    def name_of(end: str) -> Any:
        obj = as_stored(fine_tune_job("n" * 252 + end), **STARTED)
        return plan(seen(obj), NOW).apply[-1]["metadata"]["name"]

    assert name_of("a") != name_of("b")


def test_an_object_made_again_under_its_name_has_other_children() -> None:
    first, second = (plan(seen(as_stored(fine_tune_job(), uid=u, **STARTED)), NOW) for u in ("one", "two"))
    assert not {c["metadata"]["name"] for c in first.apply} & {c["metadata"]["name"] for c in second.apply}


def test_all_steps_share_one_workspace() -> None:
    assert len({asked(role)["PersistentVolumeClaim"]["metadata"]["name"] for role in STATUSES}) == 1


def test_the_workspace_is_as_the_spec_says() -> None:
    spec = {"workspace": {"size": "2Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"}}
    assert asked("prepare", spec=spec)["PersistentVolumeClaim"]["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "2Gi"}},
        "storageClassName": "fast",
    }
    assert "storageClassName" not in asked("prepare")["PersistentVolumeClaim"]["spec"]


def test_a_workspace_that_somebody_grew_is_left_alone() -> None:
    workspace = live(asked("prepare")["PersistentVolumeClaim"])
    workspace["spec"]["resources"]["requests"]["storage"] = "50Gi"
    assert [o["kind"] for o in plan(at(STARTED, workspace), NOW).apply] == ["ConfigMap", "Job"]


# What each pod is told


def test_prepare_is_told_where_the_data_and_the_base_are() -> None:
    sources = [{"uri": "pvc://hub/a/b.jsonl", "format": "Alpaca"}, {"uri": "https://data.test/c.jsonl"}]
    run = run_of("prepare", spec={"dataset": {"sources": sources, "systemPrompt": "Be brief."}})
    assert isinstance(run, PrepareRun)
    assert (run.model.uri, run.model.path) == ("pvc://hub/base", "/claims/hub/base")
    assert [(s.uri, s.path, s.format) for s in run.sources] == [
        ("pvc://hub/a/b.jsonl", "/claims/hub/a/b.jsonl", "Alpaca"),
        ("https://data.test/c.jsonl", None, "Auto"),
    ]
    assert (run.split.held_out, run.split.seed, run.max_length, run.system_prompt) == (150, 42, 256, "Be brief.")
    assert (run.object.kind, run.object.namespace, run.object.name) == ("FineTuneJob", "team", "intents-v1")


def test_fit_is_told_what_prepare_found() -> None:
    run = run_of("fit")
    assert isinstance(run, FitRun)
    assert (run.base_digest, run.train_digest) == (digest("base"), digest("rows"))
    assert (run.method.lora.rank, run.training.learning_rate) == (16, "1e-3")
    assert run.reporting is not None
    assert run.reporting.url == "https://anneal-reports/v1/progress"


def test_publish_is_told_how_training_ended() -> None:
    run = run_of("publish")
    assert isinstance(run, PublishRun)
    assert (run.output.uri, run.output.path) == ("pvc://models/intents-v1", "/claims/models/intents-v1")
    assert (run.trained.steps, run.counts.train, run.test_digest) == (100, 1200, digest("held out"))


def test_each_pod_can_reach_only_what_its_step_needs() -> None:
    common = {"/etc/anneal": False, "/tmp": True, "/workspace": True}
    spec = {"dataset": {"sources": [{"uri": "pvc://data/rows.jsonl"}]}}
    more = {"spec": spec, "claims": ["hub", "data", "models"]}
    assert mounts("prepare", **more) == {**common, "/claims/hub": False, "/claims/data": False}
    assert mounts("fit", **more) == {**common, "/claims/hub": False, "/var/run/anneal": False}
    assert mounts("publish", **more) == {**common, "/claims/hub": False, "/claims/models": True}


PRICE = {"inputPerMillion": "1.25", "outputPerMillion": "10"}
AUGMENTATION: Json = {
    "generator": {"openAI": {"model": "gpt-5"}, "secretRef": {"name": "openai", "key": "token"}, "price": PRICE},
    "validator": {
        "anthropic": {"model": "claude-sonnet-4"},
        "secretRef": {"name": "claude", "key": "k"},
        "price": PRICE,
    },
    "rows": 200,
    "maxCost": "20",
}


def test_the_keys_of_those_who_write_rows_are_mounted_where_data_is_prepared_and_nowhere_else() -> None:
    spec = {"dataset": {"sources": [{"uri": "pvc://hub/rows.jsonl"}], "augmentation": AUGMENTATION}}
    run = run_of("prepare", spec=spec)
    assert isinstance(run, PrepareRun)
    assert run.augmentation is not None
    assert (run.augmentation.to_json()["rows"], run.keys) == (200, "/var/run/anneal-keys")
    for role in ("prepare", "fit", "publish"):
        found = {path for path in mounts(role, spec=spec) if "keys" in path}
        wanted = {f"{run.keys}/generator", f"{run.keys}/validator"} if role == "prepare" else set()
        assert found == wanted


def test_so_are_the_keys_of_those_who_compare_meanings() -> None:
    key = {"secretRef": {"name": "openai", "key": "token"}}
    embedder = {"model": "embed-3", "pricePerMillion": "0.02", **key}
    wanted = {"embedder": embedder, "verifier": AUGMENTATION["validator"], "maxCost": "1"}
    spec = {"dataset": {"sources": [{"uri": "pvc://hub/rows.jsonl"}], "leakCheck": {"semantic": wanted}}}
    found = {role: {path for path in mounts(role, spec=spec) if "keys" in path} for role in ("prepare", "fit")}
    assert found == {"prepare": {"/var/run/anneal-keys/embedder", "/var/run/anneal-keys/verifier"}, "fit": set()}


FETCHED: Json = {
    "model": {"uri": "hf://acme/tiny:v1", "cache": "pvc://bases/models", "secretRef": {"name": "hub"}},
    "dataset": {
        "sources": [
            {"uri": "s3://data/rows.jsonl", "endpoint": "https://s3.test", "secretRef": {"name": "store"}},
            {"uri": "hf://datasets/acme/chats/rows.jsonl", "secretRef": {"name": "hub"}},
        ]
    },
}
FOUND: Json = {
    **PREPARED,
    "resolved": {"model": "c0ffee" + "0" * 34, "sources": [digest("rows"), "b" * 40]},
    "model": {**PREPARED["model"], "uri": "pvc://bases/models/tiny-0123"},
}


def test_prepare_is_told_what_to_fetch_and_as_whom() -> None:
    run = run_of("prepare", spec=FETCHED, claims=["bases", "models"])
    assert isinstance(run, PrepareRun)
    assert run.model.to_json() == {
        "uri": "hf://acme/tiny:v1",
        "cache": {"uri": "pvc://bases/models", "path": "/claims/bases/models"},
        "access": {"endpoint": "https://hub.test", "credentials": "/credentials/hub"},
    }
    assert [(s.path, s.access.endpoint, s.access.credentials) for s in run.sources] == [
        (None, "https://s3.test", "/credentials/store"),
        (None, "https://hub.test", "/credentials/hub"),
    ]


SEALED: Json = {"uri": "pvc://vault/sealed.jsonl"}
BENCHMARK: Json = {"uri": "hf://datasets/acme/benchmark/rows.jsonl", "secretRef": {"name": "hub"}}
COMPARED: Json = {"dataset": {"leakCheck": {"against": [SEALED, BENCHMARK]}}}


def test_prepare_alone_is_told_which_files_to_compare_with_and_may_read_them() -> None:
    more: Json = {"spec": COMPARED, "claims": ["hub", "models", "vault"]}
    run = run_of("prepare", **more)
    assert isinstance(run, PrepareRun)
    assert [(s.uri, s.path, s.access.credentials) for s in run.against] == [
        ("pvc://vault/sealed.jsonl", "/claims/vault/sealed.jsonl", None),
        ("hf://datasets/acme/benchmark/rows.jsonl", None, "/credentials/hub"),
    ]
    assert "pvc://vault/sealed.jsonl" not in {source.uri for source in run.sources}
    places = {role: mounts(role, **more) for role in ("prepare", "fit", "publish")}
    assert places["prepare"].items() >= {"/claims/vault": False, "/credentials/hub": False}.items()
    assert not [p for role in ("fit", "publish") for p in places[role] if p in ("/claims/vault", "/credentials/hub")]


@pytest.mark.parametrize(("files", "phase"), [(None, "Failed"), (1, "Failed"), (2, "Preparing")])
def test_a_pod_that_compared_with_other_files_than_were_wanted_is_not_believed(files: int | None, phase: str) -> None:
    compared = None if files is None else [{"digest": digest("sealed"), "rows": 9, "leaks": 1}] * files
    said = {**RESULTS["prepare"], "dataset": {**PREPARED["dataset"], **({"compared": compared} if compared else {})}}
    more: Json = {"spec": COMPARED, "claims": ["hub", "models", "vault"]}
    decided = plan(succeeding("prepare", STARTED, message("prepare", said), **more), NOW)
    assert decided.status["phase"] == phase
    if phase == "Failed":
        told = f"training rows were compared with {files or 0} of 2 files of spec.dataset.leakCheck"
        assert told in decided.status["message"]
    else:
        assert decided.status["dataset"]["compared"] == compared


def test_only_the_pod_that_fetches_has_secrets_and_writes_to_the_cache() -> None:
    more = {"spec": FETCHED, "claims": ["bases", "models"]}
    mounted = {"/credentials/hub": False, "/credentials/store": False, "/claims/bases": True}
    assert mounts("prepare", **more).items() >= mounted.items()
    secrets = [v["secret"] for v in pod_spec("prepare", **more)["volumes"] if "secret" in v]
    assert secrets == [{"secretName": n, "defaultMode": 0o440} for n in ("hub", "store")]
    for role in ("fit", "publish"):
        status = FOUND if role == "fit" else {**TRAINED, **FOUND}
        (job,) = (o for o in plan(at(status, **more), NOW).apply if o["kind"] == "Job")
        spec = job["spec"]["template"]["spec"]
        assert not [v for v in spec["volumes"] if "secret" in v]
        (bases,) = (m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/claims/bases")
        assert bases["readOnly"] is True


def test_fit_reads_what_was_fetched_under_its_unchanging_name() -> None:
    applied = plan(at(FOUND, spec=FETCHED, claims=["bases", "models"]), NOW).apply
    run = parse_run(next(o for o in applied if o["kind"] == "ConfigMap")["data"]["run.json"])
    assert isinstance(run, FitRun)
    assert (run.model.uri, run.model.path) == (
        f"hf://acme/tiny:{FOUND['resolved']['model']}",
        "/claims/bases/models/tiny-0123",
    )


def test_fit_reads_an_image_under_its_digest() -> None:
    model = {"uri": "oci://ghcr.io/acme/tiny:v1", "cache": "pvc://bases/models"}
    found = {**FOUND, "resolved": {"model": digest("manifest"), "sources": []}}
    applied = plan(at(found, spec={"model": model}, claims=["bases", "models"]), NOW).apply
    run = parse_run(next(o for o in applied if o["kind"] == "ConfigMap")["data"]["run.json"])
    assert isinstance(run, FitRun)
    assert run.model.uri == f"oci://ghcr.io/acme/tiny@{digest('manifest')}"


def test_the_artifact_says_where_its_fetched_base_is() -> None:
    """So that Evaluations and ModelDeployments find it, and need no Hub."""
    status = {**TRAINED, **FOUND}
    more = {"spec": FETCHED, "claims": ["bases", "models"]}
    decided = plan(succeeding("publish", status, **more), NOW)
    assert decided.status["artifact"]["baseUri"] == "pvc://bases/models/tiny-0123"
    assert decided.status["resolved"] == FOUND["resolved"]


MIRRORED: Json = {
    "output": {"mirror": {"uri": "s3://store/tuned", "endpoint": "https://s3.test", "secretRef": {"name": "store"}}}
}

IN_GOOGLES: Json = {"output": {"mirror": {"uri": "gs://store/tuned", "secretRef": {"name": "store"}}}}

IMAGE: Json = {"output": {"mirror": {"uri": "oci://ghcr.io/acme/tuned:v1"}}}


def test_only_publish_has_the_keys_of_the_copy_and_is_told_where_it_goes() -> None:
    run = run_of("publish", spec=MIRRORED)
    assert isinstance(run, PublishRun)
    assert run.mirror is not None
    assert run.mirror.to_json() == {
        "uri": "s3://store/tuned",
        "access": {"endpoint": "https://s3.test", "credentials": "/credentials/store"},
    }
    assert [role for role in STATUSES if "/credentials/store" in mounts(role, spec=MIRRORED)] == ["publish"]
    assert run_of("publish").mirror is None


def test_only_publish_has_the_keys_of_mlflow_and_does_not_wait_for_them() -> None:
    spec: Json = {"tracking": {"mlflow": {"secretRef": {"name": "tracker"}, "experiment": "intents"}}}
    run = run_of("publish", spec=spec)
    assert run.mlflow.to_json() == {"credentials": "/var/run/anneal-mlflow/tracker", "experiment": "intents"}
    has = [role for role in STATUSES if "/var/run/anneal-mlflow/tracker" in mounts(role, spec=spec)]
    assert has == ["publish"]
    (volume,) = [v for v in pod_spec("publish", spec=spec)["volumes"] if v["name"] == "mlflow"]
    assert volume["secret"] == {"secretName": "tracker", "defaultMode": 0o440, "optional": True}
    assert run_of("publish").mlflow is None


@pytest.mark.parametrize("told", [{"runUri": "https://m/#/1", "message": "it has it"}, {"message": "it has not"}])
def test_what_became_of_telling_is_recorded_beside_the_artifact(told: Json) -> None:
    said: Json = {**RESULTS["publish"], "tracking": told}
    status = plan(succeeding("publish", TRAINED, message("publish", said)), NOW).status
    assert (status["artifact"]["digest"], status["tracking"]) == (ARTIFACT["digest"], told)
    (tracked,) = [c for c in status["conditions"] if c["type"] == "Tracked"]
    assert (tracked["status"], tracked["message"]) == ("True" if "runUri" in told else "False", told["message"])


@pytest.mark.parametrize(
    ("uri", "spec", "phase"),
    [
        ("s3://store/tuned/0123", MIRRORED, "Publishing"),
        ("s3://store/other/0123", MIRRORED, "Failed"),
        (None, MIRRORED, "Failed"),
        ("s3://store/tuned/0123", {}, "Failed"),
        ("gs://store/tuned/0123", IN_GOOGLES, "Publishing"),
        ("s3://store/tuned/0123", IN_GOOGLES, "Failed"),
        (f"oci://ghcr.io/acme/tuned@{digest('image')}", IMAGE, "Publishing"),
        (f"oci://ghcr.io/acme/other@{digest('image')}", IMAGE, "Failed"),
        ("oci://ghcr.io/acme/tuned", IMAGE, "Failed"),
        ("oci://ghcr.io/acme/tuned:v1", IMAGE, "Failed"),
        (f"oci://ghcr.io/acme/tuned@{digest('image')}", MIRRORED, "Failed"),
    ],
)
def test_the_copy_is_recorded_where_it_was_asked_for(uri: str | None, spec: Json, phase: str) -> None:
    said: Json = {**RESULTS["publish"], **({"mirrorUri": uri} if uri else {})}
    status = plan(succeeding("publish", TRAINED, message("publish", said), spec=spec), NOW).status
    assert status["phase"] == phase
    if phase == "Failed":
        assert "which is not below spec.output.mirror.uri" in status["message"]
    else:
        assert status["artifact"]["mirrorUri"] == uri


@pytest.mark.parametrize(
    ("uri", "spec"), [("pvc://elsewhere/tiny", FETCHED), (None, FETCHED), ("pvc://bases/models/tiny", {})]
)
def test_a_base_that_is_said_to_be_elsewhere_is_refused(uri: str | None, spec: Json) -> None:
    said: Json = {**RESULTS["prepare"], "model": {**PREPARED["model"], **({"uri": uri} if uri else {})}}
    more = {"spec": spec, "claims": ["hub", "bases", "models"]}
    decided = plan(succeeding("prepare", STARTED, message("prepare", said), **more), NOW)
    assert (decided.status["phase"], decided.status["reason"]) == ("Failed", "ResultUnreadable")
    assert "is not below spec.model.cache" in decided.status["message"]


def test_a_base_and_an_output_on_one_claim_are_mounted_once() -> None:
    assert mounts("publish", spec={"output": {"uri": "pvc://hub/out"}})["/claims/hub"] is True


def test_only_fit_gets_the_accelerators_and_time_to_save() -> None:
    spec = {
        "resources": {"accelerator": {"resourceName": "nvidia.com/gpu", "perNode": 2}, "memory": "64Gi", "cpu": "8"}
    }
    limits = {r: pod_spec(r, spec=spec)["containers"][0]["resources"]["limits"] for r in STATUSES}
    assert limits == {
        "prepare": {"memory": "2Gi"},
        "fit": {"memory": "64Gi", "nvidia.com/gpu": "2"},
        "publish": {"memory": "2Gi"},
    }
    assert {r: pod_spec(r)["terminationGracePeriodSeconds"] for r in STATUSES} == {
        "prepare": 30,
        "fit": 120,
        "publish": 30,
    }


def test_only_fit_claims_accelerators_and_their_template_chooses_the_devices() -> None:
    """No resource of a device plugin beside it, and no label that nodes with claimed devices need not have."""
    kind = {"perNode": 2, "products": ["NVIDIA-H100-80GB-HBM3"], "minMemory": "70G"}
    plugin = pod_spec("fit", spec={"resources": {"accelerator": kind}})
    (term,) = plugin["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [(e["key"], e["operator"], e["values"]) for e in term["matchExpressions"]] == [
        ("nvidia.com/gpu.product", "In", ["NVIDIA-H100-80GB-HBM3"]),
        ("nvidia.com/gpu.memory", "Gt", [str(-(-70 * 10**9 // 2**20) - 1)]),
    ]
    wanted = {**kind, "resourceClaimTemplateName": "two-h100"}
    specs = {
        r: pod_spec(r, spec={"resources": {"accelerator": wanted, "memory": "64Gi", "cpu": "8"}}) for r in STATUSES
    }
    assert specs["fit"]["resourceClaims"] == [{"name": "accelerators", "resourceClaimTemplateName": "two-h100"}]
    assert specs["fit"]["containers"][0]["resources"] == {
        "requests": {"cpu": "8", "memory": "64Gi"},
        "limits": {"memory": "64Gi"},
        "claims": [{"name": "accelerators"}],
    }
    assert "affinity" not in specs["fit"]
    for role in ("prepare", "publish"):
        assert "resourceClaims" not in specs[role]
        assert "claims" not in specs[role]["containers"][0]["resources"]


@every_step
def test_scheduling_holds_for_every_pod(role: str) -> None:
    scheduling = {
        "priorityClassName": "batch",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    assert pod_spec(role, spec={"scheduling": scheduling}).items() >= scheduling.items()


# What changes while a pod runs


def test_the_run_of_an_unfinished_step_follows_the_leaders_certificate() -> None:
    reports = FACTS.reports
    assert reports is not None
    new = replace(FACTS, reports=replace(reports, ca_pem="CA of leader 2"))
    children = children_of(PREPARED)
    _, config_map, job = children
    after = {o["kind"]: o for o in plan(at(PREPARED, *children, pod("Running"), facts=new), NOW).apply}
    assert after["ConfigMap"]["data"]["ca.crt"] == "CA of leader 2"
    assert after["ConfigMap"]["data"]["run.json"] == config_map["data"]["run.json"]
    assert contains(job, after["Job"])


def test_a_step_that_is_over_is_not_touched() -> None:
    new = replace(FACTS, reports=None)
    old = children_of(STARTED)
    roles = {o["metadata"]["labels"]["anneal.dev/role"] for o in plan(at(PREPARED, *old, facts=new), NOW).apply}
    assert roles == {"fit"}


@every_step
def test_an_upgrade_of_the_operator_asks_nothing_of_a_job_that_exists(role: str) -> None:
    upgraded = replace(FACTS, images=replace(FACTS.images, trainer="trainer:2"), reports=None)
    *_, job = children_of(STATUSES[role])
    wanted = plan(at(STATUSES[role], job, pod("Running"), facts=upgraded), NOW).apply[-1]
    assert contains(job, wanted)


def test_without_an_endpoint_nothing_is_reported() -> None:
    facts = replace(FACTS, reports=None)
    assert run_of("fit", facts=facts).reporting is None
    assert "/var/run/anneal" not in mounts("fit", facts=facts)


@every_step
def test_a_second_pass_asks_for_nothing_new(role: str) -> None:
    children = children_of(STATUSES[role])
    wanted = plan(at(STATUSES[role], *children, pod("Running")), NOW).apply
    by_name = {(c["kind"], c["metadata"]["name"]): c for c in children}
    assert all(contains(by_name[o["kind"], o["metadata"]["name"]], o) for o in wanted)


def test_a_claim_that_is_there_is_no_childs() -> None:
    assert claim("hub")["metadata"]["name"] not in {c["metadata"]["name"] for c in children_of(STARTED)}


SPREAD = {"resources": {"nodes": 2, "processesPerNode": 3}, "workspace": {"accessMode": "ReadWriteMany"}}


def test_a_spread_training_is_numbered_pods_that_meet_at_the_first() -> None:
    made = asked("fit", spec=SPREAD)
    assert list(made) == ["PersistentVolumeClaim", "ConfigMap", "Service", "Job"]
    job, service = made["Job"], made["Service"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (2, 2)
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    ranks = run_of("fit", spec=SPREAD).ranks
    assert (ranks.pods, ranks.per_pod) == (2, 3)
    assert ranks.address == f"{job['metadata']['name']}-0.{service['metadata']['name']}.team.svc"
    assert list(asked("prepare", spec=SPREAD)) == ["PersistentVolumeClaim", "ConfigMap", "Job"]


def test_several_accelerators_in_one_pod_are_several_processes_without_a_service() -> None:
    spec = {"resources": {"accelerator": {"perNode": 4}}}
    assert list(asked("fit", spec=spec)) == ["PersistentVolumeClaim", "ConfigMap", "Job"]
    ranks = run_of("fit", spec=spec).ranks
    assert (ranks.pods, ranks.per_pod, ranks.address) == (1, 4, "localhost")
    assert run_of("fit").ranks is None


def test_the_name_of_a_spread_job_leaves_room_for_the_number_of_a_pod() -> None:
    obj = fine_tune_job("n" * 253, **SPREAD)
    made = plan(seen(as_stored(obj, **PREPARED), claims=("hub", "models")), NOW).apply
    job = next(o for o in made if o["kind"] == "Job")
    assert len(f"{job['metadata']['name']}-{job['spec']['completions'] - 1}") <= 63


@pytest.mark.parametrize(
    ("spec", "contents", "memory", "rate"),
    [
        ({}, "Adapter", "2Gi", "2e-4"),
        ({"output": {"merge": True}}, "Model", "64Gi", "2e-4"),
        ({"lora": None, "qlora": {}}, "Adapter", "2Gi", "2e-4"),
        ({"lora": None, "full": {}}, "Model", "64Gi", "2e-5"),
    ],
    ids=["adapter", "merged", "4 bits", "full"],
)
def test_a_whole_model_is_published_with_the_memory_of_training(
    spec: dict[str, Any], contents: str, memory: str, rate: str
) -> None:
    spec = {**spec, "resources": {"memory": "64Gi"}, "training": {"learningRate": None}}
    run = run_of("publish", spec=spec)
    assert (run.contents, run.training.learning_rate) == (contents, rate)
    assert run_of("fit", spec=spec).training.learning_rate == rate
    (container,) = pod_spec("publish", spec=spec)["containers"]
    assert container["resources"]["limits"] == {"memory": memory}
