"""Held-out rows wear out by use: uses are counted, and sealed rows judge a candidate once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.builders import digest
from tests.unit.kinds.evaluation.custody_cases import CASES, SEALED, STARTED, Case
from tests.unit.kinds.evaluation.objects import at
from tests.unit.kinds.scenes import NOW

from anneal.api.conditions import find
from anneal.api.evaluation import Evaluation
from anneal.api.runs import EvaluateRun, parse_run
from anneal.kinds.contract import Listing, Reference
from anneal.kinds.evaluation.plan import plan, references
from anneal.kinds.evaluation.reasons import Reason


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_uses_are_counted_and_a_second_look_at_sealed_rows_is_refused(case: Case) -> None:
    status = case.decided.status
    assert Evaluation.model_validate({"spec": case.seen.obj["spec"], "status": status}).status
    if case.uses == 0:
        assert (status["phase"], status["reason"], case.decided.apply) == ("Failed", Reason.SEALED_ROWS_USED, ())
        assert status["message"] == (
            "Evaluation 'a' judges this candidate by the sealed rows pvc://vault/sealed.jsonl already, and they judge a"
            " candidate once: go by its verdict, or judge by other rows (spec.sealed)."
        )
        return
    assert status["datasetUses"] == case.uses
    worn = find(status, "Worn") or {}
    assert worn["status"] == ("True" if case.uses >= 5 else "False")
    assert worn["reason"] == (Reason.HELD_OUT_WORN if case.uses >= 5 else Reason.HELD_OUT_FRESH)
    assert f"Use {case.uses} of" in worn["message"]


def test_what_was_counted_stays_whoever_comes_later() -> None:
    first = CASES["the first"]
    later = at(dict(first.decided.status))
    assert plan(later, NOW).status["datasetUses"] == 1


def test_sealed_rows_are_asked_instead_of_those_that_were_held_out() -> None:
    recorded = CASES["sealed, and nobody looked"].decided.status
    assert (recorded["heldOutUri"], recorded["datasetDigest"]) == (SEALED["uri"], digest("sealed"))
    assert "heldOutCount" not in recorded
    assert (find(recorded, "UnderPowered") or {})["status"] == "Unknown"
    config_map, job = CASES["sealed, both started at once, this one is first"].decided.apply
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert (run.held_out.uri, run.held_out.path) == (SEALED["uri"], "/claims/vault/sealed.jsonl")
    assert run.held_out_digest == digest("sealed")
    pod = job["spec"]["template"]["spec"]
    (evaluator,) = pod["containers"]
    assert "/claims/vault" in {m["mountPath"] for m in evaluator["volumeMounts"] if m.get("readOnly")}


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        (None, False),
        ([], False),
        ([{"digest": digest("others"), "rows": 9, "leaks": 0}], False),
        (
            [{"digest": digest("others"), "rows": 9, "leaks": 0}, {"digest": digest("sealed"), "rows": 5, "leaks": 2}],
            True,
        ),
    ],
)
def test_it_is_recorded_whether_training_rows_were_compared_with_the_sealed_file(
    compared: list[dict[str, Any]] | None, said: bool
) -> None:
    """By digest: another file under the same name was not compared."""
    recorded = Case([], 1, sealed=SEALED, compared=compared).decided.status
    assert recorded["heldOutCompared"] is said
    started = replace(
        CASES["sealed, both started at once, this one is first"], status={**STARTED, "heldOutCompared": said}
    )
    config_map, _ = started.decided.apply
    run = parse_run(config_map["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.held_out_compared is said
    assert "heldOutCompared" not in CASES["the first"].decided.status


def test_others_are_looked_at_until_the_start_and_for_sealed_rows_to_the_end() -> None:
    every = Listing("Evaluation")
    assert every in references(CASES["the first"].seen.obj, {})
    assert every not in references(at(STARTED).obj, {})
    sealed = references(at(STARTED, spec={"sealed": SEALED}).obj, {})
    assert {every, Reference("PersistentVolumeClaim", "vault")} <= sealed
