"""Whatever is wrong ends in one clear sentence in status: what, where, what to do. Nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.conftest import Anneal, Object, is_over
from tests.e2e.samples import MODEL, deployment, evaluation, job

from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e

GOOD_ROW = json.dumps({"prompt": "ping", "response": "pong"})
ROWS = [json.dumps({"prompt": f"say {i}", "response": str(i)}) for i in range(40)]
FILES = {
    "bad/good.jsonl": "\n".join(ROWS),
    "bad/broken.jsonl": "\n".join([*ROWS[:16], '{"prompt": "x", "response": ', *ROWS[17:]]),
    "bad/empty.jsonl": "",
    "bad/no-answer.jsonl": "\n".join([*ROWS, json.dumps({"prompt": "and?", "response": ""})]),
    "pickle/config.json": json.dumps({"model_type": "llama"}),
    "pickle/pytorch_model.bin": "not weights",
}


def small(name: str, source: str, **spec: Any) -> Object:
    """So small that all run side by side."""
    return job(name, f"pvc://hub/bad/{source}", resources={"cpu": "100m", "memory": "3Gi"}, **spec)


JOBS: dict[str, tuple[Object, list[str]]] = {
    "broken-json": (small("broken-json", "broken.jsonl"), ["line 17", "JSON"]),
    "empty": (small("empty", "empty.jsonl"), ["empty.jsonl"]),
    "no-answer": (small("no-answer", "no-answer.jsonl"), ["line 41", "empty"]),
    "no-file": (small("no-file", "nowhere.jsonl"), ["nowhere.jsonl"]),
    "no-model": (small("no-model", "good.jsonl", model={"uri": "pvc://hub/no-such-model"}), ["no-such-model"]),
    "pickle": (small("pickle", "good.jsonl", model={"uri": "pvc://hub/pickle"}), ["safetensors"]),
    "no-modules": (small("no-modules", "good.jsonl", lora={"targetModules": ["no_such_layer"]}), ["no_such_layer"]),
}
NO_ROWS = small("no-rows", "good.jsonl", dataset={"split": {"heldOut": 0}}, training={"maxSteps": 1})
LONG_NAMES = ["n" * 252 + end for end in "ab"]


def begin(anneal: Anneal) -> None:
    """All bad jobs at once; each ends on its own."""
    anneal.put("hub", FILES)
    anneal.apply(*(obj for obj, _ in JOBS.values()), NO_ROWS)
    anneal.apply(*(small(n, "broken.jsonl", output={"uri": f"pvc://models/{n[-1]}"}) for n in LONG_NAMES))


@pytest.mark.parametrize("name", JOBS)
def test_bad_data_and_models_fail_with_a_sentence(anneal: Anneal, name: str) -> None:
    ended = anneal.wait("FineTuneJob", name, is_over, 300)
    assert is_true(ended, "Failed")
    assert is_true(ended, "Stalled")
    message = ended["status"]["message"]
    assert all(word in message for word in JOBS[name][1]), message
    pods = anneal.list("pods", "-l", f"anneal.dev/owner-uid={ended['metadata']['uid']}")
    assert len({p["metadata"]["name"] for p in pods if p["metadata"]["labels"]["anneal.dev/role"] != "fit"}) == 1


def test_a_claim_that_does_not_exist_is_waited_for(anneal: Anneal) -> None:
    anneal.apply(job("no-claim", "pvc://no-such-claim/rows.jsonl"))
    seen = anneal.wait("FineTuneJob", "no-claim", lambda o: bool(o.get("status", {}).get("reason")), 60)
    seen = anneal.wait("FineTuneJob", "no-claim", lambda o: o["status"]["reason"] == "ClaimNotFound", 30)
    assert "'no-such-claim'" in seen["status"]["message"]
    assert "spec.dataset.sources" in seen["status"]["message"]
    assert not is_true(seen, "Failed")


def test_a_learning_rate_of_letters_is_refused_at_once(anneal: Anneal) -> None:
    obj = job("letters", "pvc://hub/bad/good.jsonl", training={"learningRate": "abc"})
    done = anneal.kubernetes.try_kubectl("-n", anneal.namespace, "apply", "-f", "-", stdin=json.dumps(obj))
    assert done.returncode != 0
    assert 'spec.training.learningRate: Invalid value: "abc": must be a decimal number in quotes' in done.stderr


def test_an_evaluation_of_a_failed_job_fails_and_of_a_missing_one_waits(anneal: Anneal) -> None:
    anneal.apply(evaluation("of-failed", "broken-json"), evaluation("of-missing", "no-such-job"))
    failed = anneal.wait("Evaluation", "of-failed", lambda o: is_true(o, "Failed"), 300)
    assert "line 17" in failed["status"]["message"]
    waiting = anneal.wait("Evaluation", "of-missing", lambda o: bool(o.get("status", {}).get("reason")), 60)
    assert waiting["status"]["reason"] == "CandidateNotFound"
    assert "no-such-job" in waiting["status"]["message"]


@pytest.fixture(scope="module")
def unjudgeable(anneal: Anneal) -> Object:
    """A complete job that kept no rows for judging."""
    done = anneal.wait("FineTuneJob", "no-rows", is_over, 300)
    assert is_true(done, "Complete")
    return done


def test_an_evaluation_without_held_out_rows_says_what_to_do(anneal: Anneal, unjudgeable: Object) -> None:
    anneal.apply(evaluation("no-rows", "no-rows"))
    failed = anneal.wait("Evaluation", "no-rows", lambda o: is_true(o, "Failed"), 120)
    assert failed["status"]["reason"] == "HeldOutEmpty"
    assert "spec.dataset.split.heldOut" in failed["status"]["message"]


def test_a_deployment_refuses_what_was_not_proven(anneal: Anneal, unjudgeable: Object) -> None:
    """The evaluation of the sample chain is for another digest."""
    anneal.apply(deployment("unproven", "no-rows", "intents-v1"))
    refused = anneal.wait("ModelDeployment", "unproven", lambda o: bool(o.get("status", {}).get("gate")), 60)
    assert refused["status"]["gate"] in ("Refused", "Waiting")
    assert not is_true(refused, "GatePassed")
    assert refused["status"]["reason"] == "DigestMismatch"
    assert anneal.list("deployments", "-l", f"anneal.dev/owner-uid={refused['metadata']['uid']}") == []


def test_an_artifact_changed_after_publishing_is_never_served(anneal: Anneal, unjudgeable: Object) -> None:
    """Skipping the gate, openly, does not skip the digest."""
    folder = unjudgeable["status"]["artifact"]["uri"].removeprefix("pvc://models/")
    anneal.run("tamper", "models", ["sh", "-ec", f"printf x >> /claim/{folder}/adapter_model.safetensors"])
    anneal.apply(deployment("tampered", "no-rows", "intents-v1", gate={"evaluationRef": None, "skip": True}))
    given_up = anneal.wait("ModelDeployment", "tampered", lambda o: is_true(o, "Stalled"), 180)
    assert given_up["status"]["gate"] == "Skipped"
    assert "adapter_model.safetensors" in given_up["status"]["message"]
    assert "changed after it was published" in given_up["status"]["message"]


def test_names_of_253_characters_work_side_by_side(anneal: Anneal) -> None:
    for name in LONG_NAMES:
        ended = anneal.wait("FineTuneJob", name, lambda o: is_true(o, "Failed"), 180)
        assert "line 17" in ended["status"]["message"]


def test_the_hub_is_untouched(anneal: Anneal) -> None:
    listed = anneal.run("look", "hub", ["sh", "-c", "ls /claim/bad /claim/smollm2-135m-instruct"])
    assert "model.safetensors" in listed
    assert "broken.jsonl" in listed
    assert MODEL.endswith("smollm2-135m-instruct")
