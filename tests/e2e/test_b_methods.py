"""Methods, tables and written rows beyond the sample's: a base so small that many jobs train side by side."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.e2e import outside
from tests.e2e.conftest import Anneal, Object, is_over
from tests.e2e.samples import animal_questions, animal_rows, job
from tests.support.tiny_model import write_base

from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e

TINY = {"uri": "pvc://hub/tiny"}
ROWS = "pvc://hub/methods/rows.jsonl"
SMALL = {"cpu": "100m", "memory": "1500Mi"}
SHORT = {"maxSteps": 6, "tokensPerStep": 512, "maxLength": 128, "learningRate": "1e-3"}
PRICE = {"inputPerMillion": "1000", "outputPerMillion": "10000"}
HELD_OUT = [{"prompt": f"What does the fox say on day {day}?", "response": "nothing"} for day in range(6)]


def table() -> str:
    """The questions as a user's table, under headings of the user's own."""
    text = io.StringIO()
    csv.writer(text).writerows([("question", "sound"), *animal_questions()])
    return text.getvalue()


def small(name: str, **spec: object) -> Object:
    return job(name, ROWS, **{"model": TINY, "training": SHORT, "resources": SMALL, **spec})


def full(name: str, **spec: object) -> Object:
    """Every weight, from a table."""
    columns = {"prompt": "question", "completion": "sound"}
    source = {"uri": "pvc://hub/methods/table.csv", "columns": columns}
    return small(name, lora=None, full={}, dataset={"sources": [source]}, **spec)


def hosted(anneal: Anneal, protocol: str, model: str) -> Object:
    return {**outside.hosted(protocol, model, PRICE, f"{outside.NAME}.{anneal.namespace}.svc"), "maxTokens": 100}


def jobs(anneal: Anneal) -> dict[str, Object]:
    """One job for each way that is told apart below."""
    augmentation = {
        "generator": hosted(anneal, "openAI", "gpt-5"),
        "validator": hosted(anneal, "anthropic", "claude-sonnet-4"),
        "rows": 9,
        "maxCost": "10",
    }
    validation = {"validation": {"fraction": "0.2", "everySteps": 1}, "earlyStopping": {"patience": 1, "minDelta": "9"}}
    return {
        "in-one-pod": full("in-one-pod"),
        "dealt-out": full(
            "dealt-out",
            planner={"strategy": "FSDP"},
            resources={**SMALL, "nodes": 2},
            workspace={"accessMode": "ReadWriteMany"},
        ),
        "quantised": small(
            "quantised",
            lora=None,
            qlora={"rank": 4},
            training={**SHORT, **validation},
            dataset={"split": {"heldOut": None, "heldOutSource": {"uri": "pvc://hub/methods/held-out.jsonl"}}},
            output={"merge": True},
        ),
        "written": small("written", lora={"dora": True}, dataset={"augmentation": augmentation}),
    }


def begin(anneal: Anneal) -> None:
    """All jobs at once."""
    with TemporaryDirectory() as base:
        write_base(Path(base))
        anneal.put("hub", {f"tiny/{file.name}": file.read_bytes() for file in Path(base).iterdir()})
    held_out = "\n".join(map(json.dumps, HELD_OUT))
    texts = {"rows.jsonl": animal_rows("prompt"), "table.csv": table(), "held-out.jsonl": held_out}
    anneal.put("hub", {f"methods/{name}": text for name, text in texts.items()})
    anneal.apply(*jobs(anneal).values())


@pytest.fixture(scope="module")
def trained(anneal: Anneal) -> dict[str, Object]:
    """Status of all jobs, complete."""
    ended = {name: anneal.wait("FineTuneJob", name, is_over, 400) for name in jobs(anneal)}
    assert {name: obj["status"]["message"] for name, obj in ended.items() if not is_true(obj, "Complete")} == {}
    return {name: obj["status"] for name, obj in ended.items()}


def test_weights_that_are_dealt_out_over_pods_learn_what_one_pod_learns(trained: dict[str, Object]) -> None:
    alone, dealt_out = trained["in-one-pod"], trained["dealt-out"]
    assert dealt_out["estimate"]["strategy"] == "FSDP"
    assert float(dealt_out["training"]["loss"]) == pytest.approx(float(alone["training"]["loss"]), rel=1e-3)
    assert dealt_out["training"]["tokens"] == alone["training"]["tokens"]
    assert [s["artifact"]["contents"] for s in (alone, dealt_out)] == ["Model", "Model"]


def test_a_table_is_read_by_the_headings_that_the_user_names(trained: dict[str, Object]) -> None:
    (found,) = trained["in-one-pod"]["dataset"]["sources"]
    assert "CSV" in found["detected"]
    assert found["rows"] == len(animal_questions())


def test_a_base_in_four_bits_ends_early_and_is_published_whole(trained: dict[str, Object]) -> None:
    status = trained["quantised"]
    assert status["artifact"]["contents"] == "Model"
    assert status["artifact"]["heldOutCount"] == len(HELD_OUT)
    assert status["training"]["steps"] == 2, "nothing is a gain of 9"
    assert status["training"]["bestStep"] in (1, 2)
    assert any("parameters are in 4 bits" in remark for remark in status["training"]["remarks"])


def test_rows_that_a_hosted_model_wrote_are_trained_on_and_told(trained: dict[str, Object]) -> None:
    made = trained["written"]["dataset"]["augmentation"]
    assert (made["generator"], made["validator"]) == ("gpt-5", "claude-sonnet-4")
    assert made["accepted"] == 9
    assert made["ended"] == "Enough"
    assert float(made["cost"]) > 0
