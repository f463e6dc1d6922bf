"""The demo without a cluster: what prepare makes of its rows, and what its training takes beside the estimate.

Figures go to build/bench/demo.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import REPOSITORY
from tests.support.bases import DEMO_ROWS
from tests.trainer.job import Job, environment

from anneal.api.dataset import Deduplication
from anneal.api.finetunejob import FineTuneJobSpec
from anneal.api.runs import parse_result
from anneal.kinds.contract import Planning
from anneal.kinds.finetunejob.estimate import estimated

pytestmark = pytest.mark.performance

BENCH = REPOSITORY / "build" / "bench"
SAMPLE = REPOSITORY / "manifests" / "samples" / "finetunejob.yaml"


def job(root: Path, **settings: Any) -> Job:
    """The sample, with its claims as folders below `root`."""
    spec = FineTuneJobSpec.model_validate(yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["spec"])
    return Job(
        BENCH / "hub" / "smollm2-135m-instruct",
        root,
        content=(BENCH / "hub" / "intents.jsonl").read_bytes(),
        split=spec.dataset.split,
        training=spec.training,
        method=spec.method,
        **settings,
    )


def report(name: str, figures: Any) -> None:
    out = BENCH / "demo.json"
    known = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps({**known, name: figures}, indent=2, sort_keys=True) + "\n")
    print(f"  {name}: {figures}")


@pytest.mark.parametrize(
    ("near", "trained_on", "left_out"),
    [("Ignore", 599, {"Leak": 1}), ("Group", 600, {}), ("Drop", 599, {"NearDuplicate": 1})],
)
def test_near_duplicates(tmp_path: Path, near: Any, trained_on: int, left_out: dict[str, int]) -> None:
    found = job(tmp_path, deduplication=Deduplication(near=near)).prepared().dataset
    gone = {each.reason: each.rows for each in found.left_out or []}
    report(f"near.{near}", {"counts": found.counts.to_json(), "leftOut": gone})
    assert (found.counts.train, found.counts.held_out, gone) == (trained_on, 150, left_out)


def test_training_takes_what_is_estimated(tmp_path: Path) -> None:
    sample = job(tmp_path)
    prepared, end = sample.prepared(), tmp_path / "end"
    assert prepared.sizes is not None
    assert prepared.sizes.rows == DEMO_ROWS
    spec = FineTuneJobSpec.model_validate(yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["spec"])
    expected = estimated(spec, prepared.sizes, Planning()).memory.total_bytes
    run = environment(sample.document(sample.fit_run(prepared)), end) | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "anneal_trainer"], env=run, check=True, capture_output=True)
    fitted = parse_result(end.read_text()).fit
    assert fitted is not None
    report("training", {**fitted.training.to_json(), "estimatedBytes": expected})
    taken = fitted.training.peak_memory_bytes
    assert taken is not None
    assert 0.8 * expected < taken < expected
