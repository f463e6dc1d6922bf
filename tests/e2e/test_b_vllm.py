"""The artifact of the sample's chain again, judged by sealed rows and served, both by a real vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Anneal, Object, is_over
from tests.e2e.samples import deployment, sample

from anneal.api.conditions import is_true
from anneal.cli.ask import ask
from anneal.cli.cluster import Reader
from anneal_demo.up import SYSTEM

pytestmark = pytest.mark.e2e
NAME = "by-vllm"
SEALED = "sealed/rows.jsonl"
ROWS = 40
#: Weights in fp32, three processes and 1 GiB of cache.
RESOURCES = {"cpu": "500m", "memory": "6Gi"}


def seal(anneal: Anneal) -> Object:
    """Some of the rows that the sample held out, as a file of the user's own: enough to tell two servers apart."""
    held_out = anneal.get("Evaluation", "intents-v1")["status"]["heldOutUri"].removeprefix("pvc://models/")
    cut = f"mkdir -p /claim/sealed && head -n {ROWS} /claim/{held_out} >/claim/{SEALED} && sha256sum /claim/{SEALED}"
    digest, _ = anneal.run("seal", "models", ["sh", "-ec", cut]).split()
    return {"uri": f"pvc://models/{SEALED}", "digest": f"sha256:{digest}"}


def by_vllm(name: str, sealed: Object) -> Object:
    """The sample's Evaluation with another server, by sealed rows: too few to be sure beside a base that rambles."""
    obj = sample("evaluation")
    obj["metadata"] = {"name": name}
    gates = [gate for gate in obj["spec"]["gates"] if "absolute" in gate]
    obj["spec"] |= {"serving": {"vllm": {}}, "sealed": sealed, "gates": gates, "resources": RESOURCES}
    return obj


def answers_of(anneal: Anneal, name: str) -> dict[str, str]:
    """What the candidate said to each row, by the id of the row."""
    report = anneal.get("Evaluation", name)["status"]["reportUri"].removeprefix("pvc://models/")
    lines = anneal.run("look", "models", ["cat", f"/claim/{report}/responses-candidate.jsonl"]).splitlines()
    return {answer["row"]: answer["text"] for answer in map(json.loads, lines) if answer["outcome"] == "answered"}


def begin_after_chain(anneal: Anneal) -> None:
    """Evaluation and deployment at once, as pipelines apply them: nothing is served before the verdict."""
    anneal.apply(by_vllm(NAME, seal(anneal)))
    anneal.apply(deployment(NAME, "intents-v1", NAME, triton=None, vllm={}, resources=RESOURCES))


@pytest.fixture(scope="module")
def judged(anneal: Anneal, chain: list[Object]) -> Object:
    """The Evaluation by vLLM, of the artifact that Triton's judged."""
    return anneal.wait("Evaluation", NAME, is_over, 900)


@pytest.fixture(scope="module")
def served(anneal: Anneal, judged: Object) -> Iterator[Object]:
    yield anneal.wait("ModelDeployment", NAME, lambda o: is_true(o, "Ready"), 600)
    anneal.kubectl("delete", "modeldeployment", NAME)


def test_vllm_judges_as_triton_does(anneal: Anneal, judged: Object) -> None:
    status = judged["status"]
    assert status.get("verdict") == "Passed", status["message"]
    assert status["heldOutUri"] == f"pvc://models/{SEALED}"
    assert status["subjectDigest"] == anneal.get("Evaluation", "intents-v1")["status"]["subjectDigest"]
    ours, theirs = (answers_of(anneal, name) for name in (NAME, "intents-v1"))
    same = [ours[row] == theirs[row] for row in ours]
    assert sum(same) >= ROWS - 1, "the same weights, prompts and precision"


def test_sealed_rows_judge_a_candidate_once(anneal: Anneal, judged: Object) -> None:
    anneal.apply(by_vllm("once-more", judged["spec"]["sealed"]))
    refused = anneal.wait("Evaluation", "once-more", is_over, 60)["status"]
    assert refused["reason"] == "SealedRowsUsed"
    assert f"Evaluation '{NAME}' judges this candidate by the sealed rows" in refused["message"]


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
