"""Data of the user's own in each of the three formats: trained side by side, judged and served in turn under load."""

from __future__ import annotations

import json

import pytest
from tests.e2e import outside
from tests.e2e.conftest import Anneal, Begin, Object, helper_job, is_over
from tests.e2e.samples import ANIMAL_FORMATS, animal_rows, deployment, evaluation, job

from anneal.api.conditions import find, is_true

pytestmark = pytest.mark.e2e

#: Requests without a pause worth speaking of, until the file /tmp/enough is there.
LOAD = """
import json, pathlib, time, urllib.request
url, sent, failed = {url!r}, 0, []
body = json.dumps({{"text_input": "What does the cat say?", "max_tokens": 2}}).encode()
while not pathlib.Path("/tmp/enough").exists():
    sent += 1
    try:
        request = urllib.request.Request(url, body, {{"Content-Type": "application/json"}})
        answer = json.load(urllib.request.urlopen(request, timeout=30))
        assert "text_output" in answer, answer
    except Exception as error:
        failed.append(f"{{time.time():.0f}} {{error!r}}")
    time.sleep(0.3)
print(json.dumps({{"sent": sent, "failed": failed}}))
"""


def labelled(obj: Object) -> Object:
    obj["metadata"]["labels"] = {"app": "animals"}
    return obj


def following() -> Object:
    """A deployment that serves the newest artifact that passed."""
    obj = deployment("animals", "unused", "unused", resources={"cpu": "100m", "memory": "3Gi"})
    obj["spec"]["model"] = {"selector": {"matchLabels": {"app": "animals"}}}
    obj["spec"].pop("gate")
    obj["spec"]["revisionHistoryLimit"] = 1
    return obj


def places(anneal: Anneal) -> dict[str, Object]:
    """What the job of each format has in its spec beside the sample's: data and base from three places."""
    host = f"https://{outside.NAME}.{anneal.namespace}.svc"
    trust = {"name": outside.TRUST}
    web = {"uri": f"{host}:{outside.ROWS_PORT}/rows.jsonl", "secretRef": trust}
    hub = {
        "uri": f"hf://{outside.REPOSITORY}:main",
        "endpoint": f"{host}:{outside.HUB_PORT}",
        "cache": "pvc://models/bases",
        "secretRef": trust,
    }
    return {"messages": {}, "prompt": {"dataset": {"sources": [web]}}, "alpaca": {"model": hub}}


PRICE = {"inputPerMillion": "2", "outputPerMillion": "8"}
PROVIDER = {"name": "provider", "hosted": outside.hosted("openAI", "agreeable-1", PRICE)}


def judgements() -> list[Object]:
    """How the artifacts are judged, in order: alone, beside what is served then, beside a provider by a judge."""
    accuracy = {"name": "accuracy", "exactMatch": {}}
    grade = {"name": "grade", "rubric": {"criteria": "the sound"}}
    choice = {"name": "choice", "preference": {"over": "provider"}}
    return [
        {"baselines": None},
        {"baselines": [{"name": "served", "incumbent": {"modelDeploymentRef": {"name": "animals"}}}]},
        {
            "baselines": [PROVIDER],
            "judge": outside.hosted("anthropic", "strict-1", PRICE),
            "judgeQuality": {"minSwapConsistency": "0.9"},
            "metrics": [accuracy, grade, choice],
            "servingCostPerHour": "1",
            "policy": {"approval": "Required"},
            "gates": [
                {"metric": "accuracy", "absolute": {"minLowerBound": "0"}},
                {"metric": "grade", "absolute": {"minLowerBound": "0"}},
                {"latency": {"percentile": 50, "maxMilliseconds": 60_000}},
                {"cost": {"maxPerQuery": "1"}},
            ],
        },
    ]


