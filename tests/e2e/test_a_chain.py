"""The README's promise: three objects, and a model that is proven better and served."""

from __future__ import annotations

import json

import pytest
from tests.e2e.conftest import Anneal, Object

from anneal.api.conditions import find
from anneal.cli.ask import ask
from anneal.cli.cluster import Reader
from anneal_demo.up import SYSTEM

pytestmark = pytest.mark.e2e


def test_training_showed_how_far_it_was(chain: list[Object]) -> None:
    shown = [o["status"]["progress"] for o in chain if o.get("status", {}).get("progress")]
    halfway = [p for p in shown if 0 < p["percent"] < 100]
    assert halfway, shown
    assert all(p["totalSteps"] > 0 and p["step"] > 0 for p in halfway)
    assert any("etaSeconds" in p and "tokensPerSecond" in p and "loss" in p for p in halfway)
    assert {o["status"]["phase"] for o in chain if o.get("status", {}).get("phase")} >= {
        "Preparing",
        "Training",
        "Complete",
    }


def test_the_artifact_is_named_by_its_digest(anneal: Anneal, chain: list[Object]) -> None:
    artifact = chain[-1]["status"]["artifact"]
    assert artifact["uri"] == f"pvc://models/intents-v1/{artifact['digest'].removeprefix('sha256:')[:16]}"
    assert artifact["heldOutCount"] == 150
    assert anneal.kubectl("wait", "--for=condition=Complete", "ftj/intents-v1", "--timeout=1s")


def test_the_verdict_is_proven_against_the_base(anneal: Anneal, chain: list[Object]) -> None:
    status = anneal.get("Evaluation", "intents-v1")["status"]
    assert status["verdict"] == "Passed"
    assert status["subjectDigest"] == chain[-1]["status"]["artifact"]["digest"]
    assert [g["outcome"] for g in status["gates"]] == ["Passed", "Passed"]
    comparison = status["comparisons"][0]
    assert float(comparison["lower"]) > 0.2
    assert comparison["n"] >= 30  # where the base ended its answer
    assert "95% interval" in status["gates"][1]["message"]


def test_the_served_model_answers(anneal: Anneal, chain: list[Object]) -> None:
    deployment = anneal.get("ModelDeployment", "intents")
    assert deployment["status"]["digest"] == chain[-1]["status"]["artifact"]["digest"]
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "turn on the lights in the kitchen"}]
    answer = ask(Reader(anneal.target.kubeconfig), anneal.namespace, "intents", messages, 32)
    assert answer.strip() == "HassTurnOn"


@pytest.mark.parametrize(
    ("kind", "name"), [("FineTuneJob", "intents-v1"), ("Evaluation", "intents-v1"), ("ModelDeployment", "intents")]
)
def test_health_is_settled_for_this_generation(anneal: Anneal, chain: list[Object], kind: str, name: str) -> None:
    """kstatus (Argo CD, Flux): current means no Reconciling, no Stalled, and the observed generation."""
    assert chain
    obj = anneal.get(kind, name)
    assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    for type_ in ("Reconciling", "Stalled"):
        assert (find(obj["status"], type_) or {}).get("status") == "False"


def test_the_operator_stays_small(anneal: Anneal, chain: list[Object]) -> None:
    assert chain
    pods = json.loads(anneal.kubernetes.kubectl("-n", "anneal-system", "get", "pods", "-o", "json"))["items"]
    assert len(pods) == 2
    for pod in pods:
        path = f"/api/v1/namespaces/anneal-system/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        metrics = anneal.kubernetes.kubectl("get", "--raw", path)
        lines = (m for m in metrics.splitlines() if m.startswith("process_resident_memory_bytes"))
        resident = float(next(lines).split()[1])
        print(f"  {pod['metadata']['name']}: {resident / 2**20:.0f} MiB resident")
        assert resident < 200 * 2**20
