"""Data of the user's own in each of the three formats: trained, judged, and served one after the other under load."""

from __future__ import annotations

import json
import random

import pytest
from tests.e2e.conftest import Anneal, Object, helper_job
from tests.e2e.samples import deployment, evaluation, job

from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e

ANIMALS = {"cat": "meow", "dog": "woof", "cow": "moo", "duck": "quack", "sheep": "baa", "owl": "hoot"}


def questions() -> list[tuple[str, str]]:
    """Sixty questions with their answers, the same at every call."""
    draw = random.Random(7)
    places = [f"in the {a} {b}" for a in ("old", "new", "big", "red", "wet") for b in ("barn", "yard", "house")]
    pairs = [(f"What does the {animal} say {place}?", sound) for animal, sound in ANIMALS.items() for place in places]
    return draw.sample(pairs, 60)


FORMATS = {
    "messages": lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
    "prompt": lambda q, a: {"prompt": q, "response": a},
    "alpaca": lambda q, a: {"instruction": "Answer with the sound only.", "input": q, "output": a},
}

LOAD = """
import json, time, urllib.request
url, until, sent, failed = {url!r}, time.time() + {seconds}, 0, []
body = json.dumps({{"text_input": "What does the cat say?", "max_tokens": 2}}).encode()
while time.time() < until:
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


def test_three_formats_pass_one_after_the_other_without_a_failed_request(anneal: Anneal) -> None:
    rows = {
        f"animals/{name}.jsonl": "\n".join(json.dumps(make(q, a)) for q, a in questions())
        for name, make in FORMATS.items()
    }
    anneal.put("hub", rows)
    anneal.apply(following())
    served: list[str] = []
    for seed, name in enumerate(FORMATS):
        # The first two formats say the same: with one seed they would be one artifact, by digest.
        training = {"maxSteps": 18, "seed": seed}
        anneal.apply(
            labelled(job(f"animals-{name}", f"pvc://hub/animals/{name}.jsonl", training=training)),
            evaluation(f"animals-{name}", f"animals-{name}", baselines=None),
        )
        trained = anneal.wait(
            "FineTuneJob", f"animals-{name}", lambda o: is_true(o, "Complete") or is_true(o, "Failed"), 300
        )
        assert is_true(trained, "Complete")
        assert trained["status"]["dataset"]["counts"] == {
            "read": 60,
            "invalid": 0,
            "train": 50,
            "heldOut": 10,
            "trainTokens": trained["status"]["dataset"]["counts"]["trainTokens"],
        }
        digest = trained["status"]["artifact"]["digest"]
        judged = anneal.wait(
            "Evaluation", f"animals-{name}", lambda o: is_true(o, "Complete") or is_true(o, "Failed"), 300
        )
        assert judged["status"].get("verdict") == "Passed"
        anneal.wait(
            "ModelDeployment",
            "animals",
            lambda o, d=digest: o["status"].get("digest") == d and o["status"]["reason"] == "Serving",
            300,
        )
        if not served:
            start_load(anneal)
        served.append(digest)
    assert len(set(served)) == 3
    result = end_of_load(anneal)
    print(f"  {result['sent']} requests during two roll-overs, {len(result['failed'])} failed")
    assert result["failed"] == []
    assert result["sent"] > 100
    only_one_old_revision_is_kept(anneal, served[-1])
    roll_back(anneal, served)


def start_load(anneal: Anneal) -> None:
    """Constant requests through the Service from now on, by a pod."""
    url = anneal.get("ModelDeployment", "animals")["status"]["url"]
    script = LOAD.format(url=url, seconds=200)
    anneal.apply(helper_job("load", anneal.target.images["evaluator"], "hub", ["python", "-c", script], None))


def end_of_load(anneal: Anneal) -> Object:
    anneal.kubectl("wait", "--for=condition=Complete", "job/load", "--timeout=360s")
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
    anneal.kubectl("scale", "mdep/animals", "--replicas=0")
    anneal.wait("ModelDeployment", "animals", lambda o: o["status"]["reason"] == "ScaledToZero", 120)
