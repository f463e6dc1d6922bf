"""A metric that a container of the user's computes, in the real order of a real kubelet."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import Anneal, Object
from tests.e2e.samples import animal_rows, evaluation
from tests.e2e.test_b_formats_and_rollover import training

from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e

#: Equal to the metric exactMatch; and it looks whether it was left anything that it should not have.
PROGRAM = """
import json, os, pathlib, sys
found = [p for p in ("/etc/anneal", "/claims", "/var/run/anneal", "/var/run/secrets") if pathlib.Path(p).exists()]
if found or list(pathlib.Path("/tmp").iterdir()):
    sys.exit(f"not alone: {found} {os.listdir('/tmp')}")
with open(os.environ["ANNEAL_ANSWERS"]) as answers, open(os.environ["ANNEAL_SCORES"], "w") as scores:
    for item in map(json.loads, answers):
        right = item["answer"].strip() == item["reference"].strip()
        print(json.dumps({"id": item["id"], "score": int(right)}), file=scores)
"""
SENSELESS = """
import json, os
with open(os.environ["ANNEAL_ANSWERS"]) as answers, open(os.environ["ANNEAL_SCORES"], "w") as scores:
    for item in map(json.loads, answers):
        print(json.dumps({"id": item["id"], "score": float("nan")}), file=scores)
"""
ENDS = {
    "plugin-nan": (SENSELESS, 600, "PluginScoresInvalid", "wrote the score nan in line 1"),
    "plugin-fails": ("raise SystemExit('no such lexicon')", 600, "PluginFailed", "no such lexicon"),
    "plugin-late": ("import time; time.sleep(600)", 3, "PluginTimedOut", "was not done after 3 s"),
}


def scored_by(anneal: Anneal, name: str, program: str, seconds: int) -> Object:
    """An Evaluation of a candidate with ten held-out rows by exact match and by that program."""
    plugin = {
        "image": anneal.target.images["evaluator"],
        "command": ["python", "-c", program],
        "values": "Binary",
        "memory": "128Mi",
        "timeoutSeconds": seconds,
    }
    metrics = [{"name": "accuracy", "exactMatch": {}}, {"name": "mine", "plugin": plugin}]
    gates = [{"metric": "mine", "absolute": {"minLowerBound": "0"}}]
    return evaluation(name, "animals-messages", baselines=[], metrics=metrics, gates=gates)


@pytest.fixture(scope="module")
def candidate(anneal: Anneal) -> None:
    anneal.put("hub", {"animals/messages.jsonl": animal_rows("messages")})
    anneal.apply(training(anneal, "messages"))
    anneal.wait("FineTuneJob", "animals-messages", lambda o: is_true(o, "Complete"), 400)


def ended(anneal: Anneal, name: str) -> Object:
    return anneal.wait("Evaluation", name, lambda o: is_true(o, "Complete") or is_true(o, "Failed"), 300)


def test_a_plugin_scores_as_the_metric_it_repeats(anneal: Anneal, candidate: None) -> None:
    anneal.apply(scored_by(anneal, "plugin-good", PROGRAM, 600))
    status = ended(anneal, "plugin-good")["status"]
    assert status.get("verdict") == "Passed", status["message"]
    built_in, mine = status["results"]
    assert {**mine, "metric": "accuracy"} == built_in


def test_a_plugin_that_gives_no_scores_ends_in_a_sentence(anneal: Anneal, candidate: None) -> None:
    for name, (program, seconds, *_) in ENDS.items():
        anneal.apply(scored_by(anneal, name, program, seconds))
    for name, (_, _, reason, sentence) in ENDS.items():
        status = ended(anneal, name)["status"]
        assert status["reason"] == reason, status["message"]
        assert sentence in status["message"]
        assert "verdict" not in status
