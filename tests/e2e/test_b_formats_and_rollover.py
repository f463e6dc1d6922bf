"""Data of the user's own in each of the three formats: trained side by side, judged and served in turn under load."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.e2e import outside
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


def rows(name: str) -> str:
    """The questions in a format, as JSON Lines."""
    return "\n".join(json.dumps(FORMATS[name](q, a)) for q, a in questions())


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


HOSTED = {
    "name": "provider",
    "hosted": {
        "openAI": {"baseUrl": f"http://{outside.NAME}:{outside.MODELS_PORT}/v1", "model": "agreeable-1"},
        "price": {"inputPerMillion": "2", "outputPerMillion": "8"},
    },
}


def test_three_formats_pass_one_after_the_other_without_a_failed_request(anneal: Anneal, tmp_path: Path) -> None:
    anneal.put("hub", {f"animals/{name}.jsonl": rows(name) for name in ("messages", "alpaca")})
    image = anneal.target.images["operator"]
    anneal.apply(*outside.objects(anneal.namespace, image, tmp_path, rows("prompt")))
    anneal.kubectl("wait", "--for=condition=Ready", f"pod/{outside.NAME}", "--timeout=120s")
    anneal.apply(following(), *(training(anneal, name) for name in FORMATS))
    served: list[str] = []
    for name in FORMATS:
        served.append(passed(anneal, name))
        anneal.wait(
            "ModelDeployment",
            "animals",
            lambda o: o["status"].get("digest") == served[-1] and o["status"]["reason"] == "Serving",
            300,
        )
        if len(served) == 1:
            start_load(anneal)
    assert len(set(served)) == 3
    the_hub_is_resolved_and_the_provider_is_paid(anneal)
    result = end_of_load(anneal)
    print(f"  {result['sent']} requests during two roll-overs, {len(result['failed'])} failed")
    assert result["failed"] == []
    assert result["sent"] > 50
    only_one_old_revision_is_kept(anneal, served[-1])
    roll_back(anneal, served)


def training(anneal: Anneal, name: str) -> Object:
    """The job of a format; small enough to run beside the others."""
    # The first two formats say the same: with one seed they would be one artifact, by digest.
    settings = {"maxSteps": 18, "seed": list(FORMATS).index(name)}
    small = {"cpu": "200m", "memory": "4Gi"}
    source = f"pvc://hub/animals/{name}.jsonl"
    return labelled(job(f"animals-{name}", source, training=settings, resources=small, **places(anneal)[name]))


def passed(anneal: Anneal, name: str) -> str:
    """Wait for the job of a format, judge its artifact; returns the digest, which has passed."""
    trained = anneal.wait("FineTuneJob", f"animals-{name}", ended, 400)
    assert is_true(trained, "Complete")
    no_row_is_lost(trained["status"]["dataset"])
    baselines = [HOSTED] if name == "alpaca" else None
    anneal.apply(evaluation(f"animals-{name}", f"animals-{name}", baselines=baselines))
    judged = anneal.wait("Evaluation", f"animals-{name}", ended, 300)
    assert judged["status"].get("verdict") == "Passed"
    return str(judged["status"]["subjectDigest"])


def ended(obj: Object) -> bool:
    return is_true(obj, "Complete") or is_true(obj, "Failed")


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
    anneal.kubectl("scale", "mdep/animals", "--replicas=0")
    anneal.wait("ModelDeployment", "animals", lambda o: o["status"]["reason"] == "ScaledToZero", 120)
