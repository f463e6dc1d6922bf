"""The artifact of the sample's chain again, judged and served by a real vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Anneal, Object
from tests.e2e.samples import deployment, sample

from anneal.api.conditions import is_true
from anneal.cli.ask import ask
from anneal.cli.cluster import Reader
from anneal_demo.up import SYSTEM

pytestmark = pytest.mark.e2e
NAME = "by-vllm"
#: Weights in fp32, three processes and 1 GiB of cache.
RESOURCES = {"cpu": "500m", "memory": "6Gi"}


def ended(obj: Object) -> bool:
    return is_true(obj, "Complete") or is_true(obj, "Failed")


def by_vllm() -> Object:
    """The sample's Evaluation, of which only the server is another."""
    obj = sample("evaluation")
    obj["metadata"] = {"name": NAME}
    obj["spec"] |= {"serving": {"vllm": {}}, "resources": RESOURCES}
    return obj


@pytest.fixture(scope="module")
def judged(anneal: Anneal) -> Object:
    """The Evaluation by vLLM, of the artifact that Triton's judged."""
    anneal.apply(sample("finetunejob"), sample("evaluation"))
    anneal.wait("FineTuneJob", "intents-v1", ended, 900)
    anneal.wait("Evaluation", "intents-v1", ended, 600)
    anneal.apply(by_vllm())
    return anneal.wait("Evaluation", NAME, ended, 900)


@pytest.fixture(scope="module")
def served(anneal: Anneal, judged: Object) -> Iterator[Object]:
    anneal.apply(deployment(NAME, "intents-v1", NAME, triton=None, vllm={}, resources=RESOURCES))
    yield anneal.wait("ModelDeployment", NAME, lambda o: is_true(o, "Ready"), 600)
    anneal.kubectl("delete", "modeldeployment", NAME)


def test_vllm_judges_as_triton_does(anneal: Anneal, judged: Object) -> None:
    status = judged["status"]
    assert status.get("verdict") == "Passed", status["message"]
    other = anneal.get("Evaluation", "intents-v1")["status"]
    assert status["subjectDigest"] == other["subjectDigest"]
    ours, theirs = (float(s["results"][0]["value"]) for s in (status, other))
    assert ours == pytest.approx(theirs, abs=0.02), "the same weights, prompts and precision"


def test_vllm_serves_what_it_judged(anneal: Anneal, judged: Object, served: Object) -> None:
    status = served["status"]
    assert (status["digest"], status["gate"]) == (judged["status"]["subjectDigest"], "Passed")
    assert status["revisions"][0]["runtime"] == "vllm"
    assert status["url"] == f"http://{NAME}.{anneal.namespace}.svc:8000/v1/chat/completions"
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "turn on the lights in the kitchen"}]
    answer = ask(Reader(anneal.target.kubeconfig), anneal.namespace, NAME, messages, 32)
    assert answer.strip() == "HassTurnOn"


def test_its_pod_writes_nowhere_but_to_memory_and_tmp(anneal: Anneal, served: Object) -> None:
    """Pod Security `restricted` is enforced in the namespace; that the server lives with a read-only root is ours."""
    pods = json.loads(anneal.kubectl("get", "pods", "-l", "anneal.dev/role=rev", "-o", "json"))["items"]
    mine = [p for p in pods if p["metadata"]["annotations"]["anneal.dev/owner"] == f"ModelDeployment/{NAME}"]
    assert len(mine) == 1
    [server] = mine[0]["spec"]["containers"]
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert mine[0]["status"]["containerStatuses"][0]["restartCount"] == 0