def test_three_formats_pass_one_after_the_other_without_a_failed_request(anneal: Anneal, begin: Begin) -> None:
    anneal.put("hub", {f"animals/{name}.jsonl": animal_rows(name) for name in ("messages", "alpaca")})
    anneal.apply(following(), *(training(anneal, name) for name in ANIMAL_FORMATS))
    served: list[str] = []
    for name, judgement in zip(in_order_of_completion(anneal), judgements(), strict=True):
        # The next is judged while the pods of the last one end what they were asked.
        served.append(passed(anneal, name, judgement))
        anneal.wait("ModelDeployment", "animals", lambda o: o["status"].get("digest") == served[-1], 300)
        if len(served) == 1:
            start_load(anneal)
    assert len(set(served)) == 3
    the_hub_is_resolved_and_the_provider_is_paid(anneal)
    the_judge_is_told_of(anneal)
    judge_again_without_the_provider(anneal)
    anneal.wait("ModelDeployment", "animals", lambda o: o["status"]["reason"] == "Serving", 300)
    result = end_of_load(anneal)
    print(f"  {result['sent']} requests during two roll-overs, {len(result['failed'])} failed")
    assert result["failed"] == []
    assert result["sent"] > 50
    only_one_old_revision_is_kept(anneal, served[-1])
    roll_back(anneal, served)
    begin("begin_after_animals")
    anneal.kubectl("scale", "mdep/animals", "--replicas=0")
    anneal.wait("ModelDeployment", "animals", lambda o: o["status"]["reason"] == "ScaledToZero", 120)


def training(anneal: Anneal, name: str) -> Object:
    """The job of a format; small enough to run beside the others."""
    # The first two formats say the same: with one seed they would be one artifact, by digest.
    # The one whose base has to be fetched ends last.
    settings = {"maxSteps": 20 if name == "alpaca" else 15, "seed": list(ANIMAL_FORMATS).index(name)}
    small = {"cpu": "200m", "memory": "3Gi"}
    source = f"pvc://hub/animals/{name}.jsonl"
    return labelled(job(f"animals-{name}", source, training=settings, resources=small, **places(anneal)[name]))


def in_order_of_completion(anneal: Anneal) -> list[str]:
    """The formats when their jobs have ended: the newest that passed is served, so the oldest is judged first."""
    ends = {}
    for name in ANIMAL_FORMATS:
        trained = anneal.wait("FineTuneJob", f"animals-{name}", is_over, 400)
        assert is_true(trained, "Complete")
        no_row_is_lost(trained["status"]["dataset"])
        ends[name] = trained["status"]["completionTime"], f"animals-{name}"
    assert max(ends, key=ends.__getitem__) == "alpaca"
    return sorted(ends, key=ends.__getitem__)


def passed(anneal: Anneal, name: str, judgement: Object) -> str:
    """Judge the artifact of a format; returns its digest, which has passed."""
    anneal.apply(evaluation(f"animals-{name}", f"animals-{name}", **judgement))
    judged = anneal.wait("Evaluation", f"animals-{name}", is_over, 300)
    assert judged["status"].get("verdict") == "Passed"
    digest = str(judged["status"]["subjectDigest"])
    if judged["spec"]["policy"].get("approval") == "Required":
        approve(anneal, f"animals-{name}", digest)
    return digest


def approve(anneal: Anneal, name: str, digest: str) -> None:
    """Nothing is served of it before a person says so; who it was is recorded."""
    asked = anneal.wait("Evaluation", name, lambda o: find(o["status"], "Approved") is not None, 30)
    assert not is_true(asked, "Approved")
    assert digest not in {r["digest"] for r in anneal.get("ModelDeployment", "animals")["status"]["revisions"]}
    said = {"digest": digest, "by": "release-team", "reason": "answers read"}
    names = {"digest": "approved-digest", "by": "approved-by", "reason": "approval-reason"}
    anneal.kubectl("annotate", "eval", name, *(f"anneal.dev/{names[key]}={value}" for key, value in said.items()))
    approved = anneal.wait("Evaluation", name, lambda o: is_true(o, "Approved"), 30)["status"]["approval"]
    assert {key: approved[key] for key in said} == said


def no_row_is_lost(data: Object) -> None:
    """Every row is trained on, held out, or left out for a reason: here, that a held-out row says nearly the same."""
    counts = data["counts"]
    left_out = sum(r["rows"] for r in data.get("leftOut", ()))
    assert (counts["read"], counts["invalid"], counts["heldOut"]) == (60, 0, 10)
    assert counts["train"] + left_out == 50
    assert counts["train"] >= 30


