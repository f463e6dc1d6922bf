"""A metric that a container of the user's computes, in the real order of a real kubelet."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import Anneal, Object, is_over
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
GOOD = "plugin-good"
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


def begin_after_animals(anneal: Anneal) -> None:
    programs = {GOOD: (PROGRAM, 600), **{name: end[:2] for name, end in ENDS.items()}}
    for name, (program, seconds) in programs.items():
        anneal.apply(scored_by(anneal, name, program, seconds))


@pytest.fixture(scope="module")
def ended(anneal: Anneal) -> dict[str, Object]:
    """Status of all Evaluations, judged side by side."""
    anneal.put("hub", {"animals/messages.jsonl": animal_rows("messages")})
    anneal.apply(training(anneal, "messages"))
    anneal.wait("FineTuneJob", "animals-messages", lambda o: is_true(o, "Complete"), 400)
    begin_after_animals(anneal)
    return {name: anneal.wait("Evaluation", name, is_over, 300)["status"] for name in (GOOD, *ENDS)}


def test_a_plugin_scores_as_the_metric_it_repeats(ended: dict[str, Object]) -> None:
    status = ended[GOOD]
    assert status.get("verdict") == "Passed", status["message"]
    built_in, mine = status["results"]
    assert {**mine, "metric": "accuracy"} == built_in


@pytest.mark.parametrize("name", ENDS)
def test_a_plugin_that_gives_no_scores_ends_in_a_sentence(ended: dict[str, Object], name: str) -> None:
    *_, reason, sentence = ENDS[name]
    assert ended[name]["reason"] == reason, ended[name]["message"]
    assert sentence in ended[name]["message"]
    assert "verdict" not in ended[name]
