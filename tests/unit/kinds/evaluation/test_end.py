"""The end of an Evaluation: what its status holds, that it is final, and what becomes of its children."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import as_stored, digest, evaluation
from tests.unit.kinds.evaluation.cases import CASES
from tests.unit.kinds.evaluation.objects import (
    ABSOLUTE,
    DONE,
    HOSTED,
    INCUMBENT,
    PRICE,
    RECORDED,
    REPORT,
    SERVING,
    at,
    judged_by,
    running,
    succeeded,
    told,
    with_incumbent,
)
from tests.unit.kinds.scenes import FACTS, NOW, ago, ended, live, pod, terminated

from anneal.api.runs import EvaluateRun, ProgressReport, ServeRun, parse_run
from anneal.kinds.contract import Delete, Listing, Object, Plan, Reference, Seen
from anneal.kinds.evaluation import KIND_ROW
from anneal.kinds.evaluation.plan import plan, references

Json = dict[str, Any]

FREE = {"openAI": {"baseUrl": "http://vllm:8000/v1", "model": "qwen"}}


def finished(case: str, *children: Object, since: float = 0, generation: int = 1, **spec: Any) -> Seen:
    """An Evaluation that ended like that case, so long ago."""
    status = {**plan(CASES[case].seen, NOW).status, "completionTime": ago(since)}
    obj = as_stored(evaluation(**spec), generation=generation, **status)
    return Seen(obj=obj, children=children, found={}, facts=FACTS)


def children(**job_status: Any) -> list[Json]:
    return [live(o, uid=f"uid-of-{o['kind'].lower()}", **job_status) for o in plan(at(RECORDED), NOW).apply]


def deleted(decided: Plan) -> list[tuple[str, str]]:
    return [(d.kind, d.uid) for d in decided.delete]


def test_status_has_every_number_under_its_name() -> None:
    status = plan(CASES["all gates pass"].seen, NOW).status
    assert (status["verdict"], status["score"], status["percent"]) == ("Passed", "0.97", 100)
    tokens = {"inputTokens": 9000, "outputTokens": 900}
    assert status["models"] == [
        {
            "name": "candidate",
            "digest": digest("intents-v1"),
            "n": 150,
            "epochs": 1,
            "errors": 1,
            "truncated": 1,
            **tokens,
        },
        {"name": "base", "digest": digest("base"), "n": 150, "epochs": 1, "errors": 0, "truncated": 0, **tokens},
    ]
    assert [(r["metric"], r["model"], r["value"]) for r in status["results"]] == [
        ("accuracy", "candidate", "0.97"),
        ("accuracy", "base", "0.01"),
    ]
    [comparison] = status["comparisons"]
    assert (comparison["baseline"], comparison["delta"], comparison["mde"]) == ("base", "0.96", "0.05")
    assert "rowsNeeded" not in status["gates"][0]
    absolute, superiority = status["gates"]
    assert (absolute["gate"], absolute["required"], absolute["outcome"]) == ("accuracy absolute", ">= 0.85", "Passed")
    assert superiority["message"] == (
        "accuracy superiority over base passed: difference 0.96 (95% interval 0.92 to 0.99), demanded > 0.20."
    )
    assert (status["reportUri"], status["reportDigest"]) == (REPORT, digest("report"))


def test_what_the_incumbent_serves_now_is_recorded_and_stays() -> None:
    found = references(with_incumbent(SERVING).obj, {})
    assert found >= {Reference("FineTuneJob", "intents-v1"), Reference("ModelDeployment", "intents")}
    recorded = plan(with_incumbent(SERVING), NOW).status
    champion = {
        "name": "champion",
        "uri": "pvc://models/r2/x",
        "digest": digest("r2"),
        "baseUri": "pvc://hub2/base",
        "baseDigest": digest("base"),
    }
    assert recorded["incumbents"] == [champion]
    spec = {"baselines": [INCUMBENT], "gates": [ABSOLUTE]}
    later = at(dict(recorded), spec=spec, claims=["hub", "hub2", "models"])
    assert Reference("ModelDeployment", "intents") not in references(later.obj, {})
    decided = plan(later, NOW)
    assert decided.status["incumbents"] == [champion]
    serve = parse_run(decided.apply[0]["data"]["serve.json"])
    run = parse_run(decided.apply[0]["data"]["run.json"])
    assert isinstance(serve, ServeRun)
    assert isinstance(run, EvaluateRun)
    _, served = serve.models
    assert served.adapter is not None
    assert (served.name, served.adapter.path, served.adapter_digest) == (
        "champion",
        "/claims/models/r2/x",
        digest("r2"),
    )
    assert (run.digest_of(0), run.digest_of(1)) == (digest("intents-v1"), digest("r2"))
    claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes(decided) if "persistentVolumeClaim" in v}
    assert claims == {"hub", "hub2", "models"}
    rows = [(150, 0, 0, 0, 0, 9000, 900, "", "")] * 2
    found = told(models=rows, comparisons=[], results=[], gates=[("Passed", "0.97", "0.93", "0.99", None)])
    end = running(
        pod("Succeeded", containers=[terminated(0, found, name="evaluate")]),
        job_status=ended("Complete"),
        spec=spec,
        status={**RECORDED, "incumbents": [champion]},
    )
    assert [m["digest"] for m in plan(end, NOW).status["models"]] == [digest("intents-v1"), digest("r2")]


def volumes(decided: Plan) -> list[Json]:
    template = decided.apply[1]["spec"]["template"]["spec"]
    return list(template["volumes"])


def test_the_base_stands_in_for_an_incumbent_that_serves_nothing_yet() -> None:
    recorded = plan(with_incumbent({}), NOW).status
    assert recorded["incumbents"] == [{"name": "champion", "baseUri": "pvc://hub/base", "baseDigest": digest("base")}]
    later = at(dict(recorded), spec={"baselines": [INCUMBENT], "gates": [ABSOLUTE]})
    serve = parse_run(plan(later, NOW).apply[0]["data"]["serve.json"])
    assert isinstance(serve, ServeRun)
    assert (serve.models[1].name, serve.models[1].adapter, serve.models[1].base_digest) == (
        "champion",
        None,
        digest("base"),
    )


@pytest.mark.parametrize(
    ("tokens", "expected", "sentence"),
    [
        ((60_000, 15_000), 1667, "from 1667 queries an hour on, the candidate costs less"),
        ((0, 0), None, "gpt costs nothing, so serving the candidate never costs less"),
    ],
)
def test_status_tells_from_when_on_the_candidate_costs_less(
    tokens: tuple[int, int], expected: int | None, sentence: str
) -> None:
    """150 queries of 60,000 tokens at 1.25 and 15,000 at 10 a million cost 0.225: 0.0015 each."""
    baselines = [{**HOSTED, "hosted": {**HOSTED["hosted"], "price": PRICE}}]
    rows = [(150, 0, 0, 0, 0, 1, 1, "", ""), (150, 0, 0, 0, 0, *tokens, "0.225000", "")]
    found = told(models=rows, comparisons=[], results=[], gates=[("Passed", "0.97", "0.93", "0.99", None)])
    spec = {"baselines": baselines, "gates": [ABSOLUTE]}
    assert "costBenefit" not in plan(succeeded(found, spec=spec), NOW).status
    status = plan(succeeded(found, spec={**spec, "servingCostPerHour": "2.5"}), NOW).status
    (benefit,) = status["costBenefit"]
    assert (benefit["baseline"], benefit.get("breakEvenPerHour")) == ("gpt", expected)
    assert sentence in benefit["message"]


def test_status_tells_what_was_spent_and_when_it_is_paid_back() -> None:
    """300 queries an hour and training for 3.20: a server for 0.25 an hour saves 0.20 of what gpt would take."""
    baselines = [{**HOSTED, "hosted": {**HOSTED["hosted"], "price": PRICE}}]
    rows = [(150, 0, 0, 0, 0, 1, 1, "", ""), (150, 0, 0, 0, 0, 60_000, 15_000, "0.225000", "")]
    gates = [("Passed", "0.97", "0.93", "0.99", None)]
    found = told(models=rows, comparisons=[], results=[], gates=gates, queries_per_hour=300)
    spec = {"baselines": baselines, "gates": [ABSOLUTE], "servingCostPerHour": "0.25"}
    seen = succeeded(found, spec=spec, status={**RECORDED, "trainingCost": "3.20 USD"})
    status = plan(seen, NOW).status
    assert status["costs"] == {
        "training": "3.200000",
        "evaluation": "0.225000",
        "invested": "3.425000",
        "queriesPerHour": 300,
        "perQuery": "0.000833",
    }
    (benefit,) = status["costBenefit"]
    assert (benefit["perQuery"], benefit["savedPerHour"], benefit["paybackHours"]) == ("0.001500", "0.200000", "17.1")


def test_status_tells_of_the_judge() -> None:
    rows = [(150, 0, 0, 0, 0, 1, 1, "", ""), (150, 0, 0, 0, 0, 1, 1, "0.500000", "")]
    found = told(
        models=rows,
        comparisons=[],
        results=[],
        gates=[("Passed", "0.97", "0.93", "0.99", None)],
        judge=(300, 2, "0.250000", "-2506"),
        judged=[(0, 300, 2, "0.8500", "0.3000", "", 40, "0.9000", "0.7500", "0.9500", "0.8800", "1.0000")],
    )
    spec = {"baselines": [HOSTED], **judged_by("mistral-large")}
    status = plan(succeeded(found, spec=spec), NOW).status
    shown = {"metric": "accuracy", "n": 300, "errors": 2, "swapConsistency": "0.8500", "ties": "0.3000"}
    shown |= {"labels": 40, "agreement": "0.9000", "kappa": "0.7500"}
    shown |= {"corrected": {"value": "0.9500", "lower": "0.8800", "upper": "1.0000"}}
    assert status["judge"] == {
        "model": "mistral-large-2506",
        "n": 300,
        "errors": 2,
        "cost": "0.250000",
        "metrics": [shown],
    }
    assert status["cost"] == "0.750000"


def test_status_tells_of_the_guard() -> None:
    found = told(
        models=[(150, 0, 0, 0, 0, 1, 1, "", "")],
        comparisons=[],
        results=[],
        gates=[("Passed", "0.97", "0.93", "0.99", None)],
        guard=(150, 1, "0.010000", ""),
        hazards=[("S2", 3), ("S10", 1)],
    )
    guard = {"llamaGuard": {}, "openAI": {"model": "llama-guard-3-8b"}}
    metrics = [{"name": "accuracy", "guard": {}}]
    status = plan(
        succeeded(found, spec={"metrics": metrics, "guard": guard, "gates": [ABSOLUTE], "baselines": []}), NOW
    )
    assert status.status["guard"] == {
        "model": "llama-guard-3-8b",
        "n": 150,
        "errors": 1,
        "cost": "0.010000",
        "categories": [{"category": "S2", "answers": 3}, {"category": "S10", "answers": 1}],
    }
    assert status.status["cost"] == "0.010000"


def test_status_tells_what_hosted_models_cost_and_who_answered() -> None:
    baselines = [{**HOSTED, "hosted": {**HOSTED["hosted"], "price": PRICE}}, {"name": "free", "hosted": FREE}]
    rows = [
        (150, 0, 0, 0, 0, 9000, 900, "", ""),
        (150, 3, 1, 1, 1, 60_000, 15_000, "0.225000", "-2025-08-07"),
        (150, 0, 0, 0, 0, 60_000, 900, "", ""),
    ]
    found = told(models=rows, comparisons=[], results=[], gates=[("Passed", "0.97", "0.93", "0.99", None)])
    status = plan(succeeded(found, spec={"baselines": baselines, "gates": [ABSOLUTE]}), NOW).status
    assert status["cost"] == "0.225000"
    candidate, gpt, free = status["models"]
    assert "cost" not in candidate
    assert "declined" not in candidate
    assert gpt == {
        "name": "gpt",
        "model": "gpt-5-2025-08-07",
        "n": 150,
        "epochs": 1,
        "errors": 3,
        "truncated": 1,
        "declined": 1,
        "empty": 1,
        "inputTokens": 60_000,
        "outputTokens": 15_000,
        "cost": "0.225000",
        "costPerQuery": "0.001500",
    }
    assert (free["model"], "cost" in free, "costPerQuery" in free) == ("qwen", False, False)


def test_a_score_that_was_not_told_is_not_made_up() -> None:
    assert "score" not in plan(succeeded(told(results=[])), NOW).status


@pytest.mark.parametrize("case", ["all gates pass", "a gate fails", "the server keeps failing", "the candidate failed"])
def test_finished_is_final(case: str) -> None:
    given = finished(case, *children(**ended("Complete")))
    decided = plan(given, NOW)
    assert (decided.apply, decided.delete, decided.requeue_after) == ((), (), None)
    assert decided.status == given.status


def test_a_later_edit_is_observed_and_changes_nothing_else() -> None:
    decided = plan(finished("all gates pass", generation=2), NOW)
    assert decided.status["observedGeneration"] == 2
    assert {c["observedGeneration"] for c in decided.status["conditions"]} == {2}
    assert decided.status["verdict"] == "Passed"


def test_a_pod_is_ended_once_the_failure_is_recorded() -> None:
    [config_map, job] = children()
    decided = plan(finished("the server keeps failing", config_map, job), NOW)
    assert decided.delete == (Delete("batch/v1", "Job", job["metadata"]["name"], "uid-of-job"),)


def test_children_go_when_their_time_is_over() -> None:
    made = children(**ended("Complete"))
    soon = plan(finished("all gates pass", *made, since=50, ttlSecondsAfterFinished=60), NOW)
    assert (deleted(soon), soon.requeue_after) == ([], 10.0)
    due = plan(finished("all gates pass", *made, since=60, ttlSecondsAfterFinished=60), NOW)
    assert deleted(due) == [("Job", "uid-of-job"), ("ConfigMap", "uid-of-configmap")]
    assert due.requeue_after is None


def test_progress_reaches_status_and_outlives_a_change_of_leader() -> None:
    reported = plan(running(pod("Running"), progress=ProgressReport(percent=40)), NOW)
    assert reported.status["percent"] == 40
    silent = plan(running(pod("Running"), status={**RECORDED, "percent": 40}), NOW)
    assert silent.status["percent"] == 40
    assert "percent" not in plan(running(pod("Running")), NOW).status


def test_the_candidate_is_recorded_with_the_start_that_freezes_the_spec() -> None:
    status = plan(at({}, job=DONE), NOW).status
    assert {f: status[f] for f in RECORDED} == {**RECORDED, "startTime": ago(0)}


def test_what_training_cost_is_recorded_and_told_to_the_evaluator() -> None:
    paid = {**DONE, "status": {**DONE["status"], "usage": {"cost": "3.20 USD"}}}
    assert plan(at({}, job=paid), NOW).status["trainingCost"] == "3.20 USD"
    assert "trainingCost" not in plan(at({}, job=DONE), NOW).status
    run = parse_run(plan(at({**RECORDED, "trainingCost": "3.20 USD"}), NOW).apply[0]["data"]["run.json"])
    assert isinstance(run, EvaluateRun)
    assert run.artifact is not None
    assert (run.training_cost, run.artifact.uri) == ("3.20 USD", RECORDED["subjectUri"])


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    decided = plan(at({"percent": 400}, job=DONE), NOW)
    assert decided.status["subjectDigest"] == digest("intents-v1")


def test_what_is_looked_at() -> None:
    claims = {Reference("PersistentVolumeClaim", "hub"), Reference("PersistentVolumeClaim", "models")}
    assert references(at({}).obj, {}) == {Reference("FineTuneJob", "intents-v1"), Listing("Evaluation")}
    assert references(at(RECORDED).obj, {}) == claims
    assert references(finished("all gates pass").obj, {}) == frozenset()
    assert references(CASES["a gate has no test"].seen.obj, {}) == frozenset()


def test_the_row_lists_what_results_are_read_from() -> None:
    assert KIND_ROW.info.kind == "Evaluation"
    assert ("v1", "Pod") in KIND_ROW.owns