def the_hub_is_resolved_and_the_provider_is_paid(anneal: Anneal) -> None:
    """The base that came from the Hub is served from its cache; ten questions to the provider have a price."""
    trained = anneal.get("FineTuneJob", "animals-alpaca")["status"]
    assert trained["artifact"]["baseUri"].startswith("pvc://models/bases/")
    judged = anneal.get("Evaluation", "animals-alpaca")["status"]
    (provider,) = [m for m in judged["models"] if m["name"] == "provider"]
    assert (provider["n"], provider["errors"], provider["model"]) == (10, 0, "agreeable-1")
    assert (provider["inputTokens"], provider["outputTokens"]) == (100, 20)
    assert float(provider["cost"]) == pytest.approx(100 * 2e-6 + 20 * 8e-6)


def the_judge_is_told_of(anneal: Anneal) -> None:
    """How many verdicts it gave, whether it contradicted itself, and every gate with its numbers."""
    judged = anneal.get("Evaluation", "animals-alpaca")["status"]
    assert (judged["judge"]["model"], judged["judge"]["errors"]) == ("strict-1", 0)
    by_metric = {m["metric"]: m for m in judged["judge"]["metrics"]}
    assert by_metric["grade"]["n"] > 0
    assert float(by_metric["choice"]["swapConsistency"]) == 1
    assert [g["outcome"] for g in judged["gates"]] == 4 * ["Passed"]
    assert {b["baseline"] for b in judged["costBenefit"]} == {"provider"}


def judge_again_without_the_provider(anneal: Anneal) -> None:
    """Its stored answers stand in for it, by their digest: the same numbers, and nothing is paid."""
    before = anneal.get("Evaluation", "animals-alpaca")["status"]
    report = before["reportUri"].removeprefix("pvc://models/")
    told = anneal.run("look", "models", ["cat", f"/claim/{report}/report.json"])
    name = "responses-provider.jsonl"
    answers = {"uri": f"pvc://models/{report}/{name}", "digest": json.loads(told)["files"][name]}
    anneal.apply(evaluation("animals-again", "animals-alpaca", baselines=[{**PROVIDER, "answers": answers}]))
    again = anneal.wait("Evaluation", "animals-again", is_over, 300)["status"]
    assert again.get("verdict") == "Passed", again["message"]
    score = [r for r in again["results"] if r["model"] == "provider"]
    assert score == [r for r in before["results"] if r["model"] == "provider" and r["metric"] == "accuracy"]
    assert float(again.get("cost") or 0) == 0


def start_load(anneal: Anneal) -> None:
    """Constant requests through the Service from now on, by a pod."""
    url = anneal.get("ModelDeployment", "animals")["status"]["url"]
    script = LOAD.format(url=url)
    anneal.apply(helper_job("load", anneal.target.images["evaluator"], "hub", ["python", "-c", script], None))


def end_of_load(anneal: Anneal) -> Object:
    anneal.kubectl("exec", "job/load", "--", "touch", "/tmp/enough")
    anneal.kubectl("wait", "--for=condition=Complete", "job/load", "--timeout=60s")
    result: Object = json.loads(anneal.kubectl("logs", "job/load").strip().splitlines()[-1])
    return result


def only_one_old_revision_is_kept(anneal: Anneal, newest: str) -> None:
    """spec.revisionHistoryLimit: what is older is gone, Deployment, Service and ConfigMap."""
    status = anneal.get("ModelDeployment", "animals")["status"]
    assert status["revisions"][0]["digest"] == newest
    assert len(status["revisions"]) == 2
    uid = anneal.get("ModelDeployment", "animals")["metadata"]["uid"]
    assert len(anneal.list("deployments", "-l", f"anneal.dev/owner-uid={uid}")) == 2


def roll_back(anneal: Anneal, served: list[str]) -> None:
    """Naming an old revision serves it again; taking the name away goes forward."""
    revisions = {r["digest"]: r["name"] for r in anneal.get("ModelDeployment", "animals")["status"]["revisions"]}
    for pin, digest in ((revisions[served[1]], served[1]), (None, served[2])):
        anneal.kubectl("patch", "mdep", "animals", "--type=merge", "-p", json.dumps({"spec": {"revision": pin}}))
        anneal.wait("ModelDeployment", "animals", lambda o, d=digest: o["status"].get("digest") == d, 180)
